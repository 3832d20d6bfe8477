"""How endpoints fare and how well their answers were foretold, on SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt
from router_gateway.ledger.endpoint_rows import Foretold, foretold, recent
from router_gateway.ledger.onboarding_rows import OnboardingRows, Step
from router_gateway.ledger.reads import standing
from tests.ledger.test_learnable import NOON
from tests.ledger.test_lessons import answered, compare, decide, ledger, rate, take_back  # noqa: F401 - a fixture

SCORED = {"endpoints": ("a", "b"), "quality": (0.8, 0.4), "stddev": (0.1, 0.1), "cost_usd": (0.01, 0.001)}


def tried(ledger, *, seconds: int, **changes):  # noqa: F811
    at = NOON + timedelta(seconds=seconds)
    plain = Attempt(query_id=uuid7(), number=1, at=at, endpoint="a", status=200, latency_ms=1.0)
    ledger.record_attempt(replace(plain, **changes))


def test_only_the_newest_tries_of_the_time_count(ledger):  # noqa: F811
    for second in range(10):
        tried(ledger, seconds=second, latency_ms=float(second), first_byte_ms=float(second) / 2)
    tried(ledger, seconds=10, status=0, error="upstream_timeout", latency_ms=99.0)
    tried(ledger, seconds=11, status=0, error="client_closed", latency_ms=99.0)
    tried(ledger, seconds=12, status=503, latency_ms=99.0)
    tried(ledger, seconds=12, endpoint="b")
    assert ledger.drain()
    found = recent(ledger.engine, ["a", "b", "c"], since=NOON + timedelta(seconds=5), rows_max=100)
    assert (found["a"].attempts, found["b"].attempts, found["c"].attempts) == (8, 1, 0)
    assert found["a"].errors == {"upstream_timeout": 1, "other": 1}
    assert found["a"].error_rate == 2 / 8
    assert found["a"].latency_ms == (7.0, 9.0, 9.0)
    assert found["a"].first_byte_ms == (3.5, 4.5, 4.5)
    assert found["a"].oldest == NOON + timedelta(seconds=5)
    assert (found["c"].error_rate, found["c"].latency_ms, found["c"].oldest) == (None, None, None)
    few = recent(ledger.engine, ["a"], since=NOON, rows_max=4)["a"]
    assert (few.attempts, few.latency_ms) == (4, (9.0, 9.0, 9.0))


def test_the_last_word_of_a_scored_answer_meets_what_was_expected(ledger):  # noqa: F811
    first, second, taken = (answered(ledger, **SCORED) for _ in range(3))
    unscored = answered(ledger)
    unanswered = decide(ledger, **SCORED)
    rate(ledger, first, 0.0)
    rate(ledger, first, 1.0)
    rate(ledger, second, 0.5)
    rate(ledger, unscored, 0.1)
    take_back(ledger, rate(ledger, taken, 0.2))
    rate(ledger, unanswered, 0.3)
    assert ledger.drain()
    found = foretold(ledger.engine, rows_max=100)
    assert found == [Foretold("a", 0.8, 0.5), Foretold("a", 0.8, 1.0)]
    assert foretold(ledger.engine, rows_max=2) == []  # the newest two that stand speak of no scored answer


def test_what_was_taken_back_stands_no_longer(ledger):  # noqa: F811
    query_id = answered(ledger)
    kept, back, compared = rate(ledger, query_id), rate(ledger, query_id), compare(ledger, query_id, "a", "b")
    take_back(ledger, back)
    assert ledger.drain()
    assert standing(ledger.engine, [kept, back, compared, uuid7()]) == {kept, compared}


def test_steps_are_kept_in_order_and_never_twice(engine: Engine):
    rows, onboarding = OnboardingRows(engine), uuid7()

    def step(number: int, state: str, onboarding_id: UUID = onboarding, at=NOON) -> Step:
        return Step(
            onboarding_id=onboarding_id,
            number=number,
            endpoint="a",
            state=state,
            author="me",
            found={"n": number},
            at=at,
        )

    for each in (step(0, "running"), step(1, "running"), step(2, "done"), step(2, "failed")):
        rows.append(each)
    assert [(each.number, each.state, each.found) for each in rows.steps(onboarding)] == [
        (0, "running", {"n": 0}),
        (1, "running", {"n": 1}),
        (2, "done", {"n": 2}),
    ]
    assert not rows.stop_asked(onboarding)
    rows.append(step(-1, "stopping"))
    assert rows.stop_asked(onboarding)
    later = uuid7()
    rows.append(step(0, "running", later, NOON + timedelta(hours=1)))
    assert rows.newest(5) == [later, onboarding]
    assert rows.newest(1) == [later]
    with pytest.raises(Exception, match="no onboarding"):
        rows.steps(uuid7())
