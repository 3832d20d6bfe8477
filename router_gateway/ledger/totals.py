"""Totals by day, endpoint and tenant, and the calls that have no outcome: kept by the writer as rows come.

Both are changed in the transaction that inserts the rows, and by rows that were not there before only, so they say at
any instant, and after any replay, exactly what the rows add up to. Reports read them rather than a million rows; and
the money of a day stays known when its rows are removed (retention.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    String,
    Table,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from router_gateway.ledger.tables import attempts, daily_totals, decisions, open_calls

UNKNOWN_TENANT = "unknown"
"""Of an attempt whose decision is still in another process's journal."""

TOKENS = ("tokens_input", "tokens_cached_input", "tokens_cache_write", "tokens_output", "tokens_reasoning")

Key = tuple[str, str, str]
"""Day, endpoint, tenant."""

_SUMMED: Mapping[str, ColumnElement[Any]] = {
    "requests": case((attempts.c.number == 1, 1), else_=0),
    "attempts": case((attempts.c.number >= 1, 1), else_=0),
    "errors": case((or_(attempts.c.status != 200, attempts.c.error.is_not(None)), 1), else_=0),
    "estimated_attempts": case((attempts.c.cost_estimated, 1), else_=0),
    "provider_attempts": case((attempts.c.provider_cost_nusd.is_not(None), 1), else_=0),
    **{name: func.coalesce(attempts.c[name], 0) for name in TOKENS},
    "cost_nusd": attempts.c.cost_nusd,
    "estimated_nusd": case((attempts.c.cost_estimated, attempts.c.cost_nusd), else_=0),
    "provider_cost_nusd": func.coalesce(attempts.c.provider_cost_nusd, 0),
}
SUMS = tuple(_SUMMED)
"""What is summed, by its column of `daily_totals`."""


def summed_rows() -> list[ColumnElement[Any]]:
    """Columns of a grouped query over `attempts`, labelled as in SUMS."""
    return [func.sum(expression).label(name) for name, expression in _SUMMED.items()]


def summed_days() -> list[ColumnElement[Any]]:
    """The same of a grouped query over `daily_totals`."""
    return [func.sum(daily_totals.c[name]).label(name) for name in SUMS]


class Span(NamedTuple):
    """A stretch of time as whole days (first included, last not; None = open) and what is left at its ends."""

    days: tuple[str | None, str | None] | None
    edges: tuple[tuple[datetime | None, datetime | None], ...]


def span(since: datetime | None, until: datetime | None) -> Span:
    """`since` <= instant < `until` (timezone-aware; None = open), split at the midnights of UTC."""
    start = None if since is None else _midnight(since.astimezone(UTC) + timedelta(days=1, microseconds=-1))
    end = None if until is None else _midnight(until.astimezone(UTC))
    if start is not None and end is not None and start >= end:
        return Span(None, ((since, until),))
    before = ((since, start),) if since is not None and since != start else ()
    after = ((end, until),) if until is not None and until != end else ()
    return Span((_day_or_none(start), _day_or_none(end)), (*before, *after))


def during_days(days: tuple[str | None, str | None]) -> list[ColumnElement[bool]]:
    """The conditions on `daily_totals` that a span's whole days are."""
    first, last = days
    conditions = [] if first is None else [daily_totals.c.day >= first]
    return conditions if last is None else [*conditions, daily_totals.c.day < last]


def book(connection: Connection, decided: Sequence[Mapping[Any, Any]], tried: Sequence[Mapping[Any, Any]]) -> None:
    """Account for rows of `decisions` and `attempts` that this transaction has just added."""
    new_ids = {row["query_id"] for row in decided}
    tried_ids = {row["query_id"] for row in tried}
    changes: dict[Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
    if tried:
        tenants = {row["query_id"]: row["tenant"] for row in decided}
        tenants |= _tenants(connection, tried_ids - tenants.keys())
        for row in tried:
            _add(changes[_key(row, tenants.get(row["query_id"], UNKNOWN_TENANT))], row)
    unsure_ids = new_ids - {row["query_id"] for row in tried if row["number"] == 1}
    if unsure_ids:
        added = {(row["query_id"], row["number"]) for row in tried}
        known = _early_attempts(connection, unsure_ids)
        early = [attempt for attempt in known if (attempt["query_id"], attempt["number"]) not in added]
        tenants = {row["query_id"]: row["tenant"] for row in decided}
        for attempt in early:  # they came first, and count as nobody's so far
            _add(changes[_key(attempt, tenants[attempt["query_id"]])], attempt)
            _add(changes[_key(attempt, UNKNOWN_TENANT)], attempt, sign=-1)
        _open(connection, unsure_ids - tried_ids - {attempt["query_id"] for attempt in early})
    _close(connection, tried_ids - new_ids)
    add_totals(connection, changes)


def add_totals(connection: Connection, changes: Mapping[Key, Mapping[str, int]]) -> None:
    """Add to the totals, in one order, so that writers wait for each other and never in a circle."""
    if changes:
        connection.execute(
            _adding(connection.dialect.name),
            [
                {"day": day, "endpoint": endpoint, "tenant": tenant, **changes[day, endpoint, tenant]}
                for day, endpoint, tenant in sorted(changes)
            ],
        )


@cache
def _adding(dialect: str) -> Executable:
    """Made once: the statement costs more than what it does."""
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(daily_totals)
    added = {name: daily_totals.c[name] + statement.excluded[name] for name in SUMS}
    found: Executable = statement.on_conflict_do_update(index_elements=["day", "endpoint", "tenant"], set_=added)
    return found


def forget_tenant(connection: Connection, tenant: str, heir: str) -> None:
    """Give a tenant's totals and open calls to `heir`: the money stays, the name goes."""
    mine = daily_totals.c.tenant == tenant
    rows = connection.execute(select(daily_totals).where(mine)).mappings().all()
    connection.execute(delete(daily_totals).where(mine))
    add_totals(connection, {(row["day"], row["endpoint"], heir): {n: row[n] for n in SUMS} for row in rows})
    connection.execute(update(open_calls).where(open_calls.c.tenant == tenant).values(tenant=heir))


def day_of(instant: datetime) -> str:
    """The day of UTC as "2030-01-31"."""
    return instant.astimezone(UTC).date().isoformat()


def _day_or_none(instant: datetime | None) -> str | None:
    return None if instant is None else day_of(instant)


def _midnight(instant: datetime) -> datetime:
    return datetime.combine(instant.date(), time.min, UTC)


def _key(attempt: Mapping[Any, Any], tenant: str) -> Key:
    return day_of(attempt["at"]), attempt["endpoint"], tenant


def _add(sums: dict[str, int], row: Mapping[Any, Any], *, sign: int = 1) -> None:
    cost_nusd, said = sign * row["cost_nusd"], row["provider_cost_nusd"]
    sums["attempts"] += sign
    sums["cost_nusd"] += cost_nusd
    if row["number"] == 1:
        sums["requests"] += sign
    if row["status"] != 200 or row["error"] is not None:
        sums["errors"] += sign
    if row["cost_estimated"]:
        sums["estimated_attempts"] += sign
        sums["estimated_nusd"] += cost_nusd
    if said is not None:
        sums["provider_attempts"] += sign
        sums["provider_cost_nusd"] += sign * said
    for name in TOKENS:
        if counted := row[name]:
            sums[name] += sign * counted


def _tenants(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, str]:
    wanted = _bound(connection, ids)
    if wanted is None:
        return {}
    found = connection.execute(_by_ids(connection.dialect.name).tenants, wanted)
    return {query_id: tenant for query_id, tenant in found}


def _early_attempts(connection: Connection, ids: Iterable[UUID]) -> Sequence[Mapping[Any, Any]]:
    return connection.execute(_by_ids(connection.dialect.name).attempts, _bound(connection, ids)).mappings().all()


def _open(connection: Connection, ids: Iterable[UUID]) -> None:
    wanted = _bound(connection, ids)
    if wanted is not None:
        connection.execute(_by_ids(connection.dialect.name).open, wanted)


def _close(connection: Connection, ids: Iterable[UUID]) -> None:
    wanted = _bound(connection, ids)
    if wanted is not None:
        connection.execute(_by_ids(connection.dialect.name).close, wanted)


class _ByIds(NamedTuple):
    """Statements about the calls whose ids are bound as `ids`: one text for any number, so that each is made once."""

    tenants: Select[Any]
    attempts: Select[Any]
    open: Executable
    close: Executable


@cache
def _by_ids(dialect: str) -> _ByIds:
    def among(table: Table) -> ColumnElement[bool]:
        ids = bindparam("ids", type_=String)
        if dialect == "sqlite":
            return table.c.query_id.in_(select(func.json_each(ids).table_valued("value").c.value))
        return table.c.query_id == any_(cast(ids, postgresql.ARRAY(Uuid)))

    names = [column.name for column in open_calls.columns]
    decided = select(*(decisions.c[name] for name in names)).where(among(decisions))
    return _ByIds(
        tenants=select(decisions.c.query_id, decisions.c.tenant).where(among(decisions)),
        attempts=select(attempts).where(among(attempts)),
        open=insert(open_calls).from_select(names, decided),
        close=delete(open_calls).where(among(open_calls)),
    )


def _bound(connection: Connection, ids: Iterable[UUID]) -> dict[str, str] | None:
    """The parameter of these statements; None without any id."""
    wanted = [each.hex for each in ids]
    if not wanted:
        return None
    if connection.dialect.name == "sqlite":
        return {"ids": '["' + '","'.join(wanted) + '"]'}
    return {"ids": "{" + ",".join(wanted) + "}"}
