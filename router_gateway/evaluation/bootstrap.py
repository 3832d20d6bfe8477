"""Bootstrap over queries: the same resamples for everything that is compared, so that differences are paired."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from router_gateway.core.types import Floats

LEVEL = 0.95
RESAMPLES = 1000
_CHUNK_CELLS = 4_000_000


def resampling_counts(count: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """How often each of `count` rows is drawn, `count` draws with replacement: blocks of float64 (resamples, count).

    Blocks bound the memory; the numbers depend on `count` and `seed` alone, so whatever is weighted by them is
    paired with everything else that is.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _CHUNK_CELLS // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        yield rng.multinomial(count, np.full(count, 1.0 / count), size=size).astype(np.float64)


def resampled_means(values: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Column means of `resamples` draws of Q rows with replacement.

    values : (Q, K), NaN where unknown; returns float64 (resamples, K), NaN where a draw has no known value.
    Every column sees the same rows, so differences of columns are paired. The rows depend on Q and `seed` alone.
    """
    if values.ndim != 2 or not len(values):
        raise ValueError(f"values must be (Q, K) with at least one row, not {values.shape}")
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0).astype(np.float64)
    means = []
    for weights in resampling_counts(len(values), resamples=resamples, seed=seed):
        seen = weights @ known
        means.append((weights @ filled) / np.where(seen > 0, seen, np.nan))
    return np.concatenate(means)


def interval(samples: Floats, *, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of the samples (percentile bootstrap; Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
