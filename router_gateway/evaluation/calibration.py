"""Whether predicted quality means what it says: reliability bins, ECE, Brier score, coverage of the doubt.

Predictions and outcomes are paired cells of any shape, such as (Q, E); a cell with a NaN is left out.
Quality is in [0, 1] and may be graded: a prediction is the expected quality of an answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from router_gateway.core.types import Floats, Ints

BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """B bins of predicted quality, lowest first, empty ones left out.

    low, high : float64 (B,), the least and the largest prediction in the bin
    count : int64 (B,), cells; predicted, observed : float64 (B,), their means
    """

    low: Floats
    high: Floats
    count: Ints
    predicted: Floats
    observed: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: Σ_b n_b / N · |predicted_b - observed_b|; NaN without cells.

        Naeini, Cooper and Hauskrecht (AAAI 2015); of graded quality likewise. It depends on the bins.
        """
        total = self.count.sum()
        return float((self.count * np.abs(self.predicted - self.observed)).sum() / total) if total else float("nan")


def reliability(
    predicted: Floats, observed: Floats, *, bins: int = BINS, by: Literal["width", "mass"] = "width"
) -> Reliability:
    """Observed against predicted quality in `bins` bins of equal width over [0, 1], or of equal mass.

    Equal mass puts the same number of cells in every bin (within one); equal predictions may then be parted
    between two bins, in the order given. The last bin of equal width includes 1.
    """
    if bins < 1:
        raise ValueError(f"at least one bin is needed, not {bins}")
    guess, truth = _known(predicted, observed)
    if by == "mass":
        order = np.argsort(guess, kind="stable")
        guess, truth = guess[order], truth[order]
        bin_of = np.arange(len(guess)) * bins // max(len(guess), 1)
    else:
        bin_of = np.minimum((guess * bins).astype(np.int64), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    used = count > 0
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    np.minimum.at(low, bin_of, guess)
    np.maximum.at(high, bin_of, guess)
    return Reliability(
        low=low[used],
        high=high[used],
        count=count[used],
        predicted=np.bincount(bin_of, weights=guess, minlength=bins)[used] / count[used],
        observed=np.bincount(bin_of, weights=truth, minlength=bins)[used] / count[used],
    )


def brier(predicted: Floats, observed: Floats) -> float:
    """Mean of (predicted - observed)², in [0, 1]; NaN without cells (Brier 1950; of graded quality the same).

    Proper: no prediction does better on average than the expected quality itself.
    """
    guess, truth = _known(predicted, observed)
    return float(((guess - truth) ** 2).mean()) if len(guess) else float("nan")


def single_answer_variance(expected: Floats) -> Floats:
    """Variance of one right-or-wrong answer of that expected quality, q (1 - q); a bound where quality is graded."""
    return np.asarray(expected * (1.0 - expected))


def coverage(
    predicted: Floats,
    stddev: Floats,
    observed: Floats,
    *,
    z: float = 1.96,
    answer_variance: Floats | float = 0.0,
) -> float:
    """Share of cells with |observed - predicted| <= z · sqrt(stddev² + answer_variance), in [0, 1].

    `Scores.stddev` is the doubt about expected quality. With expected qualities as `observed` (a synthetic
    world's, or means over many answers) a normal doubt covers `nominal_coverage(z)`. One answer also varies
    by itself: then add that variance, such as `single_answer_variance(predicted)`; the coverage of right-or-
    wrong outcomes is coarse even so, and is to be compared between policies rather than with the nominal one.
    NaN without cells.
    """
    guess, doubt, truth, noise = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (predicted, stddev, observed, answer_variance))
    )
    known = np.isfinite(guess) & np.isfinite(doubt) & np.isfinite(truth) & np.isfinite(noise)
    if not known.any():
        return float("nan")
    within = np.abs(truth - guess) <= z * np.sqrt(doubt**2 + noise)
    return float(within[known].mean())


def nominal_coverage(z: float) -> float:
    """Share of a normal distribution within z standard deviations: erf(z / √2)."""
    return math.erf(z / math.sqrt(2.0))


def _known(predicted: Floats, observed: Floats) -> tuple[Floats, Floats]:
    if predicted.shape != observed.shape:
        raise ValueError(f"predictions {predicted.shape} and outcomes {observed.shape} must have one shape")
    known = np.isfinite(predicted) & np.isfinite(observed)
    guess, truth = predicted[known].astype(np.float64), observed[known].astype(np.float64)
    if len(guess) and (guess.min() < 0 or guess.max() > 1):
        raise ValueError("predicted quality must lie in [0, 1]")
    return guess, truth
