from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Decision, Feedback, Query, Usage
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.reports import UsageRow, usage

DAY_1 = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
DAY_2 = DAY_1 + timedelta(hours=1)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def request(ledger: Ledger, at: datetime, tenant: str, *tries: dict[str, Any], ratings: tuple[float, ...] = ()) -> UUID:
    query = Query(id=uuid7(), text="", tokens_input=1, tenant=tenant)
    decision = Decision(
        query_id=query.id, at=at, endpoint="a", order=("a", "b"), propensity=1.0, worth_usd=0.1, reason="scored"
    )
    ledger.record_decision(query, decision, requested_model="auto", embedding=None)
    for number, values in enumerate(tries, start=1):
        known: dict[str, Any] = {"endpoint": "a", "status": 200, "latency_ms": 1.0, "cost_nusd": 0} | values
        ledger.record_attempt(Attempt(query_id=query.id, number=number, at=at, **known))
    for quality in ratings:
        ledger.record_feedback(Feedback(id=uuid7(), query_id=query.id, at=at, quality=quality, source="user"))
    return query.id


@pytest.fixture
def traffic(ledger: Ledger) -> Ledger:
    tokens = Usage(tokens_input=1, tokens_cached_input=2, tokens_cache_write=3, tokens_output=4, tokens_reasoning=5)
    failed = {"status": 503, "error": "overloaded", "latency_ms": 900.0}
    request(ledger, DAY_1, "acme", {"cost_nusd": 2**53 + 1, "usage": tokens, "latency_ms": 10.0}, ratings=(0.0, 1.0))
    request(ledger, DAY_2, "acme", failed, {"endpoint": "b", "cost_nusd": 30, "latency_ms": 40.0}, ratings=(0.5,))
    request(ledger, DAY_2, "bob", {"endpoint": "b", "cost_nusd": 10, "cost_estimated": True, "latency_ms": 20.0})
    request(ledger, DAY_2, "bob")
    assert ledger.drain()
    return ledger


def test_spend_and_quality_by_endpoint(traffic: Ledger) -> None:
    assert usage(traffic.engine, group_by="endpoint") == [
        UsageRow(
            group="a", requests=2, attempts=2, errors=1, tokens=15, cost_nusd=2**53 + 1, quality=1.0, rated=1,
            latency_ms_p50=10.0, latency_ms_p95=10.0, undispatched=1,
        ),
        UsageRow(
            group="b", requests=2, attempts=2, cost_nusd=40, cost_estimated_share=0.25, quality=0.5, rated=1,
            latency_ms_p50=20.0, latency_ms_p95=40.0,
        ),
    ]  # fmt: skip


def test_spend_and_quality_by_day_of_utc(traffic: Ledger) -> None:
    first, second = usage(traffic.engine, group_by="day")
    assert (first.group, first.requests, first.cost_nusd, first.quality) == ("2026-03-01", 1, 2**53 + 1, 1.0)
    assert (second.group, second.requests, second.attempts, second.errors) == ("2026-03-02", 2, 3, 1)
    assert (second.cost_nusd, second.quality, second.undispatched) == (40, 0.5, 1)


def test_spend_and_quality_by_tenant(traffic: Ledger) -> None:
    acme, bob = usage(traffic.engine, group_by="tenant")
    assert (acme.group, acme.requests, acme.attempts, acme.quality, acme.rated) == ("acme", 2, 3, 0.75, 2)
    assert (acme.latency_ms_p50, acme.latency_ms_p95) == (10.0, 40.0)
    assert (bob.group, bob.requests, bob.quality, bob.cost_estimated_share, bob.undispatched) == (
        "bob",
        1,
        None,
        1.0,
        1,
    )


def test_only_the_named_time_is_counted(traffic: Ledger) -> None:
    elsewhere = timezone(timedelta(hours=-8))
    assert [row.group for row in usage(traffic.engine, group_by="day", since=DAY_2)] == ["2026-03-02"]
    until = DAY_2.astimezone(elsewhere)
    assert [row.group for row in usage(traffic.engine, group_by="day", until=until)] == ["2026-03-01"]
    assert usage(traffic.engine, group_by="endpoint", since=DAY_1, until=DAY_1) == []


def test_money_without_its_decision_is_still_counted(ledger: Ledger) -> None:
    lost = Attempt(query_id=uuid7(), number=1, at=DAY_1, endpoint="a", status=200, cost_nusd=7, latency_ms=1.0)
    ledger.record_attempt(lost)
    assert ledger.drain()
    (row,) = usage(ledger.engine, group_by="tenant")
    assert (row.group, row.cost_nusd) == ("unknown", 7)


def test_percentiles_are_nearest_rank(ledger: Ledger) -> None:
    for latency_ms in range(1, 101):
        request(ledger, DAY_1, "t", {"latency_ms": float(latency_ms)})
    assert ledger.drain()
    (row,) = usage(ledger.engine, group_by="endpoint")
    assert (row.latency_ms_p50, row.latency_ms_p95) == (50.0, 95.0)
