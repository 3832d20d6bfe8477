"""Similarity to quality: one logistic curve per endpoint, with a doubt, learned batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from router_gateway.core.types import Floats, Ints

_NEWTON_STEPS = 25
_INTERCEPT_PRECISION = 0.25  # of one answer at even odds: the imagined observation of `policies._moments`
_SLOPE_START, _SLOPE_VAGUE = 4.0, 1e-3  # before anything is known: a slope's mean, and the precision that asks nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Platt:
    """quality = sigmoid(slope similarity + intercept), per endpoint. Nothing here is ever written in place.

    Slope and intercept have a normal prior and, after outcomes, a normal posterior at the mode of the likelihood
    times that prior (Laplace's approximation); it is the prior of what comes next. Outcomes between 0 and 1 count as
    that many right answers. An intercept starts at 0 with standard deviation 2, so that an endpoint never seen, whose
    similarities are 0, has quality 1/2 and, to first order, doubt 1/2. Slopes start from what is common to the
    endpoints of `fitted`, with half of it as standard deviation.

    Platt, 1999, "Probabilistic outputs for support vector machines".

    mean : float64 (E, 2), slope and intercept
    precision : float64 (E, 2, 2)
    start : float64 (2,), mean and standard deviation of the slope of an endpoint yet to come
    """

    mean: Floats
    precision: Floats
    start: Floats

    @staticmethod
    def prior(endpoints: int, slope: float, deviation: float) -> Platt:
        mean = np.tile([slope, 0.0], (endpoints, 1))
        precision = np.tile(np.diag([deviation**-2, _INTERCEPT_PRECISION]), (endpoints, 1, 1))
        return Platt(mean=mean, precision=precision, start=np.array([slope, deviation]))

    @staticmethod
    def fitted(endpoints: int, similarity: Floats, endpoint: Ints, quality: Floats) -> Platt:
        """From N outcomes: similarity (N,), endpoint (N,) of E, quality (N,). Slopes are drawn to their common mean."""
        alone = Platt.prior(endpoints, 0.0, _SLOPE_VAGUE**-0.5).learn(similarity, endpoint, quality)
        weight = alone.precision[:, 0, 0] - alone.precision[:, 0, 1] ** 2 / alone.precision[:, 1, 1] - _SLOPE_VAGUE
        known = np.maximum(weight.sum(), 0.0) > _SLOPE_VAGUE
        slope = float((weight * alone.mean[:, 0]).sum() / weight.sum()) if known else _SLOPE_START
        slope = max(slope, 0.0)  # that better answers go with less similarity would be chance
        return Platt.prior(endpoints, slope, max(slope / 2.0, 0.5)).learn(similarity, endpoint, quality)

    def widened(self, endpoints: int) -> Platt:
        """The same with endpoints nobody has seen added at the end, up to `endpoints` of them in all."""
        new = Platt.prior(endpoints - len(self.mean), *self.start.tolist())
        return replace(
            self,
            mean=np.concatenate([self.mean, new.mean]),
            precision=np.concatenate([self.precision, new.precision]),
        )

    def learn(self, similarity: Floats, endpoint: Ints, quality: Floats) -> Platt:
        """With N more outcomes."""
        mean, precision = self.mean.copy(), self.precision.copy()
        for e in np.unique(endpoint):
            own = endpoint == e
            features = np.stack([similarity[own], np.ones(int(own.sum()))], axis=1).astype(np.float64)
            mean[e], precision[e] = _mode(mean[e], precision[e], features, quality[own].astype(np.float64))
        return replace(self, mean=mean, precision=precision)

    def quality_of(self, endpoint: Ints, similarity: Floats) -> Floats:
        """Quality (N,) of single outcomes."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.mean[endpoint, 0] * similarity + self.mean[endpoint, 1]))))

    def quality(self, similarity: Floats) -> tuple[Floats, Floats]:
        """Quality and its variance, by the doubt about slope and intercept alone, of similarities (..., E)."""
        quality = 1.0 / (1.0 + np.exp(-(self.mean[:, 0] * similarity + self.mean[:, 1])))
        covariance = np.linalg.inv(self.precision)
        variance = covariance[:, 0, 0] * similarity**2 + 2 * covariance[:, 0, 1] * similarity + covariance[:, 1, 1]
        return quality, (quality * (1.0 - quality)) ** 2 * variance


def _mode(mean: Floats, precision: Floats, features: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Where the posterior is highest, and its precision there; by Newton's method, with steps halved as needed."""

    def height(at: Floats) -> float:
        z, away = features @ at, at - mean
        return float((np.logaddexp(0.0, z) - quality * z).sum() + away @ precision @ away / 2.0)

    at, now = mean, height(mean)
    for _ in range(_NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-(features @ at)))
        slope = features.T @ (chance - quality) + precision @ (at - mean)
        step = np.linalg.solve(precision + (features * (chance * (1.0 - chance))[:, None]).T @ features, slope)
        while (lower := height(at - step)) > now and np.abs(step).max() > 1e-9:
            step = step / 2.0
        at, now = at - step, lower
        if np.abs(step).max() < 1e-9:
            break
    chance = 1.0 / (1.0 + np.exp(-(features @ at)))
    return at, precision + (features * (chance * (1.0 - chance))[:, None]).T @ features
