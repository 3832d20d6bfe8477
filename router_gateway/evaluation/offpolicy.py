"""What another policy would have brought, from a log of random choices: four estimators, intervals, and a refusal.

Letters: N decisions, E endpoints, C clusters. A decision is a query x, the endpoint a drawn with known probability
p(a|x), and its reward r. For a target policy π, with importance weight w = π(a|x) / p(a|x) and an outcome model
m(x, a) that has not seen the decision's reward,

    IPS     mean(w r)                                       Horvitz & Thompson, 1952, JASA 47(260)
    SNIPS   sum(w r) / sum(w)                               Swaminathan & Joachims, 2015, "The self-normalized
                                                            estimator for counterfactual learning"
    DR      mean(w (r - m(x, a)) + Σ_b π(b|x) m(x, b))      Dudík, Langford & Li, 2011, arXiv:1103.4601
    SWITCH  DR without the correction where w > τ           Wang, Agarwal & Dudík, 2017, arXiv:1612.01205 (SWITCH-DR)

IPS is unbiased, SNIPS consistent and of lower variance, DR unbiased whatever the model is and precise where it is
good, SWITCH trades a bounded bias for the variance of rare large weights. All are about queries like those logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from router_gateway.core.types import Bools, Floats, Ints

PROBABILITY_FLOOR = 1e-3
"""An endpoint drawn more rarely than this is as good as never drawn: one outcome would weigh a thousand."""
UNSUPPORTED_MAX = 0.01
"""Share of the target's choices that may fall below the floor before an estimate is refused."""
ESS_MIN = 30.0
"""Fewer effective observations make no interval."""
PADDING = 2.0
"""Effective observations added at either end of the range."""
_WEIGHT_Z_MAX = 4.0
_LEVEL = 0.95
_Z = 1.959964  # of a normal distribution, at _LEVEL
_THRESHOLDS = 20
_BLOCKS = 20  # of resamples, whose counts are floats for a moment


@dataclass(frozen=True, kw_only=True)
class Log:
    """N drawn decisions.

    action : int64 (N,), the column drawn
    propensity : float64 (N,) > 0, with which it was drawn, as logged
    probability : float64 (N, E), the logging rule's whole row
    cluster : int64 (N,) in [0, C), what depends on each other, such as a session's decisions
    resamples, seed : of the bootstrap over clusters
    """

    action: Ints
    propensity: Floats
    probability: Floats
    cluster: Ints
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.action) or not (self.propensity > 0).all():
            raise ValueError("a log needs decisions, each with a positive propensity")

    def __len__(self) -> int:
        return len(self.action)

    @cached_property
    def counts(self) -> Ints:
        """uint16 (resamples, C): how often each cluster is drawn; shared by all estimates, which pairs them."""
        clusters = int(self.cluster.max()) + 1
        rng = np.random.default_rng(self.seed)
        draws = (rng.integers(0, clusters, clusters) for _ in range(self.resamples))
        return np.stack([np.bincount(draw, minlength=clusters).astype(np.uint16) for draw in draws])

    def at_action(self, table: Floats) -> Floats:
        """Of (N, E), the cells that were drawn: (N,)."""
        return np.asarray(table[np.arange(len(self)), self.action])

    def weights(self, target: Floats) -> Floats:
        """float64 (N,): π(a|x) / p(a|x), with the propensity as logged."""
        return self.at_action(target) / self.propensity

    def summed(self, terms: Floats) -> Floats:
        """Sums by cluster of (N, K): float64 (C, K)."""
        clusters = int(self.cluster.max()) + 1
        return np.stack([np.bincount(self.cluster, weights=each, minlength=clusters) for each in terms.T], axis=1)

    def resampled(self, sums: Floats) -> Floats:
        """Of sums by cluster (C, K), the totals of every resample: float64 (resamples, K)."""
        blocks = np.array_split(self.counts, _BLOCKS)
        return np.concatenate([block.astype(np.float64) @ sums for block in blocks])


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value and its 95 % interval: the bootstrap's over clusters, and no narrower than `padded` has it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much a log can say about a target.

    ess : effective sample size (Σ W)² / Σ W² of the clusters' summed weights; Kish's where each has one decision
    weight_max, weight_mean : the mean should be 1, less what is unsupported
    weight_z : distance of that mean from what it should be, in standard errors
    unsupported : share of the target's choices that the logger makes with less than PROBABILITY_FLOOR
    random : share of decisions in which the logger had a choice at all
    """

    ess: float
    weight_max: float
    weight_mean: float
    weight_z: float
    unsupported: float
    random: float

    @property
    def refusal(self) -> str:
        """Why there is no estimate; "" when there is one."""
        if not self.random:
            return "not identifiable: the logger was deterministic"
        if self.unsupported > UNSUPPORTED_MAX:
            return f"not identifiable: {self.unsupported:.0%} of its choices were hardly ever or never logged"
        if self.ess < ESS_MIN:
            return f"not identifiable: the log is worth {self.ess:.1f} decisions, fewer than {ESS_MIN:.0f}"
        return ""

    @property
    def warning(self) -> str:
        """What is wrong with the propensities, if anything shows."""
        if abs(self.weight_z) <= _WEIGHT_Z_MAX:
            return ""
        return f"mean weight {self.weight_mean:.3f} is not about 1: logged propensities are not those of the draws"


def overlap(log: Log, target: Floats) -> Overlap:
    """Diagnostics of `target`, float64 (N, E), rows sum to 1."""
    weight = log.weights(target)
    never = np.where(log.probability <= 0, target, 0.0).sum(axis=1)
    off = log.summed((weight - (1.0 - never))[:, None])[:, 0]
    sums = log.summed(weight[:, None])[:, 0]
    error = np.sqrt((off**2).sum())
    return Overlap(
        ess=effective(sums),
        weight_max=float(weight.max()),
        weight_mean=float(weight.mean()),
        # within rounding of every weight being right there is nothing to measure in standard errors
        weight_z=float(off.sum() / error) if error > 1e-6 * len(log) else 0.0,
        unsupported=float(np.where(log.probability < PROBABILITY_FLOOR, target, 0.0).sum(axis=1).mean()),
        random=float((log.probability.max(axis=1) < 1.0 - 1e-9).mean()),
    )


def estimate(
    log: Log, target: Floats, reward: Floats, model: Floats, *, bounds: tuple[float, float] | None = None
) -> Mapping[str, Estimate]:
    """By "ips", "snips", "dr" and "switch": the mean reward of `target`.

    target : float64 (N, E), rows sum to 1; reward : float64 (N,)
    model : float64 (N, E), predicted reward, of a model that has not seen the decision's own outcome
    bounds : between which a reward lies, where that is known: rewards that are all alike then still leave doubt
    """
    weight = log.weights(target)
    direct = (target * model).sum(axis=1)
    correction = weight * (reward - log.at_action(model))
    kept = weight <= switch_threshold(log, target, direct, correction, scale=float(np.abs(reward).max()))
    ones = np.ones(len(log))
    terms = np.column_stack([ones, weight, weight * reward, direct + correction, direct + correction * kept])
    sums = log.summed(terms)
    drawn = log.resampled(sums)
    total = sums.sum(axis=0)
    ratios = {"ips": (2, 0), "snips": (2, 1), "dr": (3, 0), "switch": (4, 0)}
    found = {name: _estimate(total, drawn, *columns) for name, columns in ratios.items()}
    if bounds is None:
        return found
    seen = effective(sums[:, 1])
    return {name: padded(one, _variance(sums[:, ratios[name]], one.value), seen, bounds) for name, one in found.items()}


def effective(weights: Floats) -> float:
    """Effective sample size (Σ w)² / Σ w² (Kish 1965); 0 for no weight at all."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def padded(found: Estimate, variance: float, seen: float, bounds: tuple[float, float]) -> Estimate:
    """The interval, widened to what two more observations at either end of the range would have made it.

    A bootstrap draws only from what was seen: sixty rewards of 1 give an interval without length, although one
    request in twenty may be bad. So the normal interval after adding four observations (Agresti and Coull 1998,
    "Approximate is better than 'exact'", The American Statistician 52(2)), with the effective sample size for
    the number seen (Franco, Little, Louis and Slud 2019, J. Survey Statistics and Methodology 7(3)), is its
    least. Away from the ends, and with hundreds of effective observations, it changes next to nothing.

    variance : of the value, estimated from what was seen; seen : the effective sample size
    """
    low, high = bounds
    number = seen + 2 * PADDING
    centre = (seen * found.value + PADDING * (low + high)) / number
    ends = PADDING * ((low - centre) ** 2 + (high - centre) ** 2)
    arm = _Z * float(np.sqrt(seen**2 * variance + seen * (found.value - centre) ** 2 + ends)) / number
    return Estimate(
        value=found.value,
        low=min(found.low, max(centre - arm, low)),
        high=max(found.high, min(centre + arm, high)),
    )


def _variance(sums: Floats, value: float) -> float:
    """Of a ratio of sums over clusters, float64 (C, 2), by linearisation."""
    return float(((sums[:, 0] - value * sums[:, 1]) ** 2).sum()) / float(sums[:, 1].sum()) ** 2


def switch_threshold(log: Log, target: Floats, direct: Floats, correction: Floats, *, scale: float) -> float:
    """τ of SWITCH: the least estimated variance plus squared bound on the bias (Wang et al. 2017, section 4.1).

    scale : bound on |r - m|; the bias is at most scale times the target's mass on weights above τ
    """
    weight = log.weights(target)
    with np.errstate(divide="ignore", invalid="ignore"):
        every = np.where(target > 0, target / log.probability, 0.0)
    seen = weight[weight > 0]
    candidates = [np.inf, *np.quantile(seen, np.linspace(0, 1, _THRESHOLDS))] if len(seen) else [np.inf]

    def risk(threshold: float) -> float:
        above: Bools = every > threshold
        bias = scale * float(np.where(above, target, 0.0).sum(axis=1).mean())
        return float((direct + correction * (weight <= threshold)).var()) / len(log) + bias**2

    return float(min(candidates, key=risk))


def _estimate(total: Floats, drawn: Floats, above: int, below: int) -> Estimate:
    with np.errstate(divide="ignore", invalid="ignore"):
        value = total[above] / total[below]
        samples = drawn[:, above] / drawn[:, below]
    low, high = np.nanquantile(samples, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(value=float(value), low=float(low), high=float(high))
