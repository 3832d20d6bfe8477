"""Which words and which pairs of neighbours a text has, hashed with signs into few numbers.

Inner products of two sketches are, in expectation, the number of features that the texts share: Weinberger et al.,
2009, "Feature hashing for large scale multitask learning" (arXiv 0902.2206).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_gateway.core.types import Floats

WIDTH = 256

_MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing by the golden ratio: the high bits are the mixed ones
_PIECE_BITS = np.uint64(20)
_BUCKET, _SIGN, _ONE = np.uint64(56), np.uint64(55), np.uint64(1)


def sketch(pieces: Sequence[int]) -> Floats:
    """float64 (WIDTH,) of whole numbers, from ids of word pieces below 2^20 in their order.

    How often a feature occurs does not count: what tells formats of tasks apart is what is there at all.
    """
    ids = np.array(pieces, dtype=np.uint64)
    features = np.concatenate([ids, (ids[:-1] + _ONE) << _PIECE_BITS | ids[1:]])
    features.sort()
    new = np.ones(len(features), dtype=bool)
    new[1:] = features[1:] != features[:-1]
    mixed = features[new] * _MIX
    signs = ((mixed >> _SIGN) & _ONE).astype(np.float64) * 2.0 - 1.0
    return np.bincount((mixed >> _BUCKET).astype(np.int64), weights=signs, minlength=WIDTH).astype(np.float64)
