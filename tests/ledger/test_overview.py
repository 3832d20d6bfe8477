"""The dashboard's first page from the ledger: steps, sums, quality, and what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from router_gateway.core.errors import RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Feedback, Revocation
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.overview import STEPS_MAX, read_overview, steps_of
from tests.ledger.test_ledger import a_decision, a_query

NOON = datetime(2030, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def call(
    ledger: Ledger, at: datetime, endpoint: str, *said: float, status: int = 200, latency_ms: float = 100.0
) -> None:
    query = a_query()
    decision = a_decision(
        query,
        at=at,
        endpoint=endpoint,
        endpoints=("a", "b"),
        quality=(0.4, 0.8),
        stddev=(0.1, 0.1),
        cost_usd=(0.001, 0.004),
        probability=(0.5, 0.5),
        eligible=(True, endpoint == "b"),
    )
    ledger.record_decision(query, decision, requested_model="auto", embedding=None)
    ledger.record_attempt(
        Attempt(
            query_id=query.id, number=1, at=at, endpoint=endpoint, status=status, cost_nusd=7, latency_ms=latency_ms
        )
    )
    for quality in said:
        ledger.record_feedback(Feedback(id=uuid7(), query_id=query.id, at=at, quality=quality, source="user"))


@pytest.fixture
def engine(ledger: Ledger) -> Engine:
    call(ledger, NOON - 25 * HOUR, "a", 0.9)
    call(ledger, NOON + timedelta(minutes=1), "a", 0.0, 1.0)
    call(ledger, NOON + timedelta(minutes=2), "a", 0.5, latency_ms=400)
    call(ledger, NOON + timedelta(minutes=59), "b", status=503)
    call(ledger, NOON + HOUR, "b", 0.25, latency_ms=200)
    assert ledger.drain()
    return ledger.engine


def test_by_hour(engine: Engine) -> None:
    found = read_overview(engine, NOON + timedelta(minutes=30), NOON + 2 * HOUR, "hour")
    assert found.steps == (NOON, NOON + HOUR)
    a, b = found.cells["a"], found.cells["b"]
    assert [(c.requests, c.errors, c.cost_nusd, c.rated, c.quality) for c in a] == [
        (2, 0, 14, 2, 0.75),
        (0, 0, 0, 0, None),
    ]
    assert [(c.requests, c.errors, c.cost_nusd, c.rated, c.quality) for c in b] == [
        (1, 1, 7, 0, None),
        (1, 0, 7, 1, 0.25),
    ]
    assert a[0].latency_p50_ms == pytest.approx(100, rel=0.19)
    assert a[0].latency_p95_ms == pytest.approx(400, rel=0.19)
    assert (a[1].latency_p50_ms, b[0].latency_p50_ms) == (None, None), "a refusal is no answer"
    assert (found.total.requests, found.total.errors, found.total.cost_nusd) == (4, 1, 28)
    assert (found.total.rated, found.total.quality) == (3, pytest.approx(1.75 / 3))
    assert found.of_endpoint["b"].requests == 2


def test_by_day(engine: Engine) -> None:
    found = read_overview(engine, NOON - DAY - 2 * HOUR, NOON + DAY, "day")
    assert [at.date().isoformat() for at in found.steps] == ["2030-02-28", "2030-03-01", "2030-03-02"]
    assert [cell.requests for cell in found.cells["a"]] == [1, 2, 0]
    assert [cell.quality for cell in found.cells["a"]] == [0.9, 0.75, None]
    assert found.total.requests == 5


def test_what_was_expected_of_each_endpoint_where_it_could_have_gone(engine: Engine) -> None:
    found = read_overview(engine, NOON, NOON + DAY, "hour").expectations
    assert (found.decisions, found.quality, found.cost_usd) == (4, pytest.approx(0.6), pytest.approx(0.0025))
    assert [(of.endpoint, of.decisions, of.quality, of.cost_usd) for of in found.endpoints] == [
        ("a", 4, pytest.approx(0.4), pytest.approx(0.001)),
        ("b", 2, pytest.approx(0.8), pytest.approx(0.004)),
    ]


def test_what_was_taken_back_was_never_said(ledger: Ledger) -> None:
    call(ledger, NOON, "a")
    query = a_query()
    said = Feedback(id=uuid7(), query_id=query.id, at=NOON, quality=0.0, source="user")
    ledger.record_decision(query, a_decision(query, at=NOON), requested_model="auto", embedding=None)
    ledger.record_attempt(Attempt(query_id=query.id, number=1, at=NOON, endpoint="a", status=200, latency_ms=1.0))
    ledger.record_feedback(said)
    ledger.record_revocation(Revocation(id=said.id, at=NOON))
    assert ledger.drain()
    assert read_overview(ledger.engine, NOON, NOON + HOUR, "hour").total.rated == 0


def test_an_empty_ledger_has_steps_and_no_endpoint(ledger: Ledger) -> None:
    found = read_overview(ledger.engine, NOON, NOON + DAY, "hour")
    assert (len(found.steps), found.cells, found.total.requests) == (24, {}, 0)
    assert (found.expectations.decisions, found.expectations.quality) == (0, None)


def test_no_time_and_too_much_time_are_refused() -> None:
    for since, until, step, param in (
        (NOON, NOON, "hour", "until"),
        (NOON, NOON - HOUR, "day", "until"),
        (NOON, NOON + (STEPS_MAX + 1) * HOUR, "hour", "step"),
        (NOON, NOON + STEPS_MAX * DAY, "day", "step"),
    ):
        with pytest.raises(RequestError) as raised:
            steps_of(since, until, step)  # type: ignore[arg-type]
        assert raised.value.param == param
    assert len(steps_of(NOON, NOON + STEPS_MAX * HOUR, "hour")) == STEPS_MAX
