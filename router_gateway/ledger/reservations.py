"""Money set aside before a call and settled after it: the only statements that change what budgets have left.

A reservation is one transaction over all budgets of the caller, each taken by one conditional UPDATE: the
database compares and adds in one step, so no two callers can take the same money. Locks are taken in one order
(the query's reservations, then windows by the budget's id), so that transactions wait for each other and never
in a circle. A settlement states the query's total and books the difference to what was booked for it before:
said twice it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from router_gateway.core.errors import BudgetExceeded
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.periods import next_period, period_start
from router_gateway.ledger.budgets import Budget
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.records import Row
from router_gateway.ledger.tables import attempts, budget_windows, budgets, decisions, reservations

_SWEPT_MAX = 1_000
_KEPT = timedelta(days=7)
"""How long an expired reservation stays, in case attempts of its call reach the database late."""
_WINDOWS_KEPT = timedelta(days=100)


def reserve(
    engine: Engine,
    caller: Sequence[Budget],
    query_id: UUID,
    amount_nusd: int,
    *,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Set `amount_nusd` aside in the present window of every budget of `caller`, or in none.

    Idempotent by query. Raises BudgetExceeded, naming the budget and when it renews, and LedgerUnavailable.
    """
    with writing(engine) as connection:
        for budget in sorted(caller, key=lambda each: each.id):
            starts_at = period_start(budget.period, now)
            row = {"query_id": query_id, "budget_id": budget.id, "starts_at": starts_at}
            row |= {"amount_nusd": amount_nusd, "expires_at": expires_at}
            if not _insert(connection, reservations, row):
                continue  # set aside by an earlier try
            window = {"budget_id": budget.id, "starts_at": starts_at, "reserved_nusd": 0, "spent_nusd": 0}
            _insert(connection, budget_windows, window)
            if not _take(connection, budget.id, starts_at, amount_nusd):
                _refuse(connection, budget, query_id, starts_at, amount_nusd)


def settle(engine: Engine, query_id: UUID, total_nusd: int) -> None:
    """Book what the ended call cost in all, 0 for one that cost nothing, and free what was set aside for it."""
    with writing(engine) as connection:
        _book(connection, query_id, total_nusd)
        connection.execute(delete(reservations).where(reservations.c.query_id == query_id))


def sweep(engine: Engine, now: datetime) -> int:
    """Settle expired reservations by what the ledger's attempts say; how many calls that were.

    The process that made them is gone, or cannot reach the database. A call without any attempt has been sent, or was
    about to be: it counts as what it was expected to cost, and as nothing where it was never decided. Reservations stay
    for some days, so that attempts which arrive late, and the process itself, still correct what was booked.
    """
    tried = select(func.sum(attempts.c.cost_nusd)).where(attempts.c.query_id == reservations.c.query_id)
    expected = select(decisions.c.expected_nusd).where(decisions.c.query_id == reservations.c.query_id)
    spent = func.coalesce(
        tried.correlate(reservations).scalar_subquery(), expected.correlate(reservations).scalar_subquery(), 0
    )
    open_or_changed = or_(reservations.c.settled_nusd.is_(None), reservations.c.settled_nusd != spent)
    due = select(reservations.c.query_id, spent).where(reservations.c.expires_at < now, open_or_changed)
    with reading(engine) as connection:
        found = {query_id: int(total) for query_id, total in connection.execute(due.limit(_SWEPT_MAX))}
    for query_id, total_nusd in found.items():
        with writing(engine) as connection:
            _book(connection, query_id, total_nusd)
            expired = update(reservations).where(reservations.c.query_id == query_id)
            connection.execute(expired.values(settled_nusd=total_nusd))
    with writing(engine) as connection:
        settled = reservations.c.settled_nusd.is_not(None)
        connection.execute(delete(reservations).where(reservations.c.expires_at < now - _KEPT, settled))
        connection.execute(delete(budget_windows).where(budget_windows.c.starts_at < now - _WINDOWS_KEPT))
    return len(found)


def _take(connection: Connection, budget_id: UUID, starts_at: datetime, amount_nusd: int) -> bool:
    limit_nusd = select(budgets.c.limit_nusd).where(budgets.c.id == budget_id).scalar_subquery()
    taken = budget_windows.c.spent_nusd + budget_windows.c.reserved_nusd + amount_nusd
    statement = update(budget_windows).where(_window(budget_id, starts_at), taken <= limit_nusd)
    changed = connection.execute(statement.values(reserved_nusd=budget_windows.c.reserved_nusd + amount_nusd))
    return changed.rowcount == 1


def _refuse(connection: Connection, budget: Budget, query_id: UUID, starts_at: datetime, amount_nusd: int) -> None:
    """Raise BudgetExceeded, which undoes the transaction; for a budget that was lifted meanwhile do nothing."""
    limit_nusd = connection.execute(select(budgets.c.limit_nusd).where(budgets.c.id == budget.id)).scalar()
    if limit_nusd is None:
        mine = and_(reservations.c.query_id == query_id, reservations.c.budget_id == budget.id)
        connection.execute(delete(reservations).where(mine))
        return
    row = connection.execute(select(budget_windows).where(_window(budget.id, starts_at))).one()
    left_usd = nusd_to_usd(max(limit_nusd - row.spent_nusd - row.reserved_nusd, 0))
    raise BudgetExceeded(
        f"the budget ({budget.label}) of {nusd_to_usd(limit_nusd):.6f} USD has {left_usd:.6f} USD left, and this "
        f"request may cost up to {nusd_to_usd(amount_nusd):.6f} USD; "
        f"the budget renews at {next_period(budget.period, starts_at):%Y-%m-%dT%H:%M:%SZ}",
        hint="a lower max_completion_tokens asks for less",
    )


def _book(connection: Connection, query_id: UUID, total_nusd: int) -> None:
    mine = select(reservations).where(reservations.c.query_id == query_id).order_by(reservations.c.budget_id)
    for row in connection.execute(mine.with_for_update()).all():
        is_open = row.settled_nusd is None
        spent = budget_windows.c.spent_nusd + total_nusd - (0 if is_open else row.settled_nusd)
        reserved = budget_windows.c.reserved_nusd - (row.amount_nusd if is_open else 0)
        window = update(budget_windows).where(_window(row.budget_id, row.starts_at))
        connection.execute(window.values(spent_nusd=spent, reserved_nusd=reserved))


def _window(budget_id: UUID, starts_at: datetime) -> ColumnElement[bool]:
    return and_(budget_windows.c.budget_id == budget_id, budget_windows.c.starts_at == starts_at)


def _insert(connection: Connection, table: Table, row: Row) -> bool:
    """Whether the row was not there yet."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    added = insert(table).values(row).on_conflict_do_nothing().returning(table.c.budget_id)
    return connection.execute(added).first() is not None  # the rowcount of an INSERT is not to be relied on
