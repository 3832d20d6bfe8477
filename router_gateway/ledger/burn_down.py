"""How a budget's period is being spent, step by step: sums over minutes, hours or days of the ledger.

Of a key the ledger knows no rows (a decision names its tenant alone), so only what its budget counted is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from sqlalchemy import Engine, func, select

from router_gateway.core.periods import Period, next_period, period_start
from router_gateway.ledger.budgets import Scope
from router_gateway.ledger.connections import reading
from router_gateway.ledger.hours import cost_nusd
from router_gateway.ledger.reads import tenants_nusd
from router_gateway.ledger.tables import budget_windows, daily_totals

_STEPS: dict[Period, timedelta] = {
    "hour": timedelta(minutes=5),
    "day": timedelta(hours=1),
    "month": timedelta(days=1),
}
_PAST_MAX = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """`spent_nusd` from the beginning of a period up to `at`."""

    at: datetime
    spent_nusd: int


def spent_so_far(engine: Engine, scope: Scope, subject: str, period: Period, now: datetime) -> list[Spent]:
    """The present period's spend at the end of each of its steps up to `now`; nothing for a key. Blocks.

    All attempts of the gateway or the tenant count, those before the budget was made as well.
    """
    if scope == "key":
        return []
    start, step = period_start(period, now), _STEPS[period]
    edges = [start]
    while edges[-1] < min(now, next_period(period, start)):
        edges.append(edges[-1] + step)
    tenant = subject if scope == "tenant" else None
    sums = _by_day(engine, tenant, edges) if period == "month" else _between(engine, tenant, edges)
    spent, total = [], 0
    for end, amount in zip(edges[1:], sums, strict=True):
        total += amount
        spent.append(Spent(at=min(end, now), spent_nusd=total))
    return spent


def past_periods(engine: Engine, budget_id: UUID, now: datetime) -> list[Spent]:
    """What a budget counted in periods that began before `now`, the present one included: newest first, at most 31.

    `at` is the beginning of the period.
    """
    windows = select(budget_windows.c.starts_at, budget_windows.c.spent_nusd).where(
        budget_windows.c.budget_id == budget_id, budget_windows.c.starts_at <= now
    )
    with reading(engine) as connection:
        newest = connection.execute(windows.order_by(budget_windows.c.starts_at.desc()).limit(_PAST_MAX))
        return [Spent(at=row.starts_at, spent_nusd=row.spent_nusd) for row in newest]


def _by_day(engine: Engine, tenant: str | None, edges: Sequence[datetime]) -> list[int]:
    """From the totals that the writer keeps: a month of any traffic is some hundreds of rows."""
    days = [f"{edge:%Y-%m-%d}" for edge in edges[:-1]]
    query = select(daily_totals.c.day, func.sum(daily_totals.c.cost_nusd)).group_by(daily_totals.c.day)
    query = query.where(daily_totals.c.day >= f"{edges[0]:%Y-%m-%d}", daily_totals.c.day < f"{edges[-1]:%Y-%m-%d}")
    if tenant is not None:
        query = query.where(daily_totals.c.tenant == tenant)
    with reading(engine) as connection:
        found = {day: int(nusd) for day, nusd in connection.execute(query)}
    return [found.get(day, 0) for day in days]


def _between(engine: Engine, tenant: str | None, edges: Sequence[datetime]) -> list[int]:
    """Of everybody from the totals of whole hours, of a tenant from its own decisions."""
    with reading(engine) as connection:
        return [
            cost_nusd(connection, start, end)
            if tenant is None
            else int(connection.execute(tenants_nusd(tenant, start, end)).scalar() or 0)
            for start, end in pairwise(edges)
        ]
