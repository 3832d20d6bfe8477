"""Spend and quality by endpoint, day or tenant: read-only SQL for the dashboard and the CLI.

Sums are of integers, of whole days where a report has them (totals.py). Percentiles are nearest-rank, by window
functions, so that SQLite and PostgreSQL compute the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, Select, String, and_, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import stands
from router_gateway.ledger.tables import attempts, daily_totals, decisions, feedback, open_calls
from router_gateway.ledger.totals import SUMS, TOKENS, during_days, span, summed_days, summed_rows

GroupBy = Literal["endpoint", "day", "tenant"]

_GROUPS_MAX = 10_000
_NEWEST_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One endpoint, day or tenant.

    `requests` are queries with at least one attempt in the group; `errors` attempts that failed (no
    status 200, or an error after it); `tokens` all of their tokens; `quality` the mean in [0, 1] of each
    query's latest feedback, credited to the endpoint that answered, None without any;
    `latency_ms_p50` and `_p95` are of attempts of status 200; `cost_estimated_share` the part of
    `cost_nusd` that rests on estimated token counts. `provider_cost_nusd` is what providers themselves said that
    `provider_attempts` of them cost. `undispatched` are decisions without any attempt: under way, or cut off by the end
    of their process, and `undispatched_nusd` is what they were expected to cost. It is no part of `cost_nusd`.
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
    undispatched_nusd: int = 0
    provider_attempts: int = 0
    provider_cost_nusd: int = 0


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

    The instant is the attempt's for attempts and the decision's for quality and `undispatched`. Whole days are read
    from `daily_totals`, so money is exact however long ago it was spent. Latencies are of the newest 10,000 answers
    of that time, quality of as much feedback: a report of ten million requests must not read them all.
    """
    groups: dict[str, dict[str, Any]] = dict(sums(engine, group_by, since=since, until=until))
    with reading(engine) as connection:
        for part in (
            _latencies(group_by, _during(attempts.c.at, since, until)),
            _qualities(group_by, since, until),
            _undispatched(group_by, _during(open_calls.c.at, since, until)),
        ):
            for row in connection.execute(part.limit(_GROUPS_MAX)).mappings():
                groups.setdefault(row["group"], {}).update(row)
    return [_row(name, groups[name], group_by) for name in sorted(groups)]


def sums(
    engine: Engine, group_by: GroupBy, *, since: datetime | None = None, until: datetime | None = None
) -> dict[str, dict[str, int]]:
    """By group, what its attempts add up to (`totals.SUMS`), exactly; `requests` counts first attempts."""
    groups: dict[str, dict[str, int]] = {}
    with reading(engine) as connection:
        for query in _totals(group_by, since, until):
            for row in connection.execute(query.limit(_GROUPS_MAX)).mappings():
                known = groups.setdefault(row["group"], dict.fromkeys(SUMS, 0))
                for name in SUMS:
                    known[name] += int(row[name] or 0)
    return groups


def _row(group: str, values: Mapping[str, Any], group_by: GroupBy) -> UsageRow:
    counts = ("requests", "attempts", "errors", "cost_nusd", "provider_attempts", "provider_cost_nusd", "rated")
    counted = {name: int(values.get(name) or 0) for name in (*counts, "undispatched", "undispatched_nusd")}
    if group_by == "endpoint":  # a request tries an endpoint once at most
        counted["requests"] = counted["attempts"]
    means: dict[str, Any] = {  # PostgreSQL averages to Decimal
        name: None if values.get(name) is None else float(values[name])
        for name in ("quality", "latency_ms_p50", "latency_ms_p95")
    }
    cost_nusd = counted["cost_nusd"]
    return UsageRow(
        group=group,
        tokens=sum(int(values.get(name) or 0) for name in TOKENS),
        cost_estimated_share=int(values.get("estimated_nusd") or 0) / cost_nusd if cost_nusd else 0.0,
        **counted,
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


def _totals(group_by: GroupBy, since: datetime | None, until: datetime | None) -> Iterator[Select[Any]]:
    """What whole days add up to, and the rows at both ends of the time."""
    days, edges = span(since, until)
    if days is not None:
        column = daily_totals.c[group_by]
        yield select(column.label("group"), *summed_days()).where(*during_days(days)).group_by(column)
    for start, end in edges:
        group = _by_attempt(group_by).label("group")
        rows = _with_decisions(select(group, *summed_rows()), group_by)
        yield rows.where(_during(attempts.c.at, start, end)).group_by(group)


def _latencies(group_by: GroupBy, during: ColumnElement[bool]) -> Select[Any]:
    """Nearest rank: the smallest latency that at least p of the attempts do not exceed."""
    group = _by_attempt(group_by).label("group")
    newest = _with_decisions(select(group, attempts.c.latency_ms), group_by).where(during, attempts.c.status == 200)
    of = newest.order_by(attempts.c.at.desc()).limit(_NEWEST_MAX).subquery().c
    ranked = (
        select(
            of.group,
            of.latency_ms,
            func.row_number().over(partition_by=of.group, order_by=of.latency_ms).label("rank"),
            func.count().over(partition_by=of.group).label("total"),
        ).subquery()
    ).c

    def percentile(percent: int) -> ColumnElement[float]:
        reached = ranked.rank * 100 >= ranked.total * percent
        return func.min(case((reached, ranked.latency_ms))).label(f"latency_ms_p{percent}")

    return select(ranked.group, percentile(50), percentile(95)).group_by(ranked.group).order_by(ranked.group)


def credited(
    since: datetime | None,
    until: datetime | None,
    *,
    ratings_max: int = _NEWEST_MAX,
    said_before: datetime | None = None,
) -> Select[Any]:
    """(at, tenant, endpoint, quality) of requests of that time: the latest word, and whose answer it was about.

    Of the newest `ratings_max` words before `said_before`. Ranks rather than joins of maxima: every large table is
    entered by an index, for what was said alone.
    """
    said = select(feedback.c.seq, feedback.c.id, feedback.c.query_id, feedback.c.quality)
    said = said.where(_during(feedback.c.at, since, said_before))  # it comes after its decision
    newest = said.order_by(feedback.c.at.desc()).limit(ratings_max).subquery().c
    standing = (
        select(newest.query_id, newest.quality, _rank(newest.query_id, newest.seq)).where(stands(newest.id)).subquery()
    )
    of_decision = (decisions.c.at, decisions.c.tenant)
    answered = (
        select(*of_decision, attempts.c.endpoint, standing.c.quality, _rank(attempts.c.query_id, attempts.c.number))
        .select_from(standing)
        .join(decisions, decisions.c.query_id == standing.c.query_id)
        .join(attempts, attempts.c.query_id == standing.c.query_id)
        .where(standing.c.rank == 1, attempts.c.status == 200, _during(decisions.c.at, since, until))
        .subquery()
    ).c
    return select(answered.at, answered.tenant, answered.endpoint, answered.quality).where(answered.rank == 1)


def _qualities(group_by: GroupBy, since: datetime | None, until: datetime | None) -> Select[Any]:
    of = credited(since, until).subquery().c
    group = {"endpoint": of.endpoint, "tenant": of.tenant, "day": UtcDay(of.at)}[group_by].label("group")
    return select(group, func.avg(of.quality).label("quality"), func.count().label("rated")).group_by(group)


def _rank(within: ColumnElement[Any], by: ColumnElement[Any]) -> ColumnElement[int]:
    """1 for the last one of each."""
    return func.row_number().over(partition_by=within, order_by=by.desc()).label("rank")


def _undispatched(group_by: GroupBy, during: ColumnElement[bool]) -> Select[Any]:
    columns = {"endpoint": open_calls.c.endpoint, "tenant": open_calls.c.tenant, "day": UtcDay(open_calls.c.at)}
    group = columns[group_by].label("group")
    expected = func.coalesce(func.sum(open_calls.c.expected_nusd), 0).label("undispatched_nusd")
    return select(group, func.count().label("undispatched"), expected).where(during).group_by(group)
