"""Cascades as columns of a table: call one endpoint after another until a judge of the answer is content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from router_gateway.core.types import Bools, Floats, Ints
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.metrics import Curve, aiq_of_hulls, endpoint_points, hull
from router_gateway.evaluation.splits import hash_order

LONGEST = 3
_QUANTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """Endpoints in the order in which they are called, and the judge that reads each answer.

    The judge accepts an answer of quality at least `accept`, but is wrong with probability `error`, independently
    for every query and endpoint: 0 is perfect, 1/2 a coin. The last endpoint's answer is taken as it is. Every
    call made is paid for and waited for.

    The simulated judge of RouterBench (arXiv 2403.12031, section 4.3), after FrugalGPT (Chen et al., 2023, arXiv
    2305.05176), whose judge is learned.
    """

    order: tuple[str, ...]
    accept: float = 1.0
    error: float = 0.0

    def __post_init__(self) -> None:
        if len(self.order) < 2 or len(set(self.order)) != len(self.order):
            raise ValueError(f"a cascade calls two or more endpoints, each once: {self.order}")
        if not 0.0 <= self.error <= 0.5:
            raise ValueError(f"a judge's error must lie in [0, 0.5], not {self.error}")

    @property
    def name(self) -> str:
        """As in "small>large@judge=0.1", with the bar where it is not 1."""
        judge = "perfect" if self.error == 0 else f"{self.error:g}"
        return ">".join(self.order) + f"@judge={judge}" + ("" if self.accept == 1.0 else f",accept={self.accept:g}")


def with_cascades(table: Benchmark, cascades: Sequence[Cascade]) -> Benchmark:
    """The table with a column per cascade behind its own.

    Quality and answer are those of the last call made; cost, tokens and latency are sums over the calls made. A
    cascade's outcome is unknown where that of a call it makes is. Which answers a judge misreads follows from
    the prompt and the endpoint alone, and those misread at one error are misread at any greater one.
    """
    if not cascades:
        return table
    judged = {name for cascade in cascades if cascade.error for name in cascade.order[:-1]}
    rank = {name: hash_order(table.prompts, salt=f"judge {name}") for name in judged}
    runs = [_run(table, cascade, rank) for cascade in cascades]
    last = [np.take_along_axis(at, (called.sum(axis=1) - 1)[:, None], axis=1) for at, called in runs]

    def summed(cells: Floats) -> Floats:
        sums = [np.where(called, np.take_along_axis(cells, at, axis=1), 0.0).sum(axis=1) for at, called in runs]
        return np.column_stack([cells, *sums])

    known = np.isfinite(summed(table.quality))[:, len(table.endpoints) :]
    quality = np.concatenate([np.take_along_axis(table.quality, at, axis=1) for at in last], axis=1)
    responses = table.responses
    if responses is not None:
        responses = np.concatenate([responses, *(np.take_along_axis(responses, at, axis=1) for at in last)], axis=1)
    return replace(
        table,
        endpoints=(*table.endpoints, *(cascade.name for cascade in cascades)),
        quality=np.concatenate([table.quality, np.where(known, quality, np.nan).astype(np.float32)], axis=1),
        cost_usd=summed(table.cost_usd),
        tokens_input=summed(table.tokens_input),
        tokens_output=summed(table.tokens_output),
        latency_ms=summed(table.latency_ms),
        responses=responses,
    )


def chosen(table: Benchmark, learnable: Bools, *, count: int, error: float) -> tuple[Cascade, ...]:
    """At most `count` cascades, by the outcomes in `learnable`, bool (Q, E), alone.

    Candidates call two or three endpoints of the zero router's hull, cheap to dear, with every bar that tells
    answers apart. Taken one at a time, each the one that lifts the hull of endpoints and cascades most, until
    none does: what they are worth to somebody who flips coins between them.
    """
    shown = replace(
        table,
        quality=np.where(learnable, table.quality, np.nan),
        cost_usd=np.where(learnable, table.cost_usd, np.nan),
    ).select(np.flatnonzero(learnable.any(axis=1)))
    candidates = tuple(_candidates(shown, error))
    offered = with_cascades(replace(shown, responses=None), candidates)
    points = endpoint_points(offered.quality, offered.cost_usd)
    own = list(range(len(table.endpoints)))
    zero = hull(_some(points, own))
    taken: list[int] = []
    best = aiq_of_hulls(zero, zero)
    while len(taken) < count:
        values = [aiq_of_hulls(hull(_some(points, [*own, *taken, at])), zero) for at in range(len(own), len(points))]
        if not values or max(values) <= best:
            break
        best = max(values)
        taken.append(len(own) + values.index(best))
    return tuple(candidates[at - len(own)] for at in taken)


def _candidates(table: Benchmark, error: float) -> Iterator[Cascade]:
    points = endpoint_points(table.quality, table.cost_usd)
    if not np.isfinite(points.cost_usd).any():
        return
    corners = hull(points)
    at = [
        int(np.flatnonzero((points.cost_usd == c) & (points.quality == q))[0])
        for c, q in zip(corners.cost_usd, corners.quality, strict=True)
    ]
    levels = np.unique(table.quality[np.isfinite(table.quality)].astype(np.float64))
    if len(levels) < 2:
        return  # nothing for a judge to tell apart
    bars = np.unique(np.quantile(levels[1:], _QUANTILES, method="nearest"))
    for length in range(2, LONGEST + 1):
        for order in combinations(at, length):
            for bar in bars:
                yield Cascade(order=tuple(table.endpoints[e] for e in order), accept=float(bar), error=error)


def _run(table: Benchmark, cascade: Cascade, rank: Mapping[str, Floats]) -> tuple[Ints, Bools]:
    """Columns in calling order, int64 (Q, L), and which of the calls are made, bool (Q, L).

    rank : by endpoint, float64 (Q,) in [0, 1); its answers below the error are misread
    """
    if missing := [name for name in cascade.order if name not in table.endpoints]:
        raise ValueError(f"no outcomes of {', '.join(missing)}: the table has {', '.join(table.endpoints)}")
    columns = [table.endpoints.index(name) for name in cascade.order]
    called = np.ones((len(table), len(columns)), dtype=bool)
    for i, column in enumerate(columns[:-1]):
        accepted = table.quality[:, column] >= cascade.accept
        if cascade.error:
            accepted ^= rank[table.endpoints[column]] < cascade.error
        called[:, i + 1] = called[:, i] & ~accepted
    return np.tile(columns, (len(table), 1)), called


def _some(points: Curve, at: Sequence[int]) -> Curve:
    return Curve(cost_usd=points.cost_usd[at], quality=points.quality[at])
