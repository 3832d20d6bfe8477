"""How sure an AIQ is: the bootstrap over queries of routers, zero router, oracle and the gap closed between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.bootstrap import LEVEL, RESAMPLES, interval, resampling_counts
from router_gateway.evaluation.metrics import Curve, aiq_of_hulls, gap_closed, hull, zero_router
from router_gateway.evaluation.upgrades import Upgrades, upgrades

_BLOCK_CELLS = 500_000  # of weights times steps at once: 4 MB, about what a core's cache holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """A router swept over D settings of its dial.

    quality, cost_usd : float (D, Q), each query's expected quality and USD under the rule's probabilities
    """

    quality: Floats
    cost_usd: Floats

    def __post_init__(self) -> None:
        if self.quality.ndim != 2 or self.quality.shape != self.cost_usd.shape or not self.quality.size:
            raise ValueError(f"qualities {self.quality.shape} and costs {self.cost_usd.shape} must be (D, Q) alike")
        if not (np.isfinite(self.quality).all() and np.isfinite(self.cost_usd).all()):
            raise ValueError("a router's expected qualities and costs must be known for every query")

    def curve(self) -> Curve:
        """One point per setting: means over the queries."""
        return Curve(
            cost_usd=self.cost_usd.mean(axis=1, dtype=np.float64), quality=self.quality.mean(axis=1, dtype=np.float64)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A figure of the sample itself, and of R resamples: float64 (R,), NaN where it is not defined."""

    value: float
    samples: Floats

    def interval(self, *, level: float = LEVEL) -> tuple[float, float]:
        """The middle `level` of the resamples; NaN where none has a value."""
        known = np.isfinite(self.samples).any()
        return interval(self.samples, level=level) if known else (float("nan"), float("nan"))

    def minus(self, other: Sampled) -> Sampled:
        """The paired difference: both must come from one table of outcomes, with one seed."""
        return Sampled(value=self.value - other.value, samples=self.samples - other.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class AiqBootstrap:
    """AIQ of everything, and each router's share of the gap from the zero router to the oracle."""

    zero: Sampled
    oracle: Sampled
    routers: dict[str, Sampled]
    gap_closed: dict[str, Sampled]


def bootstrap_aiq(
    routers: Mapping[str, Dials], quality: Floats, cost_usd: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> AiqBootstrap:
    """Draw Q queries with replacement `resamples` times; hulls, cost range and oracle are found anew in each.

    routers : by name, (D, Q) each; quality, cost_usd : (Q, E), NaN where not observed

    The rows drawn depend on Q and `seed` alone, so figures of two calls on the same queries are paired too
    (`Sampled.minus`). Raises ValueError for a router of other queries, or a query without any outcome.
    """
    count = len(quality)
    if strangers := [name for name, dials in routers.items() if dials.quality.shape[1] != count]:
        raise ValueError(f"{', '.join(strangers)}: not swept over the table's {count} queries")
    steps = upgrades(quality, cost_usd)
    known = np.isfinite(quality) & np.isfinite(cost_usd)
    endpoints = np.where(known, quality, 0.0).astype(np.float64), np.where(known, cost_usd, 0.0)
    tables = {name: (dials.quality.T.astype(np.float64), dials.cost_usd.T) for name, dials in routers.items()}
    found: list[tuple[float, ...]] = []
    for counts in _sample_first(count, resamples, seed):
        seen = counts @ known
        singles = [_means(counts, part, np.where(seen > 0, seen, np.nan)) for part in endpoints]
        zeros = [zero_router(Curve(quality=q, cost_usd=c)) for q, c in zip(*singles, strict=True)]
        columns = [[aiq_of_hulls(zero, zero) for zero in zeros], _oracle(steps, counts / count, zeros)]
        for table in tables.values():
            points = zip(*(_means(counts, part, float(count)) for part in table), zeros, strict=True)
            columns.append([aiq_of_hulls(hull(Curve(quality=q, cost_usd=c)), zero) for q, c, zero in points])
        found.extend(zip(*columns, strict=True))
    return _gathered(np.array(found), list(tables))


def _sample_first(count: int, resamples: int, seed: int) -> Iterator[Floats]:
    """The sample itself, every query once, then the resamples."""
    yield np.ones((1, count))
    yield from resampling_counts(count, resamples=resamples, seed=seed)


def _means(counts: Floats, values: Floats, rows: Floats | float) -> Floats:
    return np.asarray(counts @ values / rows)


def _oracle(steps: Upgrades, weights: Floats, zeros: list[Curve]) -> list[float]:
    found = []
    block = max(1, _BLOCK_CELLS // (len(steps.query) + 1))
    for start in range(0, len(weights), block):
        cost, quality = steps.frontier(weights[start : start + block])
        for own_cost, own_quality, zero in zip(cost, quality, zeros[start : start + block], strict=True):
            found.append(aiq_of_hulls(Curve(cost_usd=own_cost, quality=own_quality), zero))
    return found


def _gathered(found: Floats, names: list[str]) -> AiqBootstrap:
    zero, oracle, *routers = (Sampled(value=float(column[0]), samples=column[1:]) for column in found.T)
    closed = []
    for own in routers:
        samples = [gap_closed(*row) for row in zip(own.samples, zero.samples, oracle.samples, strict=True)]
        value = gap_closed(own.value, zero.value, oracle.value)
        closed.append(Sampled(value=value, samples=np.array(samples, dtype=np.float64)))
    return AiqBootstrap(
        zero=zero,
        oracle=oracle,
        routers=dict(zip(names, routers, strict=True)),
        gap_closed=dict(zip(names, closed, strict=True)),
    )
