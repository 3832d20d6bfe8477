"""Requests and spend by UTC day: what a forecast of traffic goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine, case, func, select

from router_gateway.core.money import nusd_to_usd
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reports import UtcDay
from router_gateway.ledger.tables import attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One UTC day: requests that were sent somewhere, and what all attempts cost."""

    date: date
    requests: int
    cost_usd: float


def read_days(engine: Engine, *, since: datetime, until: datetime) -> list[Day]:
    """Days with any attempt, ascending, from `since` <= instant < `until` (timezone-aware)."""
    day = UtcDay(attempts.c.at).label("day")
    first = func.sum(case((attempts.c.number == 1, 1), else_=0))
    query = select(day, first, func.sum(attempts.c.cost_nusd)).where(attempts.c.at >= since, attempts.c.at < until)
    with reading(engine) as connection:
        rows = connection.execute(query.group_by(day).order_by(day)).all()
    return [Day(date=date.fromisoformat(d), requests=int(n), cost_usd=nusd_to_usd(int(cost))) for d, n, cost in rows]
