from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router_gateway.core.ids import uuid7
from router_gateway.core.periods import Period
from router_gateway.core.types import Attempt, Decision, Query
from router_gateway.ledger import reservations
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.burn_down import past_periods, spent_so_far
from router_gateway.ledger.ledger import Ledger

NOW = datetime(2030, 5, 17, 12, 32, tzinfo=UTC)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def pay(ledger: Ledger, at: datetime, tenant: str, cost_nusd: int) -> None:
    query = Query(id=uuid7(), text="", tokens_input=1, tenant=tenant)
    decision = Decision(
        query_id=query.id, at=at, endpoint="a", order=("a",), propensity=1.0, worth_usd=0.1, reason="scored"
    )
    ledger.record_decision(query, decision, requested_model="auto", embedding=None)
    paid = Attempt(query_id=query.id, number=1, at=at, endpoint="a", status=200, latency_ms=1.0, cost_nusd=cost_nusd)
    ledger.record_attempt(paid)


def test_steps_add_up_to_what_attempts_cost_in_the_period(ledger: Ledger) -> None:
    for before, tenant, cost_nusd in (
        (timedelta(minutes=1), "acme", 1),
        (timedelta(minutes=20), "acme", 10),
        (timedelta(minutes=31), "bob", 100),
        (timedelta(hours=2), "acme", 1_000),
        (timedelta(hours=13), "acme", 10_000),
        (timedelta(days=16), "bob", 100_000),
        (timedelta(days=18), "acme", 1_000_000),
    ):
        pay(ledger, NOW - before, tenant, cost_nusd)
    assert ledger.drain()

    def spent(scope: str, subject: str, period: Period) -> list[tuple[datetime, int]]:
        steps = spent_so_far(ledger.engine, scope, subject, period, NOW)  # type: ignore[arg-type]
        return [(step.at, step.spent_nusd) for step in steps]

    hour = spent("gateway", "", "hour")
    assert len(hour) == 7
    assert hour[0] == (NOW.replace(minute=5), 100)
    assert hour[-1] == (NOW, 111)
    assert [nusd for _, nusd in spent("tenant", "acme", "hour")] == [0, 0, 10, 10, 10, 10, 11]
    day = spent("tenant", "acme", "day")
    assert (len(day), day[-1], day[9], day[10]) == (
        13,
        (NOW, 1_011),
        (NOW.replace(hour=10, minute=0), 0),
        (NOW.replace(hour=11, minute=0), 1_000),
    )
    month = spent("gateway", "", "month")
    assert (len(month), month[0][1], month[-1]) == (17, 100_000, (NOW, 111_111))
    assert spent("tenant", "acme", "month")[-1][1] == 11_011
    assert spent("key", str(uuid7()), "month") == []
    assert {nusd for _, nusd in spent("tenant", "nobody", "month")} == {0}


def test_earlier_periods_are_what_the_budget_counted(ledger: Ledger) -> None:
    budget = Budgets(ledger.engine).set("gateway", "", "day", 10**9)
    for days, cost_nusd in ((2, 5), (1, 7), (0, 9)):
        query_id, now = uuid7(), NOW - timedelta(days=days)
        reservations.reserve(ledger.engine, [budget], query_id, 50, now=now, expires_at=now + timedelta(minutes=10))
        reservations.settle(ledger.engine, query_id, cost_nusd)
    midnight = NOW.replace(hour=0, minute=0)
    found = [(each.at, each.spent_nusd) for each in past_periods(ledger.engine, budget.id, NOW)]
    assert found == [(midnight, 9), (midnight - timedelta(days=1), 7), (midnight - timedelta(days=2), 5)]
    assert past_periods(ledger.engine, uuid7(), NOW) == []
