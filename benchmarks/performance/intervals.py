"""Medians over rounds and intervals of paired ratios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_RESAMPLES = 2000
_LEVEL = 0.95


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, its 95 % bootstrap interval, and the values themselves, round by round."""
    low, high = _interval(np.asarray(values, dtype=np.float64))
    return {"median": float(np.median(values)), "low": low, "high": high, "rounds": list(map(float, values))}


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Median over rounds of ours / theirs of the same round, with its 95 % bootstrap interval.

    What slows a machine down for seconds slows both of a round down: pairs cancel it.
    """
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The same of ours - theirs."""
    return summary([a - b for a, b in zip(ours, theirs, strict=True)])


def _interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Percentile bootstrap of the median (Efron and Tibshirani 1993, chapter 13); rounds are drawn."""
    rows = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[rows], axis=1), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
