"""The pacer beside a real ledger: what it is told, what it reads, and how it goes on after a restart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Decision, Feedback, Query
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.pace_keeper import PaceKeeper
from router_gateway.routing.floor import Floor
from router_gateway.routing.pacing import BudgetPacer
from router_gateway.routing.plans import PerPeriod, PerRequest, Plan

NOON = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)
COST = {"small": 0.001, "large": 0.01}


@pytest.fixture
def ledger(database_url: str, tmp_path: Path):
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def decision(endpoint: str, at: datetime = NOON) -> Decision:
    return Decision(
        query_id=uuid7(),
        at=at,
        endpoint=endpoint,
        order=(endpoint,),
        propensity=1.0,
        endpoints=("small", "large"),
        quality=(0.6, 0.9),
        stddev=(0.01, 0.01),
        cost_usd=tuple(COST.values()),
        probability=(0.5, 0.5),
        eligible=(True, True),
        worth_usd=0.02,
        reason="scored",
    )


def attempt(of: Decision, cost_usd: float | None = None, number: int = 1) -> Attempt:
    cost_nusd = round((COST[of.endpoint] if cost_usd is None else cost_usd) * 1e9)
    return Attempt(
        query_id=of.query_id,
        number=number,
        at=of.at,
        endpoint=of.endpoint,
        status=200,
        cost_nusd=cost_nusd,
        latency_ms=1.0,
    )


def write(ledger: Ledger, of: Decision, cost_usd: float | None = None) -> None:
    ledger.record_decision(Query(id=of.query_id, text="x", tokens_input=1), of, requested_model="auto", embedding=None)
    ledger.record_attempt(attempt(of, cost_usd))


def keeper(engine: Engine, plan: Plan, now: datetime = NOON, **settings) -> PaceKeeper:
    pacer = BudgetPacer(plan=plan, floor=Floor(alarm_outcomes=30.0))
    return PaceKeeper(engine, pacer, now=lambda: now, **({"tick_s": 60.0, "refresh_s": 60.0} | settings))


def day(usd: float = 1.0) -> PerPeriod:
    return PerPeriod(usd=usd, period_s=86_400.0, requests=1_000)


def test_requests_leave_a_word_and_the_dial_moves_later(engine: Engine) -> None:
    paced = keeper(engine, PerRequest(usd=0.005))
    before = paced.steering
    for _ in range(40):
        made = decision("large")
        paced.decided(made)
        paced.attempted(attempt(made))
    assert paced.steering is before
    paced.step()
    assert paced.steering.worth_usd == pytest.approx(0.009 / 0.3, rel=0.2), "where the two are worth the same"
    paced.refresh()
    assert paced.account.spent_usd == pytest.approx(0.4)
    assert paced.account.planned_usd == pytest.approx(0.2)


def test_a_retry_is_paid_for_too(engine: Engine) -> None:
    paced = keeper(engine, PerRequest(usd=0.005))
    made = decision("small")
    for item in (attempt(made, 0.002), attempt(made, 0.004, number=2)):
        paced.attempted(item) if item.number > 1 else (paced.decided(made), paced.attempted(item))
    paced.step()
    paced.refresh()
    assert paced.account.spent_usd == pytest.approx(0.006)


def test_several_processes_share_a_days_budget(engine: Engine, ledger: Ledger) -> None:
    mine = keeper(engine, day())
    mine.start()
    for minute in range(50):
        write(ledger, decision("large", NOON - timedelta(minutes=minute)))
    write(ledger, decision("large", NOON - timedelta(days=1)))
    assert ledger.drain()
    mine.refresh()
    assert mine.account.spent_usd == pytest.approx(0.5)
    mine.close()


def test_what_is_under_way_counts_until_the_ledger_has_it(engine: Engine) -> None:
    paced = keeper(engine, day())
    paced.start()
    paced.decided(decision("large"))
    paced.step()
    paced.refresh()
    assert paced.account.spent_usd == pytest.approx(0.01)
    paced.close()


def test_a_restart_goes_on_from_the_ledger(engine: Engine, ledger: Ledger) -> None:
    before = keeper(engine, day())
    before.start()
    for second in range(200):
        made = decision("small" if second % 2 else "large", NOON - timedelta(seconds=200 - second))
        write(ledger, made, 2 * COST[made.endpoint])
        before.decided(made)
        before.attempted(attempt(made, 2 * COST[made.endpoint]))
    assert ledger.drain()
    before.step()
    before.refresh()
    before.close()
    after = keeper(engine, day())
    after.start()
    after.refresh()
    assert after.account.spent_usd == pytest.approx(before.account.spent_usd) == pytest.approx(2.2)
    assert after.steering.worth_usd == pytest.approx(before.steering.worth_usd, rel=0.2)
    after.close()


def test_yesterdays_hours_tell_what_is_still_to_come(engine: Engine, ledger: Ledger) -> None:
    for minute in range(0, 24 * 60, 10):
        write(ledger, decision("small", NOON.replace(hour=0) - timedelta(days=1) + timedelta(minutes=minute)))
    assert ledger.drain()
    plan = day()
    paced = keeper(engine, plan)
    paced.start()
    assert plan.expected_requests(at_s=NOON.timestamp()) < 144
    paced.refresh()
    assert paced.account.planned_usd == pytest.approx(0.55, abs=0.02), "half of the day, and a tenth carried over"
    paced.close()


def test_ratings_reach_the_floor_from_the_ledger(engine: Engine, ledger: Ledger) -> None:
    paced = keeper(engine, PerRequest(usd=0.005))
    paced.start()
    rated = [decision("large") for _ in range(60)]
    for made in rated:
        paced.decided(made)
        write(ledger, made)
        ledger.record_feedback(
            Feedback(id=uuid7(), query_id=made.query_id, at=NOON, quality=0.0, source="user", tenant="default")
        )
    assert ledger.drain()
    paced.step()
    paced.refresh()
    assert paced.floor_taken == (True, 1)
    assert dict(paced.steering.coin.sides) == pytest.approx({"small": 5 / 9, "large": 4 / 9}, abs=0.3)
    paced.close()


def test_its_thread_does_all_this_by_itself_and_survives_an_outage(engine: Engine, caplog) -> None:
    paced = keeper(engine, PerRequest(usd=0.005), tick_s=0.01, refresh_s=0.01)
    paced.start()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE feedback RENAME TO gone"))
    with caplog.at_level(logging.WARNING):
        assert eventually(lambda: "goes on without the ledger" in caplog.text)
    made = decision("large")
    paced.decided(made)
    paced.attempted(attempt(made))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO feedback"))
    assert eventually(lambda: paced.account.spent_usd == pytest.approx(0.01))
    paced.close()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
