"""From what a router brought at every dial to the figures of a report, all plain JSON values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.aiq_bootstrap import Dials, bootstrap_aiq
from router_gateway.evaluation.areas import area, area50, qnc
from router_gateway.evaluation.calibration import brier, coverage, reliability, single_answer_variance
from router_gateway.evaluation.gains import (
    arena_score,
    cost_at_equal_quality,
    endpoints_used,
    quality_at_equal_cost,
    selection_entropy_bits,
)
from router_gateway.evaluation.metrics import (
    Curve,
    aiq_of_hulls,
    endpoint_points,
    gap_closed,
    hull,
    oracle,
    oracle_curve,
    realised,
)
from router_gateway.evaluation.sweep import Expected

TASKS_LISTED_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The outcomes of a test and what follows from them alone.

    quality, cost_usd : (Q, E) over the pool, NaN where unknown
    endpoints : E names; tasks : Q names
    best_single, cheapest : by the learnable outcomes, each as an `Expected` with one dial
    """

    quality: Floats
    cost_usd: Floats
    endpoints: tuple[str, ...]
    tasks: tuple[str, ...]
    columns: Ints
    best_single: Expected
    cheapest: Expected

    def singles(self) -> Curve:
        """One point per endpoint."""
        return endpoint_points(self.quality, self.cost_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The zero router, the oracle and the singles of a test, and their AIQ; computed once per test."""

    singles: Curve
    zero: Curve
    oracle: Curve
    zero_aiq: float
    oracle_aiq: float

    @classmethod
    def of(cls, ground: Ground) -> Bounds:
        singles = ground.singles()
        zero, best = hull(singles), oracle_curve(ground.quality, ground.cost_usd)
        return cls(
            singles=singles,
            zero=zero,
            oracle=best,
            zero_aiq=aiq_of_hulls(zero, zero),
            oracle_aiq=aiq_of_hulls(best, zero),
        )


def judge(expected: Expected, ground: Ground, bounds: Bounds, worth_usd: Floats) -> dict[str, Any]:
    """Everything a report says of one router on one test; what cannot be said is None.

    `cost_at_best_single_quality` is the least mean USD at which the hull of the router's points is as good as the
    best single endpoint (by train) is on this test; `..._share` the same as a share of that endpoint's cost.
    `quality_at_zero_price` is the quality where price plays no part.
    """
    curve = expected.curve
    own = hull(curve)
    value = aiq_of_hulls(own, bounds.zero)
    single = ground.best_single.curve
    single_quality, single_cost = float(single.quality[0]), float(single.cost_usd[0])
    equal_cost = cost_at_equal_quality(curve, single_quality)
    figures: dict[str, Any] = {
        "queries": len(ground.quality),
        "aiq": value,
        "zero": bounds.zero_aiq,
        "oracle": bounds.oracle_aiq,
        "gap_closed": gap_closed(value, bounds.zero_aiq, bounds.oracle_aiq),
        "quality_at_zero_price": curve.quality[0],
        "cost_at_zero_price": curve.cost_usd[0],
        "best_single_quality": single_quality,
        "best_single_cost": single_cost,
        "cost_at_best_single_quality": equal_cost,
        "cost_at_best_single_quality_share": equal_cost / single_cost if single_cost > 0 else math.nan,
        "quality_at_best_single_cost": quality_at_equal_cost(curve, single_cost),
        "area": area(curve, bounds.singles),
        "area50": area50(curve, bounds.singles),
        "qnc": qnc(curve, bounds.singles),
        "arena_score": float(arena_score(curve.quality, curve.cost_usd).max()),
    }
    if (expected.picks >= 0).all():
        shares = expected.shares(int(ground.columns.max()) + 1)[:, ground.columns]
        figures["selection_entropy_bits"] = [selection_entropy_bits(s) for s in shares]
        figures["endpoints_used"] = max(endpoints_used(s) for s in shares)
        figures["shares"] = shares
    figures["tasks"] = by_task(expected.quality[0], expected.cost_usd[0], ground.tasks)
    figures["curve"] = {"worth_usd": worth_usd, "cost_usd": curve.cost_usd, "quality": curve.quality}
    return plain(figures)


def describe(ground: Ground, bounds: Bounds) -> dict[str, Any]:
    """The test itself: singles, zero router and oracle as curves, and what the oracle reaches in each task."""
    best = realised(ground.quality, ground.cost_usd, oracle(ground.quality, ground.cost_usd))
    return plain(
        {
            "queries": len(ground.quality),
            "endpoints": ground.endpoints,
            "best_single": int(ground.best_single.picks[0, 0]),
            "zero_aiq": bounds.zero_aiq,
            "oracle_aiq": bounds.oracle_aiq,
            "oracle_tasks": by_task(best.quality, best.cost_usd, ground.tasks),
            "singles": _points(bounds.singles),
            "zero": _points(bounds.zero),
            "oracle": _points(_thinned(bounds.oracle)),
        }
    )


def gap_interval(expected: Expected, ground: Ground, *, resamples: int, seed: int) -> dict[str, float]:
    """The 95 % bootstrap interval over queries of the gap closed and of the AIQ above the zero router's."""
    drawn = bootstrap_aiq(
        {"router": Dials(quality=expected.quality, cost_usd=expected.cost_usd)},
        ground.quality,
        ground.cost_usd,
        resamples=resamples,
        seed=seed,
    )
    gap = drawn.gap_closed["router"].interval()
    gain = drawn.routers["router"].minus(drawn.zero).interval()
    return {"gap_closed_low": gap[0], "gap_closed_high": gap[1], "gain_low": gain[0], "gain_high": gain[1]}


def calibration(predicted: Floats, stddev: Floats, observed: Floats) -> dict[str, Any]:
    """Reliability of predicted quality over all observed cells; each (Q, E)."""
    bins = reliability(predicted, observed)
    noise = single_answer_variance(predicted)
    return plain(
        {
            "predicted": bins.predicted,
            "observed": bins.observed,
            "count": bins.count,
            "ece": bins.ece,
            "brier": brier(predicted, observed),
            "coverage_95": coverage(predicted, stddev, observed, answer_variance=noise),
        }
    )


def by_task(quality: Floats, cost_usd: Floats, tasks: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Mean quality and cost of each task, the largest TASKS_LISTED_MAX of them."""
    names, own, counts = np.unique(np.array(tasks), return_inverse=True, return_counts=True)
    listed = np.argsort(-counts, kind="stable")[:TASKS_LISTED_MAX]
    means = [np.bincount(own, weights=v) / counts for v in (quality, cost_usd)]
    return {
        str(names[i]): {"queries": int(counts[i]), "quality": float(means[0][i]), "cost_usd": float(means[1][i])}
        for i in sorted(listed)
    }


def plain(figures: dict[str, Any]) -> dict[str, Any]:
    """`as_json` of a whole report."""
    return {str(key): as_json(value) for key, value in figures.items()}


def as_json(value: Any) -> Any:
    """Plain values; what is no finite number is None (JSON has no infinity)."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _points(curve: Curve) -> dict[str, Floats]:
    return {"cost_usd": curve.cost_usd, "quality": curve.quality}


def _thinned(curve: Curve, points: int = 200) -> Curve:
    """An oracle's hull has a corner per query; a drawing needs fewer."""
    at = np.unique(np.linspace(0, len(curve) - 1, points).round().astype(np.int64))
    return Curve(cost_usd=curve.cost_usd[at], quality=curve.quality[at])
