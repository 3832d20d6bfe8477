"""Who is new, counted on SQLite and PostgreSQL."""

import pytest

from router_gateway.core.types import Revocation
from router_gateway.ledger.newcomers import NewcomerWatch, new_endpoints
from tests.ledger.test_learnable import NOON
from tests.ledger.test_lessons import answered, ledger, rate  # noqa: F401 - a fixture

LIMITS = {"outcomes_min": 2, "requests_max": 4}


def test_few_outcomes_and_few_calls_make_an_endpoint_new(ledger):  # noqa: F811
    def new():
        assert ledger.drain()
        return new_endpoints(ledger.engine, ["a", "other"], **LIMITS)

    assert new() == {"a", "other"}
    first, second = answered(ledger), answered(ledger)
    said = rate(ledger, first)
    rate(ledger, first, source="judge")  # two words of one answer are one outcome
    assert new() == {"a", "other"}
    rate(ledger, second)
    assert new() == {"other"}
    ledger.record_revocation(Revocation(id=said, at=NOON))
    assert new() == {"other"}  # the judge's word stands


def test_calls_without_feedback_do_not_go_on_for_ever(ledger):  # noqa: F811
    for _ in range(4):
        answered(ledger)
    assert ledger.drain()
    assert new_endpoints(ledger.engine, ["a"], **LIMITS) == set()
    assert new_endpoints(ledger.engine, ["a"], outcomes_min=2, requests_max=5) == {"a"}


def test_the_watch_counts_on_until_nobody_is_new(ledger):  # noqa: F811
    watch = NewcomerWatch(ledger.engine, ["a"], **LIMITS, refresh_s=0.01)
    watch.start()
    assert watch.names() == {"a"}
    for _ in range(4):
        answered(ledger)
    assert ledger.drain()
    watch._thread.join(10)
    assert not watch._thread.is_alive()
    assert watch.names() == frozenset()
    watch.close()


@pytest.mark.parametrize("database", ["sqlite:////nowhere/at/all.db"])
def test_an_unreadable_database_is_said_at_the_start(database):
    from router_gateway.core.errors import GatewayError
    from router_gateway.ledger.engine import open_engine

    engine = open_engine(database)
    watch = NewcomerWatch(engine, ["x"], **LIMITS, refresh_s=1)
    with pytest.raises(GatewayError):
        watch.start()
    watch.close()
    engine.dispose()
