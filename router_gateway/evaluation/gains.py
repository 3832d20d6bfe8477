"""Gains over references: best single, random and oracle, per benchmark; score and cost; what was selected.

Shares are fractions, not per cent, unless a name or formula says 100. T tasks (LLMRouterBench and Lookahead
say datasets or benchmarks): a mean over tasks weighs each alike, so it is not the gain of the mean qualities.
A task with a NaN, or with a reference of 0, is left out; NaN when none is left.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from router_gateway.core.types import Floats
from router_gateway.evaluation.areas import REACHED, cost_to_reach, pareto
from router_gateway.evaluation.metrics import Curve, hull, value_at

Point: TypeAlias = tuple[float, float]
"""(quality, cost_usd): mean quality and mean USD per request."""

ARENA_COST_MIN_USD = 0.0044
ARENA_COST_MAX_USD = 200.0
ARENA_BETA = 0.1


def gain_over(router: ArrayLike, reference: ArrayLike) -> float:
    """Mean over tasks of router / reference - 1; both (T,), mean quality per task.

    LLMRouterBench's Gain@B with the best single endpoint as reference and Gain@R with the random choice
    (arXiv 2601.07206).
    """
    own, other = _columns(router, reference)
    return _mean(own / _or_nan(other) - 1.0)


def gap_to_oracle(router: ArrayLike, oracle: ArrayLike) -> float:
    """LLMRouterBench's Gap@O (arXiv 2601.07206): mean over tasks of 1 - router / oracle; both (T,). 0 is perfect."""
    return -gain_over(router, oracle)


def normalised_gain(router: ArrayLike, random: ArrayLike, oracle: ArrayLike) -> float:
    """Lookahead's µ_n (arXiv 2510.19506): mean over tasks of 100 · (router - random) / (oracle - random); (T,) each.

    0 is random, 100 the oracle; costs play no part. A task whose oracle is no better than random is left out.
    """
    own, chance, best = _columns(router, random, oracle)
    return _mean(100.0 * (own - chance) / _or_nan(best - chance))


def _columns(*columns: ArrayLike) -> tuple[Floats, ...]:
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
        raise ValueError(f"qualities per task must be (T,) alike, not {', '.join(str(a.shape) for a in arrays)}")
    return arrays


def _or_nan(reference: Floats) -> Floats:
    return np.where(reference > 0, reference, np.nan)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def perf_gain(router: Curve, best_single: Point) -> float:
    """LLMRouterBench's PerfGain (arXiv 2601.07206): the best configuration's quality / the best single's - 1.

    The configuration is picked on the same outcomes, so this flatters whoever sweeps more of them.
    NaN where the best single has quality 0.
    """
    quality, _ = best_single
    return float(pareto(router).quality[-1] / quality - 1.0) if quality > 0 else float("nan")


def cost_save(router: Curve, best_single: Point) -> float:
    """LLMRouterBench's CostSave (arXiv 2601.07206): what the cheapest configuration as good as the best single saves.

        CostSave = 1 - cost of the cheapest configuration with at least its quality / its cost

    Only configurations as swept, no mixtures; picked on the same outcomes. Negative where being as good costs
    more; NaN where no configuration is as good or the best single costs nothing.
    """
    quality, cost_usd = best_single
    curve = pareto(router)
    good = curve.quality >= quality - REACHED
    if not good.any() or cost_usd <= 0:
        return float("nan")
    return float(1.0 - curve.cost_usd[good][0] / cost_usd)


def quality_at_equal_cost(router: Curve, cost_usd: float) -> float:
    """Quality of the router's hull at a mean cost, such as that of the best single endpoint.

    NaN left of its cheapest point: it cannot spend that little.
    """
    return float(value_at(hull(router), cost_usd, left=float("nan")))


def cost_at_equal_quality(router: Curve, quality: float) -> float:
    """Least mean USD at which the router's hull has a quality, such as the best single's; inf where it never has."""
    return cost_to_reach(hull(router), quality)


def arena_score(quality: ArrayLike, cost_usd: ArrayLike, *, beta: float = ARENA_BETA) -> Floats:
    """RouterArena's score (arXiv 2510.00202), float64 in [0, 1] of the common shape of its arguments.

        C' = (log2 200 - log2 C) / (log2 200 - log2 0.0044),   C = USD per 1,000 requests
        S  = (1 + β) · A · C' / (β · A + C')

    quality : A in [0, 1]; cost_usd : mean USD per request (C / 1,000) >= 0. A weighs more than C' for β < 1.
    RouterArena does not limit C'; here C is kept in [0.0044, 200], so that free endpoints have a score and
    none leaves [0, 1]. S is 0 where A and C' both are. NaN in, NaN out.
    """
    accuracy = np.asarray(quality, dtype=np.float64)
    per_thousand = np.clip(np.asarray(cost_usd, dtype=np.float64) * 1000.0, ARENA_COST_MIN_USD, ARENA_COST_MAX_USD)
    span = math.log2(ARENA_COST_MAX_USD) - math.log2(ARENA_COST_MIN_USD)
    cheapness = (math.log2(ARENA_COST_MAX_USD) - np.log2(per_thousand)) / span
    below = beta * accuracy + cheapness
    safe = np.where(below == 0.0, 1.0, below)  # then the numerator is 0 as well; a NaN stays one
    return np.asarray((1.0 + beta) * accuracy * cheapness / safe)


def selection_shares(probability: Floats) -> Floats:
    """float64 (E,): each endpoint's share of the requests.

    probability : (Q, E), the probabilities of the rule or one-hot choices
    """
    if probability.ndim != 2 or not len(probability):
        raise ValueError(f"probabilities must be (Q, E) with at least one query, not {probability.shape}")
    return np.asarray(probability.mean(axis=0, dtype=np.float64))


def selection_entropy_bits(shares: Floats) -> float:
    """-Σ s log2 s over the endpoints' shares, in [0, log2 E] (RouterEval, arXiv 2503.10657, reports such an entropy).

    0 is a router that always picks the same endpoint, whatever its quality looks like.
    """
    used = shares[shares > 0]
    return float(abs((used * np.log2(used)).sum()))  # abs: the sum of one share of 1 is -0.0


def endpoints_used(shares: Floats, *, at_least: float = 0.0) -> int:
    """How many endpoints have a share above 0 and of at least `at_least`."""
    return int(((shares > 0) & (shares >= at_least)).sum())
