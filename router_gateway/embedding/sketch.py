"""Which words and which pairs of neighbours a text has, hashed with signs into few numbers.

Inner products of two sketches are, in expectation, the number of features that the texts share: Weinberger et al.,
2009, "Feature hashing for large scale multitask learning" (arXiv 0902.2206).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_gateway.core.types import Ints

WIDTH = 256

_MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing by the golden ratio: the high bits are the mixed ones
_PIECE_BITS, _ONE = np.uint64(20), np.uint64(1)
_SIGNED_BUCKET = np.uint64(55)  # above it eight bits of bucket, then one of sign


def sketch(pieces: Sequence[int] | Ints) -> Ints:
    """int64 (WIDTH,), from ids of word pieces below 2^20 in their order.

    How often a feature occurs does not count: what tells formats of tasks apart is what is there at all.
    """
    ids = np.asarray(pieces, dtype=np.int64).view(np.uint64)
    features = np.concatenate([ids, (ids[:-1] + _ONE) << _PIECE_BITS | ids[1:]])
    features.sort()
    new = np.empty(len(features), dtype=bool)
    new[:1] = True
    np.not_equal(features[1:], features[:-1], out=new[1:])
    mixed = features[new] * _MIX
    count = np.bincount((mixed >> _SIGNED_BUCKET).view(np.int64), minlength=2 * WIDTH)
    return count[1::2] - count[::2]
