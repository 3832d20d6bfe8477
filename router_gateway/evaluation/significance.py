"""Whether two routers differ at all: McNemar at matched cost, and the sign test over splits or queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Bools, Floats, Ints
from router_gateway.evaluation.metrics import Curve, hull

_SAME_COST = 1e-9
"""Relative difference of mean costs below which they count as equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How often the first was ahead and behind, and the two-sided p-value of "neither is"; ties do not count.

    It is exact: with n = ahead + behind, p = min(1, 2 · P(Binomial(n, 1/2) <= min(ahead, behind))); 1 for n = 0.
    """

    ahead: int
    behind: int
    p_value: float


def sign_test(differences: Floats | Ints) -> Verdict:
    """The sign test of paired differences (N,), such as AIQ of two policies on N splits; NaN and 0 are left out.

    Splits of one table share their queries, so over many of them p is smaller than it should be.
    """
    ahead, behind = int((differences > 0).sum()), int((differences < 0).sum())
    return Verdict(ahead=ahead, behind=behind, p_value=_two_sided(ahead, behind))


def mcnemar(first: Bools, second: Bools) -> Verdict:
    """McNemar's exact test of two routers' right answers to the same queries, bool (Q,) each (McNemar 1947).

    Only queries that one answers rightly and the other wrongly say anything. Compare at equal cost, or the
    dearer router wins: see `dial_within` and `at_cost`. For graded quality there is `sign_test` of the
    differences, of which this is the case of qualities 0 and 1.
    """
    if first.shape != second.shape:
        raise ValueError(f"answers {first.shape} and {second.shape} must be to the same queries")
    return sign_test(first.astype(np.int8) - second.astype(np.int8))


def dial_within(curve: Curve, budget_usd: float) -> int | None:
    """The dial whose mean cost is nearest to a budget and not above it, of equally dear ones the best; None without.

    Budget and costs are means of the same calls summed in another order, so equal ones may differ in their last bits.
    """
    within = np.flatnonzero(curve.cost_usd <= budget_usd * (1.0 + _SAME_COST))
    if not len(within):
        return None
    return int(within[np.lexsort((-curve.quality[within], -curve.cost_usd[within]))[0]])


def at_cost(quality: Floats, cost_usd: Floats, mean_usd: float, *, seed: int = 0) -> Floats:
    """Each query's quality when the hull of D settings is used at a mean cost: float64 (Q,).

    quality, cost_usd : (D, Q), without NaN; of a router's dials, or of the endpoints (transposed) for the
    zero router. Between two settings of the hull each query draws one of them, the dearer with the probability
    that makes the expected mean cost `mean_usd`; beyond the dearest setting it is that one.

    Two routers with one `seed` share their draws, so a router does not differ from itself. Right answers are
    `at_cost(...) >= 0.5`, say, for `mcnemar`. Raises ValueError below the cheapest setting's cost.
    """
    means = Curve(cost_usd=cost_usd.mean(axis=1, dtype=np.float64), quality=quality.mean(axis=1, dtype=np.float64))
    best = hull(means)
    if mean_usd < best.cost_usd[0]:
        raise ValueError(f"the cheapest setting costs {best.cost_usd[0]:.3g} USD, more than {mean_usd:.3g}")
    right = int(np.searchsorted(best.cost_usd, mean_usd))
    last = len(best) - 1
    dearer, cheaper = (_setting(means, best, i) for i in (min(right, last), min(max(right - 1, 0), last)))
    span = means.cost_usd[dearer] - means.cost_usd[cheaper]
    part = (mean_usd - means.cost_usd[cheaper]) / span if span > 0 else 1.0
    up = np.random.default_rng(seed).random(quality.shape[1]) < part
    return np.asarray(np.where(up, quality[dearer], quality[cheaper]), dtype=np.float64)


def _setting(means: Curve, best: Curve, at: int) -> int:
    same = (means.cost_usd == best.cost_usd[at]) & (means.quality == best.quality[at])
    return int(same.argmax())


def _two_sided(ahead: int, behind: int) -> float:
    trials = ahead + behind
    if trials == 0:
        return 1.0
    fewer = np.arange(min(ahead, behind) + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, trials + 1)))])
    log_terms = log_factorial[trials] - log_factorial[fewer] - log_factorial[trials - fewer]
    tail = float(np.exp(log_terms - trials * math.log(2.0)).sum())
    return min(1.0, 2.0 * tail)
