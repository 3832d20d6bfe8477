"""Distinct past queries and what their answers were worth: the memory of a nearest-neighbour policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """R distinct queries, the longest untouched first. Nothing here is ever written in place.

    endpoints : E names
    space : embedding space of the vectors
    embedding : float32 (R, d), no two rows alike
    moments : float64 (3, R, E), number of outcomes, their sum, the sum of their squares
    """

    endpoints: tuple[str, ...]
    space: str
    embedding: Floats
    moments: Floats

    @classmethod
    def of(cls, experience: Experience) -> Self:
        """One row per distinct embedding that has an outcome; outcomes of equal embeddings are pooled."""
        observed, row = np.unique(experience.query, return_inverse=True)
        embedding = np.ascontiguousarray(experience.queries.embedding[observed], dtype=np.float32)
        group, last = _distinct(embedding)
        moments = np.zeros((3, len(last), len(experience.endpoints)))
        quality = experience.quality.astype(np.float64)
        for sums, values in zip(moments, (np.ones_like(quality), quality, quality**2), strict=True):
            np.add.at(sums, (group[row], experience.endpoint), values)
        return cls(
            endpoints=experience.endpoints,
            space=experience.queries.space,
            embedding=embedding[last],
            moments=moments,
        )

    def __len__(self) -> int:
        return len(self.embedding)

    def append(self, later: Rows) -> Rows:
        """These rows and then `later`'s, over the union of both pools; a query met again moves to the end."""
        names = (*self.endpoints, *(name for name in later.endpoints if name not in self.endpoints))
        embedding = np.concatenate([self.embedding, later.embedding])
        group, last = _distinct(embedding)
        moments = np.zeros((3, len(last), len(names)))
        for part, rows in ((self, group[: len(self)]), (later, group[len(self) :])):
            columns = np.array([names.index(name) for name in part.endpoints], dtype=np.int64)
            moments[:, rows[:, None], columns] += part.moments  # rows of one part are distinct
        return Rows(endpoints=names, space=self.space, embedding=embedding[last], moments=moments)

    def newest(self, rows_max: int) -> Rows:
        """At most `rows_max` rows; the longest untouched are forgotten."""
        if len(self) <= rows_max:
            return self
        return replace(self, embedding=self.embedding[-rows_max:].copy(), moments=self.moments[:, -rows_max:].copy())


def _distinct(embedding: Floats) -> tuple[Ints, Ints]:
    """Group equal rows: `group` (n,) numbers each row's vector by last occurrence, `last` is that occurrence."""
    if not len(embedding):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    bits = np.ascontiguousarray(embedding + np.float32(0.0))  # minus zero and zero are one number
    keys = bits.view(np.dtype((np.void, bits.itemsize * bits.shape[1]))).ravel()
    _, inverse = np.unique(keys, return_inverse=True)
    last = np.zeros(int(inverse.max()) + 1, dtype=np.int64)
    np.maximum.at(last, inverse, np.arange(len(embedding)))
    order = np.argsort(last)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], last[order]
