"""The register of budgets: how much a caller may spend in an hour, a day or a month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import ColumnElement, Engine, Row, and_, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.periods import PERIODS, Period, period_start
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.records import NAME_CHARS_MAX
from router_gateway.ledger.tables import budget_windows, budgets

Scope = Literal["gateway", "tenant", "key"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
BUDGETS_MAX = 10_000
LIMIT_NUSD_MAX = 10**18  # a billion dollars; sums of a few of them still fit 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `limit_nusd` in every `period`. `subject` is a tenant's name or a key's id, "" for the gateway."""

    id: UUID
    scope: Scope
    subject: str
    period: Period
    limit_nusd: int

    @property
    def label(self) -> str:
        """For people: "tenant acme, per day"."""
        return f"{f'{self.scope} {self.subject}'.rstrip()}, per {self.period}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget in its present period: spent by calls that ended, reserved for calls under way."""

    budget: Budget
    spent_nusd: int = 0
    reserved_nusd: int = 0

    @property
    def remaining_ratio(self) -> float:
        """The part of the limit that is neither spent nor reserved, in [0, 1]."""
        limit = self.budget.limit_nusd
        left = limit - self.spent_nusd - self.reserved_nusd
        return min(max(left / limit, 0.0), 1.0) if limit else 0.0


class Budgets:
    """All methods block on the database, and raise LedgerUnavailable when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set(self, scope: Scope, subject: str, period: Period, limit_nusd: int) -> Budget:
        """Make a budget, or give the one of this scope, subject and period another limit; what is spent stays so.

        A new one counts from now on. Raises RequestError, naming the argument.
        """
        _check(scope, subject, period, limit_nusd)
        row = {"id": uuid7(), "at": datetime.now(UTC), "scope": scope, "subject": subject, "period": period}
        row["limit_nusd"] = limit_nusd
        with writing(self._engine) as connection:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            statement = insert(budgets).values(row)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["scope", "subject", "period"], set_={"limit_nusd": limit_nusd}
                )
            )
            if connection.execute(select(func.count()).select_from(budgets)).scalar_one() > BUDGETS_MAX:
                raise RequestError(f"there are {BUDGETS_MAX} budgets already: remove one first")
            found = connection.execute(select(budgets).where(_is(scope, subject, period))).one()
        return _budget(found)

    def remove(self, scope: Scope, subject: str, period: Period) -> None:
        """Lift a budget. Raises NotFound when there is none."""
        with writing(self._engine) as connection:
            if not connection.execute(delete(budgets).where(_is(scope, subject, period))).rowcount:
                raise NotFound(f"no budget of {scope} {subject}".rstrip() + f" per {period}")

    def states(self, now: datetime) -> list[BudgetState]:
        """Every budget with what is spent and reserved in the period that holds `now`, oldest budget first."""
        starts = {period: period_start(period, now) for period in PERIODS}
        with reading(self._engine) as connection:
            listed = [_budget(row) for row in connection.execute(select(budgets).order_by(budgets.c.id))]
            windows = {
                (row.budget_id, row.starts_at): row
                for row in connection.execute(
                    select(budget_windows).where(budget_windows.c.starts_at.in_(set(starts.values())))
                )
            }
        found = [(budget, windows.get((budget.id, starts[budget.period]))) for budget in listed]
        return [
            BudgetState(budget=budget)
            if row is None
            else BudgetState(budget=budget, spent_nusd=row.spent_nusd, reserved_nusd=row.reserved_nusd)
            for budget, row in found
        ]


def _check(scope: str, subject: str, period: str, limit_nusd: int) -> None:
    if scope not in SCOPES:
        raise RequestError(f"`scope` must be one of {', '.join(SCOPES)}", param="scope")
    if period not in PERIODS:
        raise RequestError(f"`period` must be one of {', '.join(PERIODS)}", param="period")
    if bool(subject) == (scope == "gateway") or len(subject) > NAME_CHARS_MAX or "\0" in subject:
        raise RequestError("`subject` must name the tenant or the key, and nothing for the gateway", param="subject")
    if not 0 <= limit_nusd <= LIMIT_NUSD_MAX:
        raise RequestError("`limit` must be from 0 to a billion dollars", param="limit")


def _is(scope: str, subject: str, period: str) -> ColumnElement[bool]:
    return and_(budgets.c.scope == scope, budgets.c.subject == subject, budgets.c.period == period)


def _budget(row: Row[tuple[object, ...]]) -> Budget:
    return Budget(id=row.id, scope=row.scope, subject=row.subject, period=row.period, limit_nusd=row.limit_nusd)
