"""KNN: an answer will be about as good as the answers to the nearest past queries were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import faiss
import numpy as np
from annotated_types import Ge, Le, doc

from policies._moments import shrunk
from policies._rows import Rows
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Neighbour, Queries, Scores

_BATCH = 64  # queries scored at a time: bounds the gathered (batch, k, 3E) array
_SPARE = 32  # half-precision candidates beyond k that are ranked again exactly
_MANY = 16  # queries at once: from here on a product of matrices finds the candidates sooner than the index
_ROWS_IN_FULL = 21_000  # above (no set of docs/benchmarks.md has as many) rows are sought by principal coordinates
_AXES = 192  # of those
_AXES_ROWS = 10_000  # that they are computed from
_TAKEN = 128  # rows copied at a time: a copy of megabytes costs fresh pages of the system at every query


@dataclass(kw_only=True)
class KNN:
    """Quality of the nearest past queries, each weighted by how near it is.

    Let j run over the k nearest rows with an outcome q_j of the endpoint, c_j be their cosines, and
    m, v the endpoint's shrunk mean and variance over all n of its outcomes (`policies._moments`):

        a_j     = exp(sharpness * (c_j - 1))              weight: 1 for an exact repeat
        W       = sum_j a_j                               how much evidence is near
        h       = s / (W + s)                             share of the prior, s = prior_weight; 1 if W + s = 0
        quality = (sum_j a_j q_j + s m) / (W + s)         = (1 - h) x + h m, x the neighbours' weighted mean

    The doubt is the root mean square error of that estimate, when the neighbours' expectation is the query's own
    and expectations scatter around m with variance v / (s + 1), as in a Beta distribution of mass s:

        n_eff   = W² / sum_j a_j²                         neighbours, counted by weight (Kish)
        spread  = (n_eff var_a(q) + v) / (n_eff + 1)      their weighted variance, shrunk to v
        stddev² = (1 - h)² spread / (n_eff + 1) + h² (v / (s + 1) + v / (n + 1)), at most 1/4

    Far from everything W vanishes, h nears 1, and mean and doubt return to the prior's: a query like none before
    is one to be careful with. As s grows the policy becomes `BestOnAverage`; with sharpness 0, s = 0 and k >= R
    it answers the column means. With s = 0 distance widens no doubt. Each distinct query votes once.

    Search is FAISS, flat inner product at half precision, then exact float32 cosines of the best k + 32. With more
    than 21,000 rows of more than 192 dimensions it is by their 192 principal coordinates, which hold most of a
    cosine, and the best 3 k + 120 are ranked exactly: of 30,000 prompts that finds 99.8 % of the nearest k.
    Scoring runs on the calling thread alone: OpenMP keeps its number of threads per calling thread, so it is
    set to one around each search and put back. Memory: at most 6 d + 48 E bytes a row, `rows_max` rows.

    The defaults were chosen by cross-validation inside the training halves of two sets of real outcomes (nine
    models on 1,485 queries, three on 1,785); anything with k 80-240, sharpness 5-10 and a prior weight below 1
    is within their noise of it.

    Weighted neighbours: Dudani, 1976, "The distance-weighted k-nearest-neighbor rule". k nearest queries as a
    router: Hu et al., 2024, "RouterBench".
    """

    k: Annotated[int, Ge(1), Le(10_000), doc("how many past queries vote")] = 80
    prior_weight: Annotated[float, Ge(0), doc("votes of the endpoint's own mean (s)")] = 0.25
    sharpness: Annotated[float, Ge(0), Le(1_000), doc("how fast a vote fades with distance; 0 = not at all")] = 7.0
    rows_max: Annotated[int, Ge(1), doc("distinct queries remembered; the longest untouched are forgotten")] = 30_000

    def __post_init__(self) -> None:
        self.memory_: _Memory | None = None

    def fit(self, experience: Experience) -> Self:
        self.memory_ = _Memory(Rows.of(experience).newest(self.rows_max))
        return self

    def partial_fit(self, experience: Experience) -> Self:
        rows = self._memory().rows
        experience.queries.expect(space=rows.space, width=rows.embedding.shape[1])
        self.memory_ = _Memory(rows.append(Rows.of(experience)).newest(self.rows_max))
        return self

    def score(self, queries: Queries) -> Scores:
        memory = self._memory()
        quality = np.empty((len(queries), len(memory.rows.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for batch, (row, cosine) in memory.nearest(queries, self.k):
            weight = np.exp(self.sharpness * (cosine.astype(np.float64) - 1.0))
            quality[batch], stddev[batch] = self._estimate(memory, row, weight)
        return Scores(endpoints=memory.rows.endpoints, quality=quality, stddev=stddev)

    def _estimate(self, memory: _Memory, row: Ints, weight: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), from neighbours `row` (Q, k) and their weights (Q, k)."""
        # One product per query, so that a batch gives the bits its rows would.
        sums = np.matmul(np.stack([weight, weight**2], axis=1), memory.votes[row])
        near, total, square = np.split(sums[:, 0], 3, axis=1)
        near_square = np.split(sums[:, 1], 3, axis=1)[0]
        s, mean, variance = self.prior_weight, memory.mean, memory.variance
        share = np.divide(s, near + s, out=np.ones_like(near), where=near + s > 0)
        local = np.divide(total, near, out=np.zeros_like(near), where=near > 0)
        scatter = np.divide(square, near, out=np.zeros_like(near), where=near > 0) - local**2
        count = np.divide(near**2, near_square, out=np.zeros_like(near), where=near_square > 0)
        spread = (count * np.maximum(scatter, 0.0) + variance) / (count + 1.0)
        doubt = (1 - share) ** 2 * spread / (count + 1.0) + share**2 * (variance / (s + 1.0) + memory.mean_error**2)
        return np.clip((1 - share) * local + share * mean, 0.0, 1.0), np.minimum(np.sqrt(doubt), 0.5)

    def neighbours(self, queries: Queries, n: int) -> list[list[Neighbour]]:
        """The n nearest past queries of each query, nearest first: what an estimate rests on."""
        memory = self._memory()
        found: list[list[Neighbour]] = []
        for _, (rows, cosines) in memory.nearest(queries, n):
            for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
                pairs = zip(row, cosine, strict=True)
                found.append([Neighbour(row=i, cosine=c, quality=memory.observed(i)) for i, c in pairs])
        return found

    def save(self, directory: Path) -> None:
        rows = self._memory().rows
        facts = {"endpoints": list(rows.endpoints), "space": rows.space}
        write_state(directory, self, facts=facts, arrays={"embedding": rows.embedding, "moments": rows.moments})

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(
            directory, cls, facts=("endpoints", "space"), arrays=("embedding", "moments")
        )
        policy.memory_ = _Memory(Rows(endpoints=tuple(facts["endpoints"]), space=facts["space"], **arrays))
        return policy

    def _memory(self) -> _Memory:
        if self.memory_ is None:
            raise NotFitted("KNN has learned nothing yet", hint="call fit first")
        return self.memory_


class _Memory:
    """Rows and what is derived from them. Never changed once built, so copies of a policy share it."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        count, total, square = rows.moments
        seen = count > 0
        each = np.where(seen, total / np.where(seen, count, 1.0), 0.0)
        self.votes = np.concatenate([seen.astype(np.float64), each, each**2], axis=1)  # (R, 3E)
        self.mean, self.variance, self.mean_error = shrunk(count.sum(0), total.sum(0), square.sum(0))
        width = rows.embedding.shape[1]
        self._axes = _principal(rows.embedding) if len(rows) > _ROWS_IN_FULL and width > _AXES else None
        sought = rows.embedding if self._axes is None else rows.embedding @ self._axes
        width = sought.shape[1]
        self._index = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        if len(rows):
            self._index.add(np.ascontiguousarray(sought, dtype=np.float32))

    def __deepcopy__(self, memo: dict[int, Any]) -> _Memory:
        return self

    def nearest(self, queries: Queries, k: int) -> Iterator[tuple[slice, tuple[Ints, Floats]]]:
        """Per batch of queries: their slice, and the rows and cosines (B, min(k, R)) of the nearest, nearest first."""
        queries.expect(space=self.rows.space, width=self.rows.embedding.shape[1])
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, min(start + _BATCH, len(queries)))
            yield batch, self._search(np.ascontiguousarray(queries.embedding[batch], dtype=np.float32), k)

    def _search(self, embedding: Floats, k: int) -> tuple[Ints, Floats]:
        if self._axes is not None:
            found = [self._search_along(self._axes, query, k) for query in embedding]
            return np.stack([row for row, _ in found]), np.stack([cosine for _, cosine in found])
        candidates = min(k + _SPARE, len(self.rows))
        if not candidates:
            return np.zeros((len(embedding), 0), dtype=np.int64), np.zeros((len(embedding), 0), dtype=np.float32)
        if len(embedding) < _MANY:
            with _one_thread():
                _, row = self._index.search(embedding, candidates)
        else:
            away = embedding @ self.rows.embedding.T
            np.negative(away, out=away)
            row = np.argpartition(away, candidates - 1, axis=1)[:, :candidates]
        row.sort(axis=1)  # equal cosines then keep the order of the rows
        cosine = np.matmul(self.rows.embedding[row], embedding[:, :, None])[:, :, 0]
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(row, nearest, axis=1), np.take_along_axis(cosine, nearest, axis=1)

    def _search_along(self, axes: Floats, query: Floats, k: int) -> tuple[Ints, Floats]:
        """Rows and cosines, each (min(k, R),); one query at a time, so that a batch finds what its rows would."""
        with _one_thread():
            _, found = self._index.search((query @ axes).astype(np.float32)[None], min(3 * k + 120, len(self.rows)))
        row = np.sort(found[0])
        known = self.rows.embedding
        cosine = np.concatenate([known[row[start : start + _TAKEN]] @ query for start in range(0, len(row), _TAKEN)])
        nearest = np.argsort(-cosine, kind="stable")[:k]
        return row[nearest], cosine[nearest]

    def observed(self, row: int) -> dict[str, float]:
        """Mean quality by endpoint of one row, where observed."""
        count, total, _ = self.rows.moments[:, row]
        return {name: float(total[e] / count[e]) for e, name in enumerate(self.rows.endpoints) if count[e] > 0}


def _principal(embedding: Floats) -> Floats:
    """The directions (d, _AXES), orthonormal, along which rows (R, d) are longest; of rows spread evenly over all."""
    some = embedding[:: -(-len(embedding) // _AXES_ROWS)]
    return np.ascontiguousarray(np.linalg.eigh(some.T @ some)[1][:, -_AXES:])


@contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS on the calling thread only; other threads' setting is their own."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
