"""Requests, money, errors, latency and quality by endpoint over time: what the dashboard's first page draws.

From the totals by hour. Quality is of the newest ratings and what was expected of the newest decisions, both of a
bounded number: the page is there within a second however many rows there are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

import numpy as np
from sqlalchemy import Connection, Engine, select

from router_gateway.core.errors import RequestError
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.core.types import Floats, Ints
from router_gateway.ledger.connections import reading
from router_gateway.ledger.hours import BUCKETS, SUMS, hour_of, percentiles_ms, read_hours, unpack
from router_gateway.ledger.reports import credited
from router_gateway.ledger.tables import decisions

Step = Literal["hour", "day"]
Steps = tuple[datetime, ...]

STEPS_MAX = 750
_RATINGS_MAX = 3_000
_LATE = timedelta(days=7)
"""Ratings that come later than this after the end of the time asked for are not looked for."""
_DECISIONS_MAX = 1_000
_KEY_CHARS = {"hour": 13, "day": 10}
"""Of an hour's name, how much names the step."""
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
        hours = read_hours(connection, start, end)
        said = connection.execute(credited(start, end, ratings_max=_RATINGS_MAX, said_before=end + _LATE)).all()
        expectations = _expectations(connection, start, end)
    names = sorted({row.endpoint for row in (*hours, *said)})
    counted = _Counted.nothing(len(names), len(steps))
    counted.add_hours([tuple(row) for row in hours], names, steps, step)
    counted.add_ratings([tuple(row) for row in said], names, steps, step)
    return Overview(
        since=start,
        until=end,
        step=step,
        steps=steps,
        cells={name: counted.cells(place) for place, name in enumerate(names)},
        of_endpoint=dict(zip(names, counted.over(steps=True).cells(None), strict=True)),
        total=counted.over(steps=True, endpoints=True).cells(None)[0],
        expectations=expectations,
    )


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


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted, by endpoint and step: sums (E, S, SUMS), latency (E, S, BUCKETS), quality and rated (E, S)."""

    sums: Ints
    latency: Ints
    quality: Floats
    rated: Ints

    @classmethod
    def nothing(cls, endpoints: int, steps: int) -> Self:
        shape = endpoints, steps
        return cls(
            np.zeros((*shape, len(SUMS)), dtype=np.int64),
            np.zeros((*shape, BUCKETS), dtype=np.int64),
            np.zeros(shape),
            np.zeros(shape, dtype=np.int64),
        )

    def add_hours(self, rows: Sequence[Sequence[Any]], names: Sequence[str], steps: Steps, step: Step) -> None:
        """Rows of `read_hours`."""
        if not rows:
            return
        endpoint, place = {name: i * len(steps) for i, name in enumerate(names)}, _places(steps, step)
        cell = np.array([endpoint[name] + place[hour[: _KEY_CHARS[step]]] for hour, name, *_ in rows])
        order = np.argsort(cell, kind="stable")
        cells, first = np.unique(cell[order], return_index=True)
        sums = np.array([row[2:-1] for row in rows], dtype=np.int64)
        for mine, values in ((self.sums, sums), (self.latency, unpack(*(row[-1] for row in rows)))):
            mine.reshape(-1, mine.shape[-1])[cells] = np.add.reduceat(values[order], first, axis=0)

    def add_ratings(self, rows: Sequence[Sequence[Any]], names: Sequence[str], steps: Steps, step: Step) -> None:
        """Rows of `credited`."""
        endpoint, place = {name: i for i, name in enumerate(names)}, _places(steps, step)
        for said_at, _, name, quality in rows:
            at = endpoint[name], place[hour_of(said_at)[: _KEY_CHARS[step]]]
            self.quality[at] += quality
            self.rated[at] += 1

    def over(self, *, steps: bool, endpoints: bool = False) -> _Counted:
        """Added up; one step is left, or one endpoint and one step."""
        axes = (*((0,) if endpoints else ()), *((1,) if steps else ()))
        parts = (self.sums, self.latency, self.quality, self.rated)
        return _Counted(*(part.sum(axis=axes, keepdims=True) for part in parts))

    def cells(self, endpoint: int | None) -> list[Cell]:
        """One endpoint's, a step each; None: every endpoint's first step."""
        which = (endpoint, slice(None)) if endpoint is not None else (slice(None), 0)
        latency = self.latency[which]
        p50, p95 = (percentiles_ms(latency, percent).tolist() for percent in (50, 95))
        return [
            Cell(
                **dict(zip(SUMS, sums, strict=True)),
                latency_p50_ms=None if math.isnan(median) else median,
                latency_p95_ms=None if math.isnan(high) else high,
                quality=quality / rated if rated else None,
                rated=rated,
            )
            for sums, median, high, quality, rated in zip(
                self.sums[which].tolist(),
                p50,
                p95,
                self.quality[which].tolist(),
                self.rated[which].tolist(),
                strict=True,
            )
        ]


def _places(steps: Steps, step: Step) -> dict[str, int]:
    """The steps by how their hours begin."""
    return {hour_of(at)[: _KEY_CHARS[step]]: place for place, at in enumerate(steps)}


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
