"""Doubly robust means of several targets on one log, resampled together: differences and mixtures are paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.offpolicy import PADDING, Estimate, Log, effective, padded


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Figures of a log. A figure is float64 (1 + resamples,): the estimate, then what each resample made of it.

    Arithmetic on figures is arithmetic on estimates, with intervals that know what the two have in common.

    quality, cost_usd : float64 (N,), as observed
    quality_model, cost_model : float64 (N, E), predicted by models that have not seen the decision's outcome
    """

    log: Log
    quality: Floats
    cost_usd: Floats
    quality_model: Floats
    cost_model: Floats
    worth_usd: Floats
    _worth: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_worth", np.broadcast_to(self.worth_usd, (len(self.log),)))

    def figures(self, targets: Sequence[Floats]) -> list[Figures]:
        """Of each target, float64 (N, E), rows sum to 1."""
        terms = np.concatenate([self._terms(target) for target in targets], axis=1)
        sums = self.log.summed(np.column_stack([np.ones(len(self.log)), terms]))
        totals = np.concatenate([sums.sum(axis=0, keepdims=True), self.log.resampled(sums)])
        means = totals[:, 1:] / totals[:, :1]
        return [Figures(*columns) for columns in means.T.reshape(len(targets), _TERMS, -1)]

    def _terms(self, target: Floats) -> Floats:
        """float64 (N, _TERMS)."""
        weight = self.log.weights(target)

        def dr(reward: Floats, model: Floats) -> Floats:
            return np.asarray(weight * (reward - self.log.at_action(model)) + (target * model).sum(axis=1))

        quality, cost = dr(self.quality, self.quality_model), dr(self.cost_usd, self.cost_model)
        return np.column_stack([quality, cost, quality - cost / self._worth, weight, weight * self.quality])

    def bounds_of(self, target: Floats) -> Bounds:
        """The range of a mean quality under `target`, and how much was seen of it."""
        return Bounds(0.0, 1.0, effective(self.log.summed(self.log.weights(target)[:, None])[:, 0]))

    def bounds_between(self, target: Floats, other: Floats) -> Bounds:
        """Likewise of the difference of two targets' qualities: only where they differ can it come from.

        Where that was hardly ever, it may be oftener in traffic to come: the share of it has doubt, too (`padded`).
        """
        clusters = int(self.log.cluster.max()) + 1
        apart = float(np.abs(target - other).sum(axis=1).mean()) / 2
        apart = min((apart * clusters + PADDING) / (clusters + 2 * PADDING), 1.0)
        weight = np.abs(self.log.weights(target) - self.log.weights(other))
        return Bounds(-apart, apart, effective(self.log.summed(weight[:, None])[:, 0]))


_TERMS = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """One target's figures. net : quality - cost_usd / worth_usd; the last two are what SNIPS is the ratio of."""

    quality: Floats
    cost_usd: Floats
    net: Floats
    weight: Floats
    weighted_quality: Floats

    @property
    def snips(self) -> Floats:
        """The self-normalised estimate of quality, which leans on no model."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.weighted_quality / self.weight)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which a mean lies, whatever was seen, and the effective number of observations."""

    low: float
    high: float
    seen: float

    def shifted(self, by: float) -> Bounds:
        return Bounds(self.low + by, self.high + by, self.seen)


def interval(figure: Floats, bounds: Bounds | None = None) -> Estimate:
    """The estimate with its 95 % percentile interval, `padded` where bounds are known."""
    drawn = figure[1:][np.isfinite(figure[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    found = Estimate(value=float(figure[0]), low=float(low), high=float(high))
    if bounds is None:
        return found
    return padded(found, float(drawn.var()), bounds.seen, (bounds.low, bounds.high))


def at_equal_cost(singles: Sequence[Figures], cost_usd: Floats) -> tuple[Floats, Floats]:
    """The zero router: quality of flipping a coin between `singles` at the cost of `cost_usd`, and the coin.

    Everything is solved anew in every resample, so that the interval knows that the coin was estimated too.
    Beyond the dearest single, and below the cheapest, there is no coin to flip: the nearest is taken.

    Returns the quality (1 + R,), and the weights of the singles, float64 (len(singles),), of the estimate itself.
    """
    costs = np.stack([one.cost_usd for one in singles], axis=1)
    qualities = np.stack([one.quality for one in singles], axis=1)
    order = np.argsort(costs, axis=1, kind="stable")
    costs, qualities = np.take_along_axis(costs, order, 1), np.take_along_axis(qualities, order, 1)
    quality = np.array([np.interp(c, x, y) for c, x, y in zip(cost_usd, costs, qualities, strict=True)])
    weights = np.array([np.interp(cost_usd[0], costs[0], row) for row in np.eye(len(singles))[:, order[0]]])
    return quality, weights
