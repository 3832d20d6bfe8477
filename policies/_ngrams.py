"""Texts as vectors of the words and pairs of words in them: hashed counts, weighed by rarity, in few dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from policies._terms import BUCKETS, TermMemory, Terms
from router_gateway.core.types import Floats, Ints

_POWER_ROUNDS = 2
_SPARE = 10  # directions that are followed besides those wanted
_NOISE = 1e-6  # share of the largest singular value below which a direction is rounding
_MEMORY = TermMemory()


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
        from threadpoolctl import threadpool_limits

        found = _MEMORY.read(texts)
        frequency = np.bincount(_joined(found)[1], minlength=BUCKETS)
        known = np.flatnonzero(frequency > 1)
        place = np.full(BUCKETS, -1, dtype=np.int32)
        place[known] = np.arange(len(known), dtype=np.int32)
        rarity = np.log((1.0 + len(texts)) / (1.0 + frequency[known])).astype(np.float32)
        bare = cls(place=place, rarity=rarity, axes=np.zeros((len(known), 0), dtype=np.float32))
        matrix = bare._matrix(found)
        matrix = matrix[np.flatnonzero(np.diff(matrix.indptr))]
        width = min(width, *matrix.shape)
        if width == 0:
            return bare
        with threadpool_limits(limits=1):  # sums of several threads are added in the order in which they finish
            axes = _leading_axes(matrix, width, np.random.default_rng(seed))
        return cls(place=place, rarity=rarity, axes=axes)

    def together(self, texts: Sequence[str]) -> Floats:
        """float32 (len(texts), k): `vectors` of many texts to learn from, faster; last bits may differ."""
        return np.asarray(self._matrix(_MEMORY.read(texts)) @ self.axes, dtype=np.float32)

    def vectors(self, texts: Sequence[str]) -> Floats:
        """float32 (len(texts), k); a text's vector does not depend on the other texts."""
        vectors = np.zeros((len(texts), self.axes.shape[1]), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            term, weight = self._weighed(*_MEMORY.look(text))
            vector[:] = weight @ self.axes[term]
        return vectors

    def _matrix(self, found: Sequence[Terms]) -> Any:
        """`_weighed` of many texts: float32, sparse (texts, T), without terms that weigh nothing."""
        from scipy.sparse import csr_matrix

        row, bucket, count = _joined(found)
        term = self.place[bucket]
        known = term >= 0
        row, term = row[known], term[known]
        weight = (1.0 + np.log(count[known])).astype(np.float32) * self.rarity[term]
        length = np.sqrt(np.bincount(row, weights=weight.astype(np.float64) ** 2, minlength=len(found)))
        weight /= np.where(length > 0, length, 1.0).astype(np.float32)[row]
        matrix = csr_matrix((weight, (row, term)), shape=(len(found), len(self.rarity)))
        matrix.eliminate_zeros()
        return matrix

    def _weighed(self, bucket: Ints, count: Ints) -> tuple[Ints, Floats]:
        """Known terms of a text and their weights, a unit vector."""
        term = self.place[bucket]
        known = term >= 0
        term = term[known]
        weight = (1.0 + np.log(count[known].astype(np.float64))).astype(np.float32) * self.rarity[term]
        length = np.float32(np.sqrt(np.square(weight).sum()))
        return term, weight / length if length > 0 else weight


def _leading_axes(matrix: Any, width: int, rng: np.random.Generator) -> Floats:
    """The leading right singular vectors, about, of a sparse (texts, T): float32 (T, k), k <= width.

    Subspace iteration from random combinations of the texts, orthogonal among the texts only, of which there are
    fewer than terms; then exact within the subspace. Halko et al., 2011, "Finding structure with randomness".
    """
    across = matrix.T.tocsr()
    texts = rng.normal(size=(matrix.shape[0], min(width + _SPARE, *matrix.shape))).astype(np.float32)
    for _ in range(_POWER_ROUNDS + 1):
        texts = np.linalg.qr(matrix @ (across @ texts))[0]
    terms = across @ texts
    square, turn = np.linalg.eigh((terms.T @ terms).astype(np.float64))
    square, turn = square[::-1][:width], turn[:, ::-1][:, :width]
    kept = square > _NOISE**2 * square[0]
    axes = terms @ (turn[:, kept] / np.sqrt(square[kept])).astype(np.float32)
    return np.ascontiguousarray(axes, dtype=np.float32)


def _joined(found: Sequence[Terms]) -> tuple[Ints, Ints, Ints]:
    """Texts' terms one after the other: which text, bucket, count."""
    lengths = [len(bucket) for bucket, _ in found]
    if not sum(lengths):
        none = np.zeros(0, dtype=np.int64)
        return none, none, none
    bucket, count = (np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True))
    return np.repeat(np.arange(len(found)), lengths), bucket, count
