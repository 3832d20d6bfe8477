"""One realised routing beside what needs no learning: the table that says whether routing paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.bootstrap import RESAMPLES, interval, resampled_means
from router_gateway.evaluation.metrics import (
    Curve,
    endpoint_points,
    oracle,
    random_point,
    realised,
    value_at,
    zero_router,
)

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Mean quality and mean USD per request, each with its 95 % bootstrap interval over queries."""

    quality: float
    quality_low: float
    quality_high: float
    cost_usd: float
    cost_usd_low: float
    cost_usd_high: float
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference with its 95 % bootstrap interval; zero inside means: not told apart."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The rows, in the order they are shown, and what they come to.

    gain : quality of the routing minus that of the zero router at the routing's own cost
    quality_over_best_single, cost_saved : against the best single endpoint; the saving is a share of its cost
    shares : (endpoint, share of the requests)
    """

    queries: int
    rows: dict[str, Row]
    gain: Difference
    quality_over_best_single: Difference
    cost_saved: Difference
    shares: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the rows by name at the top level, then `queries`, `gain`, … and `shares` by endpoint."""
        return {
            **{name: asdict(row) for name, row in self.rows.items()},
            "queries": self.queries,
            "gain": asdict(self.gain),
            "quality_over_best_single": asdict(self.quality_over_best_single),
            "cost_saved": asdict(self.cost_saved),
            "shares": dict(self.shares),
        }


def compare(
    benchmark: Benchmark,
    chosen: Ints | Sequence[int],
    *,
    best_single: str,
    cheapest: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare the routing `chosen` with the rows of policies.md: best single, cheapest, random, zero router, oracle.

    chosen : int (Q,), position in `benchmark.endpoints`
    best_single : the endpoint that was best on the training data; to choose it here would be to peek
    cheapest : likewise; by default the endpoint with the lowest mean cost in this table

    Every resample of the queries recomputes all rows, the zero router's hull included, so the differences are
    paired. Where the routing costs less than any endpoint, the zero router is credited with the cheapest.
    Raises ValueError unless every cell has quality and cost (`benchmark.select(benchmark.complete())`).
    """
    picks = np.asarray(chosen)
    _check(benchmark, picks, best_single, cheapest)
    singles = endpoint_points(benchmark.quality, benchmark.cost_usd)
    best = benchmark.endpoints.index(best_single)
    least = int(singles.cost_usd.argmin()) if cheapest is None else benchmark.endpoints.index(cheapest)
    routed = realised(benchmark.quality, benchmark.cost_usd, picks)
    ideal = realised(benchmark.quality, benchmark.cost_usd, oracle(benchmark.quality, benchmark.cost_usd))
    columns = np.column_stack(
        [routed.quality, routed.cost_usd, ideal.quality, ideal.cost_usd, benchmark.quality, benchmark.cost_usd]
    ).astype(np.float64)
    draws = resampled_means(columns, resamples=resamples, seed=seed)
    measured = np.concatenate([columns.mean(axis=0, keepdims=True), draws])  # row 0 is the sample itself
    points = _points(measured, len(benchmark.endpoints), best, least)
    saved = 1.0 - points["routed"].cost_usd / _or_nan(points["best_single"].cost_usd)
    return Comparison(
        queries=len(benchmark),
        rows={
            name: _row(curve, {"best_single": best_single, "cheapest": benchmark.endpoints[least]}.get(name))
            for name, curve in points.items()
        },
        gain=_difference(points["routed"].quality - points["zero_router"].quality),
        quality_over_best_single=_difference(points["routed"].quality - points["best_single"].quality),
        cost_saved=_difference(saved),
        shares=tuple((name, float((picks == i).mean())) for i, name in enumerate(benchmark.endpoints)),
    )


def _check(benchmark: Benchmark, picks: Ints, best_single: str, cheapest: str | None) -> None:
    width = len(benchmark.endpoints)
    if not len(benchmark) or picks.shape != (len(benchmark),):
        raise ValueError(f"{len(benchmark)} queries (at least one) and choices of shape {picks.shape} do not fit")
    if not np.issubdtype(picks.dtype, np.integer) or picks.min() < 0 or picks.max() >= width:
        raise ValueError(f"choices must be positions among {width} endpoints")
    for name in (best_single, cheapest):
        if name is not None and name not in benchmark.endpoints:
            raise ValueError(f"no endpoint {name!r} in the table")
    if lacking := int((~benchmark.complete()).sum()):
        raise ValueError(f"{lacking} queries lack a quality or a cost: compare benchmark.select(benchmark.complete())")


def _points(measured: Floats, width: int, best: int, least: int) -> dict[str, Curve]:
    """The rows' points in the sample and every resample: (1 + resamples,) each."""
    quality, cost = measured[:, 4 : 4 + width], measured[:, 4 + width :]
    routed = Curve(quality=measured[:, 0], cost_usd=measured[:, 1])
    zero = np.empty_like(routed.quality)
    zero_cost = np.empty_like(zero)
    random = np.empty((len(measured), 2))
    for draw, (own_quality, own_cost) in enumerate(zip(quality, cost, strict=True)):
        singles = Curve(quality=own_quality, cost_usd=own_cost)
        coin = zero_router(singles)
        zero_cost[draw] = np.clip(routed.cost_usd[draw], coin.cost_usd[0], coin.cost_usd[-1])
        zero[draw] = value_at(coin, zero_cost[draw])
        mean = random_point(singles)
        random[draw] = mean.quality[0], mean.cost_usd[0]
    return {
        "routed": routed,
        "best_single": Curve(quality=quality[:, best], cost_usd=cost[:, best]),
        "cheapest": Curve(quality=quality[:, least], cost_usd=cost[:, least]),
        "random": Curve(quality=random[:, 0], cost_usd=random[:, 1]),
        "zero_router": Curve(quality=zero, cost_usd=zero_cost),
        "oracle": Curve(quality=measured[:, 2], cost_usd=measured[:, 3]),
    }


def _or_nan(cost_usd: Floats) -> Floats:
    return np.where(cost_usd > 0, cost_usd, np.nan)


def _row(points: Curve, endpoint: str | None) -> Row:
    quality, cost = _difference(points.quality), _difference(points.cost_usd)
    return Row(
        quality=quality.value,
        quality_low=quality.low,
        quality_high=quality.high,
        cost_usd=cost.value,
        cost_usd_low=cost.low,
        cost_usd_high=cost.high,
        endpoint=endpoint,
    )


def _difference(measured: Floats) -> Difference:
    low, high = interval(measured[1:]) if np.isfinite(measured[1:]).any() else (float("nan"), float("nan"))
    return Difference(value=float(measured[0]), low=low, high=high)


_TITLES = {
    "routed": "routed",
    "best_single": "best single",
    "cheapest": "cheapest",
    "random": "random",
    "zero_router": "zero router, same cost",
    "oracle": "oracle",
}


def table(comparison: Comparison, *, title: str | None = None) -> Table:
    """The comparison for a terminal."""
    from rich.table import Table

    drawn = Table(title=title, caption=_caption(comparison))
    drawn.add_column("")
    for heading in ("quality", "95 %", "USD per 1,000", "95 %"):
        drawn.add_column(heading, justify="right")
    for name, row in comparison.rows.items():
        drawn.add_row(
            _TITLES[name] if row.endpoint is None else f"{_TITLES[name]} ({row.endpoint})",
            f"{row.quality:.4f}",
            f"{row.quality_low:.4f} to {row.quality_high:.4f}",
            f"{row.cost_usd * 1000:.4f}",
            f"{row.cost_usd_low * 1000:.4f} to {row.cost_usd_high * 1000:.4f}",
        )
    return drawn


def _caption(comparison: Comparison) -> str:
    gain, saved = comparison.gain, comparison.cost_saved
    used = ", ".join(f"{name} {share:.0%}" for name, share in comparison.shares)
    return (
        f"{comparison.queries} requests: {used}\n"
        f"routed minus zero router {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}); "
        f"saved against best single {saved.value:.0%} ({saved.low:.0%} to {saved.high:.0%})"
    )
