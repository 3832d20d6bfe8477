"""Requests, money, errors, latency and quality by endpoint over time: what the dashboard's first page draws.

From the totals by hour. Quality is of the newest ratings and what was expected of the newest decisions, both of a
bounded number: the page is there within a second however many rows there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, select

from router_gateway.core.errors import RequestError
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.ledger.connections import reading
from router_gateway.ledger.hours import BUCKETS, SUMS, Counts, hour_of, percentile_ms, read_hours, unpack
from router_gateway.ledger.reports import credited
from router_gateway.ledger.tables import decisions

Step = Literal["hour", "day"]
Found = TypeVar("Found")

STEPS_MAX = 750
_RATINGS_MAX = 5_000
_LATE = timedelta(days=7)
"""Ratings that come later than this after the end of the time asked for are not looked for."""
_DECISIONS_MAX = 1_000
_LENGTH = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One endpoint in one step, or in all. `quality` is the mean of `rated` requests, None without any."""

    requests: int = 0
    attempts: int = 0
    errors: int = 0
    answers: int = 0
    tokens_prompt: int = 0
    tokens_completion: int = 0
    cost_nusd: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    quality: float | None = None
    rated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was expected of one endpoint, on average over the sampled decisions that could have gone there."""

    endpoint: str
    decisions: int
    quality: float
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """Of the newest scored decisions: of each endpoint, and of those that were chosen. The policy's own estimates."""

    decisions: int
    quality: float | None
    cost_usd: float | None
    endpoints: tuple[Expected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`cells` by endpoint, one a step; `of_endpoint` and `total` are of the whole time."""

    since: datetime
    until: datetime
    step: Step
    steps: tuple[datetime, ...]
    cells: Mapping[str, Sequence[Cell]]
    of_endpoint: Mapping[str, Cell]
    total: Cell
    expectations: Expectations
    ratings_max: int = _RATINGS_MAX


def read_overview(engine: Engine, since: datetime, until: datetime, step: Step) -> Overview:
    """Of whole steps of UTC: from the one of `since` to the one that `until` (timezone-aware) ends in.

    Raises RequestError naming `until` or `step`; LedgerUnavailable.
    """
    steps = steps_of(since, until, step)
    start, end = steps[0], steps[-1] + _LENGTH[step]
    with reading(engine) as connection:
        sums = _sums(connection, start, end, step)
        said = _said(connection, start, end, step)
        expectations = _expectations(connection, start, end)
    names = sorted({name for name, _ in (*sums, *said)})
    keys = [at.date().isoformat() if step == "day" else hour_of(at) for at in steps]
    return Overview(
        since=start,
        until=end,
        step=step,
        steps=steps,
        cells={name: [_cell([sums.get((name, key))], [said.get((name, key))]) for key in keys] for name in names},
        of_endpoint={name: _cell(_of(name, sums), _of(name, said)) for name in names},
        total=_cell([*sums.values()], [*said.values()]),
        expectations=expectations,
    )


def _of(name: str, found: Mapping[tuple[str, str], Found]) -> list[Found]:
    return [cell for (endpoint, _), cell in found.items() if endpoint == name]


def steps_of(since: datetime, until: datetime, step: Step) -> tuple[datetime, ...]:
    """The steps' beginnings. Raises RequestError where there are none, or too many."""
    start = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if step == "day":
        start = start.replace(hour=0)
    if until <= since:
        raise RequestError("`until` must be later than `since`", param="until")
    count = -((start - until) // _LENGTH[step])
    if count > STEPS_MAX:
        longer = "; `step=day` has room for more time" if step == "hour" else ""
        raise RequestError(f"{count} steps are too many, at most {STEPS_MAX}{longer}", param="step")
    return tuple(start + i * _LENGTH[step] for i in range(count))


@dataclass(slots=True)
class _Sum:
    of: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMS, 0))
    latency: Counts = field(default_factory=lambda: np.zeros(BUCKETS, dtype=np.int64))


@dataclass(slots=True)
class _Said:
    quality: float = 0.0
    rated: int = 0


def _sums(connection: Connection, since: datetime, until: datetime, step: Step) -> dict[tuple[str, str], _Sum]:
    found: dict[tuple[str, str], _Sum] = defaultdict(_Sum)
    for row in read_hours(connection, since, until):
        cell = found[row["endpoint"], row["hour"][:10] if step == "day" else row["hour"]]
        for name in SUMS:
            cell.of[name] += row[name]
        cell.latency += unpack(row["latency"])
    return found


def _said(connection: Connection, since: datetime, until: datetime, step: Step) -> dict[tuple[str, str], _Said]:
    found: dict[tuple[str, str], _Said] = defaultdict(_Said)
    query = credited(since, until, ratings_max=_RATINGS_MAX, said_before=until + _LATE)
    for at, _, endpoint, quality in connection.execute(query):
        cell = found[endpoint, at.date().isoformat() if step == "day" else hour_of(at)]
        cell.quality += quality
        cell.rated += 1
    return found


def _cell(sums: Sequence[_Sum | None], said: Sequence[_Said | None]) -> Cell:
    counted = [of for of in sums if of is not None]
    latency = sum((of.latency for of in counted), np.zeros(BUCKETS, dtype=np.int64))
    rated = sum(of.rated for of in said if of is not None)
    return Cell(
        **{name: sum(of.of[name] for of in counted) for name in SUMS},
        latency_p50_ms=percentile_ms(latency, 50),
        latency_p95_ms=percentile_ms(latency, 95),
        quality=sum(of.quality for of in said if of is not None) / rated if rated else None,
        rated=rated,
    )


def _expectations(connection: Connection, since: datetime, until: datetime) -> Expectations:
    columns = [decisions.c[name] for name in ("endpoint", "endpoints", "quality", "cost_usd", "eligible")]
    newest = (
        select(*columns)
        .where(decisions.c.at >= since, decisions.c.at < until, decisions.c.tenant != JUDGING_TENANT)
        .order_by(decisions.c.at.desc())
        .limit(_DECISIONS_MAX)
    )
    by_endpoint: dict[str, list[tuple[float, float]]] = defaultdict(list)
    chosen: list[tuple[float, float]] = []
    for endpoint, names, quality, cost_usd, eligible in connection.execute(newest):
        if not quality or endpoint not in names:
            continue
        expected = [(float(q), float(c)) for q, c in zip(quality, cost_usd, strict=True)]
        chosen.append(expected[names.index(endpoint)])
        for name, can, pair in zip(names, eligible, expected, strict=True):
            if can:
                by_endpoint[name].append(pair)
    means = {name: np.mean(pairs, axis=0) for name, pairs in by_endpoint.items()}
    overall = np.mean(chosen, axis=0) if chosen else None
    return Expectations(
        decisions=len(chosen),
        quality=None if overall is None else float(overall[0]),
        cost_usd=None if overall is None else float(overall[1]),
        endpoints=tuple(
            Expected(endpoint=n, decisions=len(by_endpoint[n]), quality=float(q), cost_usd=float(c))
            for n, (q, c) in sorted(means.items())
        ),
    )
