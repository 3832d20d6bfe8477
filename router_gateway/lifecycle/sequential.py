"""Confidence sequences: bounds on a mean that hold at every look at once, so that looking often does no harm.

An ordinary interval holds at one sample size that was fixed beforehand; who looks after every row and stops at the
first that pleases is wrong far more often than it says. These bounds hold for all sample sizes together: with
probability 1 - alpha the mean never leaves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Floats

_STAKE_MAX = 0.75  # of (0, 1): what one observation may weigh; Waudby-Smith and Ramdas use 1/2 and 3/4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Two one-sided confidence sequences, each of error `alpha`, after every observation.

    lower, upper : float64 (N,); with probability 1 - alpha the mean is at least `lower` for all N at once, and with
        probability 1 - alpha at most `upper`
    """

    lower: Floats
    upper: Floats

    def __len__(self) -> int:
        return len(self.lower)


def bounded(values: Floats, *, low: float, high: float, alpha: float) -> Bounds:
    """Of a mean of observations in [low, high]; exact at every sample size, for whatever distribution.

    values : float64 (N,), in order; each has the mean given those before it

    The predictable plug-in empirical-Bernstein sequence (Waudby-Smith and Ramdas 2024, theorem 2), one-sided. With
    x_i scaled to [0, 1], m_i and s²_i their running mean and variance (begun at 1/2 and 1/4), L = log(1/alpha):

        w_i = min(sqrt(2 L / (s²_{i-1} i log(1 + i))), 3/4)        psi(w) = -log(1 - w) - w
        mean within   (sum w_i x_i ± (L + sum (x_i - m_{i-1})² psi(w_i))) / sum w_i

    and the best of what was known at any earlier look.
    """
    if not 0 < alpha < 1 or not low < high:
        raise ValueError("alpha must lie in (0, 1), and low below high")
    x = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    if len(x) and not (x.min() >= -1e-9 and x.max() <= 1 + 1e-9):
        raise ValueError(f"an observation lies outside [{low}, {high}]")
    t = np.arange(1, len(x) + 1)
    log_alpha = -np.log(alpha)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    before = np.concatenate([[0.5], mean[:-1]])[: len(x)]
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    variance_before = np.concatenate([[0.25], variance[:-1]])[: len(x)]
    weight = np.minimum(np.sqrt(2 * log_alpha / (variance_before * t * np.log1p(t))), _STAKE_MAX)
    total = np.cumsum(weight)
    centre = np.cumsum(weight * x) / total
    radius = (log_alpha + np.cumsum((x - before) ** 2 * (-np.log1p(-weight) - weight))) / total
    lower = np.maximum.accumulate(np.maximum(centre - radius, 0.0))
    upper = np.minimum.accumulate(np.minimum(centre + radius, 1.0))
    return Bounds(lower=low + (high - low) * lower, upper=low + (high - low) * upper)


def asymptotic(values: Floats, *, alpha: float, first: int, best_at: int) -> Bounds:
    """Of a mean of observations of any size; right in the limit, as an interval of the central limit theorem is.

    values : float64 (N,), in order; independent, with finite variance
    first : observations before which nothing is claimed
    best_at : the sample size at which the bounds are to be narrowest

    The one-sided asymptotic sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), which is the normal
    mixture of Robbins with the running standard deviation s_t. With r = 1/rho² chosen for `best_at`:

        mean within   m_t ± s_t sqrt(2 (t + r) log(1 + sqrt((t + r) / r) / (2 alpha))) / t
    """
    if not 0 < alpha < 0.5 or first < 2 or best_at < 1:
        raise ValueError("alpha must lie in (0, 1/2), first be at least 2 and best_at at least 1")
    x = np.asarray(values, dtype=np.float64)
    t = np.arange(1, len(x) + 1)
    offset = x.mean() if len(x) else 0.0  # so that squares of large numbers do not cancel
    mean = np.cumsum(x - offset) / t
    variance = np.maximum(np.cumsum((x - offset) ** 2) / t - mean**2, 0.0) * t / np.maximum(t - 1, 1)
    r = best_at / mixture(alpha)
    radius = np.sqrt(2 * variance * (t + r) * np.log1p(np.sqrt((t + r) / r) / (2 * alpha))) / t
    early = t < first
    lower = np.where(early, -np.inf, offset + mean - radius)
    upper = np.where(early, np.inf, offset + mean + radius)
    return Bounds(lower=np.maximum.accumulate(lower), upper=np.minimum.accumulate(upper))


def mixture(alpha: float) -> float:
    """rho² times the sample size at which a one-sided normal mixture of error `alpha` is to be narrowest.

    -2 log(2 alpha) + log(-2 log(2 alpha)) + 1, the approximation of Howard et al. (2021), section 3.2; at least 1.
    """
    spread = -2 * np.log(2 * alpha)
    return float(max(spread + np.log(max(spread, 1.0)) + 1.0, 1.0))
