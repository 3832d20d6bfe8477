"""How unlike everything known a query is, as the share of known queries that are as far from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from zlib import crc32

import numpy as np

from router_gateway.core.types import Floats, Ints

SAMPLE_MAX = 1_000
_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number whose bits look random (Knuth's multiplicative hashing)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Novelty:
    """A sample of known queries, and of each the cosine of the nearest other one. Nothing here is written in place.

    The sample is of distinct vectors, at most SAMPLE_MAX, those whose hash is lowest: a uniform one of all that were
    ever added, whatever their order and number of batches.

    known : float32 (R, d), unit vectors
    nearest : float32 (R,), ascending
    """

    known: Floats
    nearest: Floats

    @classmethod
    def of(cls, embedding: Floats) -> Self:
        """From the vectors (Q, d) of known queries."""
        order = _hashes(embedding)
        _, first = np.unique(order, return_index=True)
        known = np.ascontiguousarray(embedding[first[:SAMPLE_MAX]], dtype=np.float32)
        cosine = known @ known.T
        np.fill_diagonal(cosine, -1.0)
        return cls(known=known, nearest=np.sort(cosine.max(axis=1, initial=-1.0)))

    def grown(self, embedding: Floats) -> Novelty:
        """With more queries known; itself where none of them belongs to the sample."""
        if len(self.known) == SAMPLE_MAX and (_hashes(embedding) > _hashes(self.known).max()).all():
            return self
        return Novelty.of(np.concatenate([self.known, embedding]))

    def share(self, embedding: Floats) -> Floats:
        """float64 (Q,) in (0, 1]: near 0 where all known queries have nearer company than the query has.

            (1 + number of known queries whose nearest is no nearer than the query's) / (R + 1)

        A query of the same kind as the known is at or below any share s with probability s, about.
        """
        # One product per query, so that a batch gives the bits its rows would.
        cosine = np.matmul(embedding[:, None, :].astype(np.float32), self.known.T)[:, 0]
        further = np.searchsorted(self.nearest, cosine.max(axis=1, initial=-1.0), side="right")
        return np.asarray((1.0 + further) / (len(self.nearest) + 1.0))


def _hashes(embedding: Floats) -> Ints:
    """uint64 (Q,): equal for equal vectors, otherwise as good as random, and the same everywhere."""
    rows = np.ascontiguousarray(embedding, dtype=np.float32) + np.float32(0.0)  # minus zero and zero are one number
    checksums = np.array([crc32(row.tobytes()) for row in rows], dtype=np.uint64)
    return checksums * _MIX
