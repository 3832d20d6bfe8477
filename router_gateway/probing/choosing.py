"""Which probes to ask: those that stand for what is asked here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_gateway.core.types import Floats, Ints

_CELLS_MAX = 4_000_000
"""Cosines held at a time."""


def representative(candidates: Floats, targets: Floats, n: int, *, given: Sequence[int] = ()) -> tuple[Ints, Floats]:
    """At most `n` candidates that together lie near the targets, the most useful first, and what each stands for.

    candidates : float32 (C, d), unit vectors of the probes
    targets : float32 (T, d), unit vectors of the queries to stand for
    given : rows of `candidates` that are chosen already; they come first
    Returns rows of `candidates`, int64 (n,), and shares of the targets, float64 (n,), which sum to 1.

    Facility location: each candidate in turn is the one that adds most to sum_t max_s <t, s>, so a candidate much
    like a chosen one adds little (greedy is within 1 - 1/e of the best set; Nemhauser, Wolsey and Fisher, 1978). A
    target is stood for by the nearest candidate chosen.
    """
    n = min(n, len(candidates))
    if n == 0 or not len(targets):
        raise ValueError("nothing to choose from, or nothing to stand for")
    near = np.full(len(targets), -1.0)  # no cosine is less
    nearest = np.zeros(len(targets), dtype=np.int64)
    free = np.ones(len(candidates), dtype=bool)
    first = np.zeros(len(candidates), dtype=bool)
    first[list(given)] = True
    chosen = np.zeros(n, dtype=np.int64)
    for k in range(n):
        open_ = free & first if k < len(given) else free
        chosen[k] = best = int(np.where(open_, _gains(candidates, targets, near), -1.0).argmax())
        free[best] = False
        cosine = targets.astype(np.float64) @ candidates[best].astype(np.float64)
        nearer = cosine > near
        near[nearer], nearest[nearer] = cosine[nearer], k
    return chosen, np.bincount(nearest, minlength=n) / len(targets)


def _gains(candidates: Floats, targets: Floats, near: Floats) -> Floats:
    """float64 (C,), what each candidate would add; in blocks, so that memory is bounded."""
    gains = np.zeros(len(candidates))
    rows = max(_CELLS_MAX // len(candidates), 1)
    wide = candidates.astype(np.float64).T
    for start in range(0, len(targets), rows):
        block = slice(start, start + rows)
        cosine = targets[block].astype(np.float64) @ wide
        gains += np.maximum(cosine - near[block, None], 0.0).sum(axis=0)
    return gains
