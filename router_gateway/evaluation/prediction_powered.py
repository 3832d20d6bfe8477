"""A mean from a few true labels and many predictions of them, whose bias cannot spoil the interval.

Prediction-powered inference (Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023, Science 382, arXiv 2301.09633) in
the form with a tuned weight, PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453): with n labels y that have
predictions f, N more predictions f' without labels, and a weight λ ("power") in [0, 1],

    θ = mean(y) + λ (mean(f') - mean(f))          Var θ = Var(y - λ f) / n + λ² Var(f') / N

θ has no bias whatever the predictions are, as long as the labelled cases are a random part of all: the predictions'
bias is in both of their means and cancels. λ = 0 is the mean of the labels; λ = Cov(y, f) / ((1 + n/N) Var f) makes
the variance least, so that useless predictions cost nothing and good ones save labels. λ is tuned across folds, for
each case on the labels of others, so that θ keeps its want of bias (as in cross-prediction: Zrnic and Candès 2024,
arXiv 2309.16598).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from router_gateway.core.types import Floats

LABELS_MIN = 2
"""Fewer labels make no interval."""

_TUNED_MIN = 5
_FOLDS = 5
_LEVEL = 0.95
_NOTHING = 1e-15  # a variance below this is rounding
_PADDING = 2.0  # observations added at either end of the range


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean, or a difference of two, with its 95 % interval.

    stderr : standard error; dof : its degrees of freedom; power : λ, None of a difference
    labels, predictions : how many labels, and how many predictions without one, it rests on
    """

    value: float
    low: float
    high: float
    stderr: float
    dof: float
    labels: int
    predictions: int
    power: float | None = None

    def minus(self, other: Self) -> Estimate:
        """The difference to another mean, of other cases."""
        variances = self.stderr**2, other.stderr**2
        return _estimate(
            self.value - other.value,
            variances,
            (self.dof, other.dof),
            labels=self.labels + other.labels,
            predictions=self.predictions + other.predictions,
            bounds=(-1.0, 1.0),
        )


def mean(truth: Floats, predicted: Floats, unlabelled: Floats, *, power: float | None = None) -> Estimate | None:
    """The mean quality in [0, 1] of all cases; None with fewer than LABELS_MIN labels.

    truth : float (n,), the labels; predicted : float (n,), what was predicted of the same cases
    unlabelled : float (N,), predictions of the other cases
    power : λ in [0, 1]; None tunes it, for each case on the labels of others
    """
    n, more = len(truth), len(unlabelled)
    if n < LABELS_MIN:
        return None
    weights = _tuned(truth, predicted, more) if power is None else np.full(n, power)
    if more < 2:
        weights = np.zeros(n)
    weight = float(weights.mean())
    rest = truth - weights * (predicted - unlabelled.mean()) if weight else truth
    value = float(rest.mean())
    ours = float(rest.var(ddof=1)) / n
    theirs = weight**2 * float(unlabelled.var(ddof=1)) / more if weight else 0.0
    wider = _widening(truth)
    if ours + theirs < _NOTHING:
        ours = _padded_variance(truth)
        wider = 1.0
    return _estimate(
        value,
        (ours * wider, theirs * wider),
        (float(n - 1), float(max(more - 1, 1))),
        labels=n,
        predictions=more,
        bounds=(0.0, 1.0),
        power=weight,
    )


def _tuned(truth: Floats, predicted: Floats, more: int) -> Floats:
    """λ for each of n cases, from the labels of the other folds: a λ that knew its own terms would bias θ."""
    fold = np.arange(len(truth)) % _FOLDS
    weights = np.zeros(len(truth))
    for each in range(_FOLDS):
        others = fold != each
        weights[~others] = best_power(truth[others], predicted[others], more=more)
    return weights


def best_power(truth: Floats, predicted: Floats, *, more: int) -> float:
    """λ of least variance with `more` predictions without labels, drawn to 0 as far as the correlation may be chance.

    The factor 1 - 1/t², with t the correlation's own statistic, is that of a positive-part James-Stein estimator:
    without it a dozen labels choose λ by their noise, and the interval is too short.
    """
    n = len(truth)
    if n < _TUNED_MIN or more < 2:
        return 0.0
    spread, truths = float(predicted.var(ddof=1)), float(truth.var(ddof=1))
    shared = float(((truth - truth.mean()) * (predicted - predicted.mean())).sum()) / (n - 1)
    if shared <= 0.0 or min(spread, truths) < _NOTHING:
        return 0.0
    explained = min(shared**2 / (truths * spread), 1.0)
    chance = (1.0 - explained) / (explained * (n - 2))  # 1 / t²
    return float(np.clip(shared / ((1.0 + n / more) * spread), 0.0, 1.0)) * max(1.0 - chance, 0.0)


def _widening(truth: Floats) -> float:
    """How much larger the variance of the labels' mean is with four more observations, two at either end; at least 1.

    A few labels that agree leave doubt all the same (Agresti and Coull 1998); what holds of the labels by themselves is
    held of the estimate that leans on them.
    """
    plain = float(truth.var(ddof=1)) / len(truth)
    return max(_padded_variance(truth) / plain, 1.0) if plain >= _NOTHING else 1.0


def _padded_variance(truth: Floats) -> float:
    number = len(truth) + 2 * _PADDING
    centre = (float(truth.sum()) + _PADDING) / number
    squares = float(((truth - centre) ** 2).sum()) + _PADDING * (centre**2 + (1.0 - centre) ** 2)
    return squares / number**2


def _estimate(
    value: float,
    variances: tuple[float, float],
    dofs: tuple[float, float],
    *,
    labels: int,
    predictions: int,
    bounds: tuple[float, float],
    power: float | None = None,
) -> Estimate:
    """With Welch's degrees of freedom for a sum of two independent parts."""
    from scipy.stats import t

    total = sum(variances)
    parts = sum(variance**2 / dof for variance, dof in zip(variances, dofs, strict=True))
    dof = total**2 / parts if parts > 0.0 else max(dofs)
    stderr = float(np.sqrt(total))
    arm = float(t.ppf(0.5 + _LEVEL / 2, dof)) * stderr
    low, high = bounds
    return Estimate(
        value=value,
        low=max(value - arm, low),
        high=min(value + arm, high),
        stderr=stderr,
        dof=float(dof),
        labels=labels,
        predictions=predictions,
        power=power,
    )
