"""The cost-quality plane: hulls, the zero router, AIQ, oracle and random.

After RouterBench (arXiv 2403.12031), with two departures that its code makes necessary: AIQ is taken over a
range that no other router can move, and where no endpoint is right the oracle pays the cheapest, not nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.upgrades import upgrades

_SAME_COST = 1e-9
"""Relative difference of mean costs below which they count as equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """N points of the plane.

    cost_usd : float64 (N,), mean USD per request
    quality : float64 (N,), mean quality of the answers
    """

    cost_usd: Floats
    quality: Floats

    def __post_init__(self) -> None:
        if self.cost_usd.ndim != 1 or self.cost_usd.shape != self.quality.shape:
            raise ValueError(f"costs {self.cost_usd.shape} and qualities {self.quality.shape} must be (N,) alike")

    def __len__(self) -> int:
        return len(self.cost_usd)


def endpoint_points(quality: Floats, cost_usd: Floats) -> Curve:
    """One point per endpoint: means over the rows in which both are known.

    quality, cost_usd : (Q, E), NaN where not observed. An endpoint without such a row gives a NaN point.
    """
    known = np.isfinite(quality) & np.isfinite(cost_usd)
    count = known.sum(axis=0)
    rows = np.where(count > 0, count, np.nan)
    return Curve(
        cost_usd=np.where(known, cost_usd, 0.0).sum(axis=0, dtype=np.float64) / rows,
        quality=np.where(known, quality, 0.0).sum(axis=0, dtype=np.float64) / rows,
    )


def hull(points: Curve) -> Curve:
    """The non-decreasing convex hull: the best mean quality for every mean cost, mixing points by coin flips.

    Upper concave envelope by monotone chain over the points sorted by (cost, falling quality), without
    those that cost more than an earlier point and give no more. Costs and qualities strictly increase.
    NaN points are passed over. Raises ValueError when none is left.
    """
    known = np.isfinite(points.cost_usd) & np.isfinite(points.quality)
    if not known.any():
        raise ValueError("a hull needs at least one point with cost and quality")
    cost, quality = points.cost_usd[known].astype(np.float64), points.quality[known].astype(np.float64)
    order = np.lexsort((-quality, cost))
    kept: list[tuple[float, float]] = []
    for at in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if kept and at[1] <= kept[-1][1]:
            continue  # dearer and no better than the best so far
        while len(kept) > 1 and not _turns_right(kept[-2], kept[-1], at):
            kept.pop()
        kept.append(at)
    return Curve(cost_usd=np.array([c for c, _ in kept]), quality=np.array([q for _, q in kept]))


def _turns_right(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether `middle` lies strictly above the segment from `first` to `last`."""
    run, rise = last[0] - first[0], last[1] - first[1]
    return (middle[1] - first[1]) * run > (middle[0] - first[0]) * rise


def zero_router(points: Curve) -> Curve:
    """The hull of the endpoints' own points: it knows nothing of the query and flips a budgeted coin.

    A router that is not above it at its cost has learned nothing.
    """
    return hull(points)


def value_at(curve: Curve, cost_usd: Floats | float, *, left: float | None = None) -> Floats:
    """Quality of a hull at the given mean costs, float64 of their shape.

    Linear between points, flat on the right (paying more gains nothing), and `left` before the first point;
    by default the first point's quality.
    """
    return np.asarray(np.interp(cost_usd, curve.cost_usd, curve.quality, left=left))


def aiq(router: Curve, endpoints: Curve) -> float:
    """Average quality over the range of costs that the endpoints span, in [0, 1].

        AIQ = 1 / (c_max - c_min) · ∫ R(c) dc  from c_min to c_max

    R is the hull of the router's points; c_min is the cheapest endpoint's cost and c_max that of the
    dearest endpoint on the zero router, so that no other router in a comparison can move the number. Left
    of the router's first point R is the zero router. Where c_max = c_min it is R there.
    The integral of RouterBench (arXiv 2403.12031, section 4), exact for piecewise linear R.
    """
    return aiq_of_hulls(hull(router), zero_router(endpoints))


def aiq_of_hulls(own: Curve, zero: Curve) -> float:
    """`aiq` of two curves that are hulls already: cost and quality rise, more slowly from point to point."""
    low, high = float(zero.cost_usd[0]), float(zero.cost_usd[-1])
    start = min(max(float(own.cost_usd[0]), low), high)
    slack = _SAME_COST * high  # equal costs, averaged over queries in another order, differ in their last bits
    if high - low <= slack:
        return float(value_at(own if own.cost_usd[0] <= high + slack else zero, high + slack))
    reached = own.cost_usd[0] <= high
    area = _area(zero, low, start) + (_area(own, start, high) if reached else 0.0)
    return area / (high - low)


def gap_closed(router: float, zero: float, oracle: float) -> float:
    """The router's share of the way from the zero router's AIQ to the oracle's; NaN where there is no way to go.

    0 is a coin flip's worth, 1 is knowing every answer beforehand, below 0 is worse than flipping coins.
    """
    return (router - zero) / (oracle - zero) if oracle > zero else float("nan")


def _area(curve: Curve, low: float, high: float) -> float:
    inner = curve.cost_usd[(curve.cost_usd > low) & (curve.cost_usd < high)]
    knots = np.concatenate([[low], inner, [high]])
    return float(np.trapezoid(value_at(curve, knots), knots))


def oracle(quality: Floats, cost_usd: Floats) -> Ints:
    """int64 (Q,): the endpoint with the highest quality, of equals the cheapest, of those the first.

    NaN quality is never chosen, NaN cost is the dearest. Raises ValueError when a row has no known quality.
    """
    if not np.isfinite(quality).any(axis=1).all():
        raise ValueError("the oracle needs a known quality in every row")
    known = np.where(np.isfinite(quality), quality, -np.inf)
    best = known == known.max(axis=1, keepdims=True)
    price = np.where(best, np.where(np.isfinite(cost_usd), cost_usd, np.finfo(np.float64).max), np.inf)
    return np.asarray(price.argmin(axis=1))


def oracle_curve(quality: Floats, cost_usd: Floats) -> Curve:
    """The hull of the oracle for every trade-off: no router on the same outcomes lies above it.

    For each λ ≥ 0 it answers every query with the endpoint that maximises quality - λ · cost_usd. Exact: all λ
    at once, by the steps of `upgrades`. Its dearest point is `oracle`; it starts at the cheapest endpoint of
    each query. `oracle` alone has a lower AIQ, for it pays for the last right answer whatever that costs.

    quality, cost_usd : (Q, E), NaN where not observed; such an endpoint is no choice for that query.
    Raises ValueError without any query, and when a query has no endpoint with both.
    """
    steps = upgrades(quality, cost_usd)
    count = len(steps.start_cost_usd)
    cost, gained = steps.frontier(np.full(count, 1.0 / count))
    return hull(Curve(cost_usd=cost, quality=gained))


def realised(quality: Floats, cost_usd: Floats, chosen: Ints) -> Curve:
    """What a choice per query brought: quality and cost of the chosen cells, (Q,) each."""
    rows = np.arange(len(chosen))
    return Curve(cost_usd=cost_usd[rows, chosen].astype(np.float64), quality=quality[rows, chosen].astype(np.float64))


def random_point(endpoints: Curve) -> Curve:
    """The expected point of a uniform choice: the mean of the endpoints' points."""
    return Curve(
        cost_usd=np.array([np.nanmean(endpoints.cost_usd)]),
        quality=np.array([np.nanmean(endpoints.quality)]),
    )
