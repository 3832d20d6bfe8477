"""What routing is compared with: every single endpoint, the cheapest, and a coin between singles at equal cost.

Which single endpoint is best, and between which of them a coin is worth flipping, is chosen on the sessions that the
candidate learned from, and valued on the others: chosen and valued on the same rows, they would look too good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.audit_result import Gains, Valued
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes
from router_gateway.evaluation.offpolicy import Estimate, overlap
from router_gateway.evaluation.paired import Bounds, Figures, Paired, at_equal_cost, interval

CANDIDATE, LOGGED, CHEAPEST, MIX = "candidate", "as logged", "cheapest per request", "random mix at equal cost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The table's rows, and what the candidate gains; None where either side is not identifiable, with the reason."""

    rows: tuple[Valued, ...]
    gains: Gains | None
    why: str


def compare(
    outcomes: LoggedOutcomes, learned: Ints, asked: Ints, paired: Paired, target: Floats, worth_usd: Floats
) -> Compared:
    """Value the candidate `target`, float64 (n, E), and what it is compared with.

    learned, asked : rows of `outcomes`; worth_usd : float64 (N,), the dial of every decision
    """
    singles = {name: always(outcomes, asked, column) for column, name in enumerate(outcomes.endpoints)}
    targets = {CANDIDATE: target, LOGGED: paired.log.probability, CHEAPEST: cheapest(outcomes, asked), **singles}
    figures = dict(zip(targets, paired.figures(list(targets.values())), strict=True))
    refused = {name: overlap(paired.log, each).refusal for name, each in targets.items()}
    rows = [_valued(name, targets[name], figures[name], paired, outcomes.endpoints) for name in targets]
    if refused[CANDIDATE]:
        return Compared(rows=tuple(rows), gains=None, why=refused[CANDIDATE])
    known = [name for name in singles if not refused[name]]
    best, corners = chosen(outcomes, learned, known, worth_usd)
    if best is None:
        why = "; ".join(f"{name}: {refused[name]}" for name in singles)
        return Compared(rows=tuple(rows), gains=None, why=f"no single endpoint to compare with ({why})")
    quality, weights = at_equal_cost([figures[name] for name in corners], figures[CANDIDATE].cost_usd)
    mixed = np.asarray(sum(w * singles[name] for w, name in zip(weights, corners, strict=True)))
    mix = paired.figures([mixed])[0]
    rows.append(_valued(MIX, mixed, mix, paired, outcomes.endpoints))
    own = figures[CANDIDATE]
    gains = Gains(
        quality_at_equal_cost=interval(own.quality - quality, paired.bounds_between(target, mixed)),
        mix=dict(zip(corners, weights.tolist(), strict=True)),
        best_single=best,
        net_over_best_single=_net_gain(own, figures[best], paired.bounds_between(target, singles[best])),
        quality_over_best_single=interval(own.quality - figures[best].quality),
        saving_over_best_single=interval(1.0 - own.cost_usd / figures[best].cost_usd),
        quality_over_logged=interval(own.quality - figures[LOGGED].quality),
        saving_over_logged=interval(1.0 - own.cost_usd / figures[LOGGED].cost_usd),
        usd_per_1000_saved_over_logged=interval(1000 * (figures[LOGGED].cost_usd - own.cost_usd)),
    )
    return Compared(rows=tuple(rows), gains=gains, why="")


def _net_gain(own: Figures, other: Figures, bounds: Bounds) -> Estimate:
    gain = own.net - other.net
    return interval(gain, bounds.shifted(float(gain[0] - (own.quality[0] - other.quality[0]))))


def always(outcomes: LoggedOutcomes, rows: Ints, column: int) -> Floats:
    """float64 (n, E): this endpoint wherever it is a candidate, the cheapest elsewhere."""
    target = cheapest(outcomes, rows)
    own = outcomes.candidate[rows, column]
    target[own] = 0.0
    target[own, column] = 1.0
    return target


def cheapest(outcomes: LoggedOutcomes, rows: Ints) -> Floats:
    """float64 (n, E): the candidate of the least expected cost."""
    target = np.zeros((len(rows), len(outcomes.endpoints)))
    cost = np.where(outcomes.candidate[rows], outcomes.expected_cost_usd[rows], np.inf)
    target[np.arange(len(rows)), cost.argmin(axis=1)] = 1.0
    return target


def chosen(
    outcomes: LoggedOutcomes, learned: Ints, names: list[str], worth_usd: Floats
) -> tuple[str | None, list[str]]:
    """The single endpoint of the greatest net value, and the corners of the zero router's hull, cheapest first."""
    rows = learned[outcomes.random[learned]]
    points: dict[str, tuple[float, float, float]] = {}
    for name in names:
        column = outcomes.endpoints.index(name)
        drawn = rows[outcomes.drawn[rows] == column]
        if len(drawn):
            weight = 1.0 / outcomes.propensity[drawn]
            quality, cost = (
                float(np.average(of[drawn], weights=weight)) for of in (outcomes.quality, outcomes.cost_usd)
            )
            paid = float(np.average(outcomes.cost_usd[drawn] / worth_usd[drawn], weights=weight))
            points[name] = quality, cost, quality - paid
    if not points:
        return None, []
    return max(points, key=lambda name: points[name][2]), hull({name: p[:2] for name, p in points.items()})


def hull(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the corners of the upper concave, non-decreasing hull of (quality, cost), cheapest first."""
    corners: list[str] = []
    for name in sorted(points, key=lambda each: (points[each][1], -points[each][0])):
        if corners and points[name][0] <= points[corners[-1]][0]:
            continue
        while len(corners) > 1 and _below(points[corners[-2]], points[corners[-1]], points[name]):
            corners.pop()
        corners.append(name)
    return corners


def _below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    (q0, c0), (q1, c1), (q2, c2) = left, middle, right
    return (q1 - q0) * (c2 - c0) <= (q2 - q0) * (c1 - c0)


def _valued(name: str, target: Floats, figures: Figures, paired: Paired, endpoints: tuple[str, ...]) -> Valued:
    seen = overlap(paired.log, target)
    share = dict(zip(endpoints, target.mean(axis=0).tolist(), strict=True))
    if seen.refusal:
        return Valued(name=name, overlap=seen, refused=seen.refusal, share=share)
    bounds = paired.bounds_of(target)
    return Valued(
        name=name,
        overlap=seen,
        refused="",
        share=share,
        quality=interval(figures.quality, bounds),
        quality_snips=interval(figures.snips, bounds),
        cost_usd=interval(figures.cost_usd),
        net=interval(figures.net, bounds.shifted(float(figures.net[0] - figures.quality[0]))),
    )
