"""Texts as vectors of the words and pairs of words in them: hashed counts, weighed by rarity, in few dimensions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self
from zlib import crc32

import numpy as np

from router_gateway.core.types import Floats, Ints

BUCKETS = 2**16
_CHARACTERS_MAX = 8_000  # of a longer text the first and the last half of this many are read
_WORD = re.compile(r"\w+|[^\w\s]")
_PAIR = np.uint64(0x9E3779B97F4A7C15)  # an odd number whose bits look random (Knuth's multiplicative hashing)
_POWER_ROUNDS = 2
_REMEMBERED_MAX = 16_384  # checksums of common words: with the next bound, a few megabytes
_REMEMBERED_CHARACTERS_MAX = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ngrams:
    """Latent semantic analysis: term counts by bucket, log and inverse document frequency, unit length, truncated SVD.

        weight of a term that occurs c times = (1 + log c) log((1 + D) / (1 + D_term)),    D texts, D_term with the term

    The weights of a text are scaled to unit length and projected on the leading singular vectors of the texts of
    `fit`. Terms that occurred in one text only, or in none, say nothing of others and are left out. A text without
    a known term, and the empty text, is the zero vector.

    Deerwester et al., 1990, "Indexing by latent semantic analysis"; buckets instead of a dictionary: Weinberger et
    al., 2009, "Feature hashing for large scale multitask learning" (arXiv 0902.2206).

    place : int32 (BUCKETS,), row of a bucket in the next two, or -1
    rarity : float32 (T,), the terms' inverse document frequency
    axes : float32 (T, k)
    """

    place: Ints
    rarity: Floats
    axes: Floats

    @classmethod
    def of(cls, texts: Sequence[str], *, width: int, seed: int) -> Self:
        """From distinct or repeated texts; `width` is an upper bound on k."""
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd
        from threadpoolctl import threadpool_limits

        found = [_terms(text) for text in texts]
        frequency = np.zeros(BUCKETS, dtype=np.int64)
        for bucket, _ in found:
            frequency[bucket] += 1
        known = np.flatnonzero(frequency > 1)
        place = np.full(BUCKETS, -1, dtype=np.int32)
        place[known] = np.arange(len(known), dtype=np.int32)
        rarity = np.log((1.0 + len(texts)) / (1.0 + frequency[known])).astype(np.float32)
        bare = cls(place=place, rarity=rarity, axes=np.zeros((len(known), 0), dtype=np.float32))
        rows = [bare._weighed(bucket, count) for bucket, count in found]
        rows = [(term, weight) for term, weight in rows if weight.any()]
        width = min(width, len(rows), len(known))
        if width == 0:
            return bare
        start = np.cumsum([0, *(len(term) for term, _ in rows)])
        term, weight = (np.concatenate(column) for column in zip(*rows, strict=True))
        matrix = csr_matrix((weight, term, start), shape=(len(rows), len(known)))
        with threadpool_limits(limits=1):  # sums of several threads are added in the order in which they finish
            _, _, axes = randomized_svd(matrix, width, n_iter=_POWER_ROUNDS, random_state=seed)
        return cls(place=place, rarity=rarity, axes=np.ascontiguousarray(axes.T, dtype=np.float32))

    def vectors(self, texts: Sequence[str]) -> Floats:
        """float32 (len(texts), k); a text's vector does not depend on the other texts."""
        vectors = np.zeros((len(texts), self.axes.shape[1]), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            term, weight = self._weighed(*_terms(text))
            vector[:] = weight @ self.axes[term]
        return vectors

    def _weighed(self, bucket: Ints, count: Ints) -> tuple[Ints, Floats]:
        """Known terms of a text and their weights, a unit vector."""
        term = self.place[bucket]
        known = term >= 0
        term = term[known]
        weight = (1.0 + np.log(count[known])).astype(np.float32) * self.rarity[term]
        length = np.float32(np.sqrt(np.square(weight).sum()))
        return term, weight / length if length > 0 else weight


def _terms(text: str) -> tuple[Ints, Ints]:
    """Buckets of the words and pairs of neighbouring words of a text, ascending, and how often each occurs."""
    if len(text) > _CHARACTERS_MAX:
        text = f"{text[: _CHARACTERS_MAX // 2]} {text[-_CHARACTERS_MAX // 2 :]}"
    words = _WORD.findall(text.lower())
    if not words:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    sums = [_remembered(word) if len(word) <= _REMEMBERED_CHARACTERS_MAX else _checksum(word) for word in words]
    one = np.array(sums, dtype=np.uint64)
    two = (one[:-1] * _PAIR) ^ one[1:]
    bucket = ((np.concatenate([one, two]) * _PAIR) >> np.uint64(48)).astype(np.int64)
    bucket.sort()
    edge = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1], [True]]))
    return bucket[edge[:-1]], edge[1:] - edge[:-1]


def _checksum(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass"))


_remembered = lru_cache(maxsize=_REMEMBERED_MAX)(_checksum)
