"""What a few graded answers say of the mean quality of all."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from router_gateway.core.types import Floats

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95 % interval; `effective` is the number of equally weighted answers that tell as much."""

    mean: float
    low: float
    high: float
    effective: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def wilson(quality: Floats, weight: Floats) -> Interval | None:
    """Wilson's score interval of a weighted mean of outcomes in [0, 1]; None without any weight.

    quality, weight : float64 (n,); with w the weights scaled to sum 1, p = sum w q and n' = 1 / sum w² (Kish, 1965)

        (p + z²/2n' ± z sqrt(p (1 - p) / n' + z²/4n'²)) / (1 + z²/n')

    Wilson, 1927. For graded outcomes p (1 - p) is an upper bound of the variance, so the interval is a safe one.
    """
    total = float(weight.sum())
    if total <= 0:
        return None
    share = weight / total
    mean = min(max(float(share @ quality), 0.0), 1.0)
    effective = 1.0 / float(np.square(share).sum())
    part = Z95**2 / effective
    reach = Z95 * sqrt(mean * (1 - mean) / effective + part / (4 * effective))
    low, high = ((mean + part / 2 + sign * reach) / (1 + part) for sign in (-1, 1))
    return Interval(mean=mean, low=max(low, 0.0), high=min(high, 1.0), effective=effective)


def answers_needed(mean: float, half_width: float) -> int:
    """Equally weighted answers after which the interval reaches `half_width` to either side, by z² p (1 - p) / h²."""
    spread = max(mean * (1 - mean), 0.05)  # a mean of 1 after few answers is no certainty
    return ceil(Z95**2 * spread / half_width**2)
