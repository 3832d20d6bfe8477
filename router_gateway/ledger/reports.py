"""Spend and quality by endpoint, day or tenant: read-only SQL for the dashboard and the CLI.

Sums are of integers, in the database. Percentiles are nearest-rank, by window functions, so that
SQLite and PostgreSQL compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, Select, String, and_, case, func, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import answering_attempt, stands
from router_gateway.ledger.tables import attempts, decisions, feedback

GroupBy = Literal["endpoint", "day", "tenant"]

_GROUPS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One endpoint, day or tenant.

    `requests` are queries with at least one attempt in the group; `errors` attempts that failed (no
    status 200, or an error after it); `tokens` all of their tokens; `quality` the mean in [0, 1] of each
    query's latest feedback, credited to the endpoint that answered, None without any;
    `latency_ms_p50` and `_p95` are of attempts of status 200; `cost_estimated_share` the part of
    `cost_nusd` that rests on estimated token counts; `undispatched` decisions without any attempt.
    """

    group: str
    requests: int = 0
    attempts: int = 0
    errors: int = 0
    tokens: int = 0
    cost_nusd: int = 0
    cost_estimated_share: float = 0.0
    quality: float | None = None
    rated: int = 0
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    undispatched: int = 0


class UtcDay(FunctionElement[str]):
    """The UTC date of an instant as "YYYY-MM-DD"."""

    type = String()
    name = "utc_day"
    inherit_cache = True


@compiles(UtcDay, "sqlite")
def _day_in_sqlite(element: UtcDay, compiler: Any, **options: Any) -> str:
    return f"substr({compiler.process(element.clauses, **options)}, 1, 10)"


@compiles(UtcDay, "postgresql")
def _day_in_postgres(element: UtcDay, compiler: Any, **options: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **options)} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


def usage(
    engine: Engine, group_by: GroupBy, *, since: datetime | None = None, until: datetime | None = None
) -> list[UsageRow]:
    """Rows in the order of their group's name, for `since` <= instant < `until` (timezone-aware; None = open).

    The instant is the attempt's for attempts and the decision's for quality and `undispatched`.
    """
    parts = (
        _totals(group_by, _during(attempts.c.at, since, until)),
        _latencies(group_by, _during(attempts.c.at, since, until)),
        _qualities(group_by, _during(decisions.c.at, since, until)),
        _undispatched(group_by, _during(decisions.c.at, since, until)),
    )
    groups: dict[str, dict[str, Any]] = {}
    with reading(engine) as connection:
        for part in parts:
            for row in connection.execute(part.limit(_GROUPS_MAX)).mappings():
                groups.setdefault(row["group"], {}).update(row)
    return [_row(groups[name]) for name in sorted(groups)]


def _row(values: Mapping[str, Any]) -> UsageRow:
    counts = ("requests", "attempts", "errors", "tokens", "cost_nusd", "rated", "undispatched")
    means: dict[str, Any] = {  # PostgreSQL averages to Decimal
        name: None if values.get(name) is None else float(values[name])
        for name in ("quality", "latency_ms_p50", "latency_ms_p95")
    }
    cost_nusd = int(values.get("cost_nusd") or 0)
    return UsageRow(
        group=values["group"],
        cost_estimated_share=int(values.get("estimated_nusd") or 0) / cost_nusd if cost_nusd else 0.0,
        **{name: int(values.get(name) or 0) for name in counts},
        **means,
    )


def _during(instant: ColumnElement[datetime], since: datetime | None, until: datetime | None) -> ColumnElement[bool]:
    lower = [] if since is None else [instant >= since]
    upper = [] if until is None else [instant < until]
    return and_(True, *lower, *upper)


def _by_attempt(group_by: GroupBy) -> ColumnElement[str]:
    if group_by == "tenant":
        # An attempt whose decision is still in another process's journal has no tenant yet.
        return func.coalesce(decisions.c.tenant, "unknown")
    return attempts.c.endpoint if group_by == "endpoint" else UtcDay(attempts.c.at)


def _with_decisions(query: Select[Any], group_by: GroupBy) -> Select[Any]:
    query = query.select_from(attempts)
    return query.outerjoin(decisions, decisions.c.query_id == attempts.c.query_id) if group_by == "tenant" else query


def _totals(group_by: GroupBy, during: ColumnElement[bool]) -> Select[Any]:
    failed = or_(attempts.c.status != 200, attempts.c.error.is_not(None))
    tokens = (
        attempts.c.tokens_input
        + attempts.c.tokens_cached_input
        + attempts.c.tokens_cache_write
        + attempts.c.tokens_output
        + attempts.c.tokens_reasoning
    )
    group = _by_attempt(group_by).label("group")
    query = select(
        group,
        func.count(attempts.c.query_id.distinct()).label("requests"),
        func.count().label("attempts"),
        func.sum(case((failed, 1), else_=0)).label("errors"),
        func.sum(func.coalesce(tokens, 0)).label("tokens"),
        func.sum(attempts.c.cost_nusd).label("cost_nusd"),
        func.sum(case((attempts.c.cost_estimated, attempts.c.cost_nusd), else_=0)).label("estimated_nusd"),
    )
    return _with_decisions(query, group_by).where(during).group_by(group).order_by(group)


def _latencies(group_by: GroupBy, during: ColumnElement[bool]) -> Select[Any]:
    """Nearest rank: the smallest latency that at least p of the attempts do not exceed."""
    group = _by_attempt(group_by)
    ranked = (
        _with_decisions(
            select(
                group.label("group"),
                attempts.c.latency_ms,
                func.row_number().over(partition_by=group, order_by=attempts.c.latency_ms).label("rank"),
                func.count().over(partition_by=group).label("total"),
            ),
            group_by,
        )
        .where(during, attempts.c.status == 200)
        .subquery()
    ).c

    def percentile(percent: int) -> ColumnElement[float]:
        reached = ranked.rank * 100 >= ranked.total * percent
        return func.min(case((reached, ranked.latency_ms))).label(f"latency_ms_p{percent}")

    return select(ranked.group, percentile(50), percentile(95)).group_by(ranked.group).order_by(ranked.group)


def _by_decision(group_by: GroupBy, endpoint: ColumnElement[str]) -> ColumnElement[str]:
    return {"endpoint": endpoint, "tenant": decisions.c.tenant, "day": UtcDay(decisions.c.at)}[group_by]


def _qualities(group_by: GroupBy, during: ColumnElement[bool]) -> Select[Any]:
    latest = (
        select(feedback.c.query_id, func.max(feedback.c.seq).label("seq"))
        .where(stands(feedback.c.id))
        .group_by(feedback.c.query_id)
        .subquery()
        .c
    )
    last = answering_attempt().subquery()
    group = _by_decision(group_by, attempts.c.endpoint).label("group")
    return (
        select(group, func.avg(feedback.c.quality).label("quality"), func.count().label("rated"))
        .select_from(feedback)
        .join(latest.query_id.table, latest.seq == feedback.c.seq)
        .join(decisions, decisions.c.query_id == feedback.c.query_id)
        .join(last, last.c.query_id == feedback.c.query_id)
        .join(attempts, and_(attempts.c.query_id == last.c.query_id, attempts.c.number == last.c.number))
        .where(during)
        .group_by(group)
        .order_by(group)
    )


def _undispatched(group_by: GroupBy, during: ColumnElement[bool]) -> Select[str, int]:
    group = _by_decision(group_by, decisions.c.endpoint).label("group")
    tried = select(attempts.c.query_id).where(attempts.c.query_id == decisions.c.query_id).exists()
    return (
        select(group, func.count().label("undispatched"))
        .select_from(decisions)
        .where(during, ~tried)
        .group_by(group)
        .order_by(group)
    )
