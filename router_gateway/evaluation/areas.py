"""Areas under cost-quality curves as other papers define them, each under its own name.

They are different integrals over different ranges with different ends, so their values may never share a
column, neither with each other nor with `metrics.aiq`, which is ours. Costs are mean USD per request. Points
with a NaN are passed over everywhere; a curve without any other point raises ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.metrics import Curve, hull

REACHED = 1e-9
"""Means of the same answers, summed in another order, still count as equal quality."""

AUDC_GRID = 25


def swept(points: Curve) -> Curve:
    """The points by rising cost, of equally dear ones only the best. Costs strictly increase."""
    known = np.isfinite(points.cost_usd) & np.isfinite(points.quality)
    if not known.any():
        raise ValueError("a curve needs at least one point with cost and quality")
    cost, quality = points.cost_usd[known].astype(np.float64), points.quality[known].astype(np.float64)
    order = np.lexsort((-quality, cost))
    cost, quality = cost[order], quality[order]
    first = np.concatenate([[True], np.diff(cost) > 0])
    return Curve(cost_usd=cost[first], quality=quality[first])


def pareto(points: Curve) -> Curve:
    """The points that no other beats at its cost or below. Costs and qualities strictly increase."""
    curve = swept(points)
    best_so_far = np.maximum.accumulate(np.concatenate([[-np.inf], curve.quality[:-1]]))
    kept = curve.quality > best_so_far
    return Curve(cost_usd=curve.cost_usd[kept], quality=curve.quality[kept])


def aiq_routerbench_code(routers: Mapping[str, Curve]) -> dict[str, float]:
    """AIQ as RouterBench's released code computes it (`calc_AIQ`), for all routers of a comparison at once.

        AIQ_code = 1 / X · ∫ R(c) dc  from R's first point to X = the largest cost on any router's hull

    The paper (arXiv 2403.12031, section 4) divides by the width of the range instead. Here what lies left of
    a router's first point counts nothing, a single point at X is worth 0, and a dearer router changes the
    value of every other. NaN where X is 0.
    """
    hulls = {name: hull(points) for name, points in routers.items()}
    dearest = max((float(own.cost_usd[-1]) for own in hulls.values()), default=0.0)
    return {name: _to_the_right(own, dearest) / dearest if dearest > 0 else float("nan") for name, own in hulls.items()}


def _to_the_right(curve: Curve, end_usd: float) -> float:
    cost = np.append(curve.cost_usd, end_usd)
    return float(np.trapezoid(np.append(curve.quality, curve.quality[-1]), cost))


def area(router: Curve, endpoints: Curve, *, share: float = 1.0) -> float:
    """UniRoute's Area (arXiv 2502.08773): under the deferral curve, over costs up to `share` of the dearest endpoint.

        Area(s) = ∫ quality(u) du  from u = 0 to s,   u = cost / cost of the dearest endpoint

    Linear between the router's Pareto points, flat before the first and after the last. Not divided by
    `share`: Area(50 %) of a perfect router is 0.5. NaN where the dearest endpoint costs nothing.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    curve, dearest = pareto(router), float(swept(endpoints).cost_usd[-1])
    if dearest <= 0:
        return float("nan")
    part = curve.cost_usd / dearest
    knots = np.concatenate([[0.0], part[(part > 0) & (part < share)], [share]])
    return float(np.trapezoid(np.interp(knots, part, curve.quality), knots))


def area50(router: Curve, endpoints: Curve) -> float:
    """`area` over the cheaper half of the costs, in [0, 0.5]."""
    return area(router, endpoints, share=0.5)


def best_single(endpoints: Curve) -> tuple[float, float]:
    """(quality, cost_usd) of the endpoint with the highest mean quality, of equals the cheapest."""
    curve = pareto(endpoints)
    return float(curve.quality[-1]), float(curve.cost_usd[-1])


def qnc(router: Curve, endpoints: Curve) -> float:
    """Quality-neutral cost (UniRoute, arXiv 2502.08773): a share of the best endpoint's cost, in (0, inf].

        QNC = least cost at which the router is as good as the best single endpoint / that endpoint's cost

    Linear between the router's Pareto points; inf where it never gets there. NaN where the best endpoint costs
    nothing. The QNC that CSCR's code prints is another number: the cost in `peak`.
    """
    quality, cost_usd = best_single(endpoints)
    if cost_usd <= 0:
        return float("nan")
    return cost_to_reach(pareto(router), quality) / cost_usd


def cost_to_reach(curve: Curve, quality: float) -> float:
    """Least mean USD at which a curve of rising quality has `quality`; inf where it never has (see `REACHED`)."""
    if quality > curve.quality[-1] + REACHED:
        return float("inf")
    return float(np.interp(quality, curve.quality, curve.cost_usd))


def audc(routers: Mapping[str, Curve], *, grid: int = AUDC_GRID) -> dict[str, float]:
    """Area under the deferral curve as CSCR's code computes it (arXiv 2508.12491), for all routers compared.

        AUDC = 1 / (c_max - c_min) · trapezoid over `grid` equally spaced costs from c_min to c_max

    c_min and c_max are the least and the largest cost of any router's points, so routers move each other's
    value. Linear between a router's points as swept (not the hull), and outside them the nearest point's
    quality: one that has only dear points is credited with their quality for little money. Where c_min = c_max it is
    the best quality there. `grid` is 20 to 25 in that code.
    """
    if grid < 2:
        raise ValueError(f"the grid needs at least two costs, not {grid}")
    curves = {name: swept(points) for name, points in routers.items()}
    if not curves:
        return {}
    low = min(float(curve.cost_usd[0]) for curve in curves.values())
    high = max(float(curve.cost_usd[-1]) for curve in curves.values())
    costs = np.linspace(low, high, grid)
    return {name: _mean_over(costs, np.interp(costs, c.cost_usd, c.quality)) for name, c in curves.items()}


def _mean_over(costs: Floats, quality: Floats) -> float:
    span = costs[-1] - costs[0]
    return float(np.trapezoid(quality, costs) / span) if span > 0 else float(quality[0])


def peak(router: Curve) -> tuple[float, float]:
    """(quality, cost_usd) of the router's best point, of equals the cheapest.

    The cost is what CSCR's code calls QNC (arXiv 2508.12491): an amount, not the ratio its text defines.
    """
    return best_single(router)
