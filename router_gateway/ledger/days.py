"""Requests and spend by UTC day: what a forecast of traffic goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine

from router_gateway.core.money import nusd_to_usd
from router_gateway.ledger.reports import sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One UTC day: requests that were sent somewhere, and what all attempts cost."""

    date: date
    requests: int
    cost_usd: float


def read_days(engine: Engine, *, since: datetime, until: datetime) -> list[Day]:
    """Days with any attempt, ascending, from `since` <= instant < `until` (timezone-aware)."""
    days = sorted(sums(engine, "day", since=since, until=until).items())
    return [
        Day(date=date.fromisoformat(day), requests=of["requests"], cost_usd=nusd_to_usd(of["cost_nusd"]))
        for day, of in days
        if of["attempts"]
    ]
