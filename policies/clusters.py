"""Clusters: an answer will be about as good as answers to the same kind of query were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._kmeans import centroids
from policies._moments import shrunk
from policies._readers import learned_readers
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Queries, Scores

_BATCH = 256  # queries scored at a time: bounds the (batch, top, E) arrays


@dataclass(kw_only=True)
class Clusters:
    """A table of kinds of query and endpoints, read softly: K means of past queries, one mean quality per cell.

    Let n, t and u be the count, sum and sum of squares of an endpoint's outcomes in a cluster, each past query
    counted in the nearest one, m and v the endpoint's shrunk mean and variance over all its outcomes, m_2 the
    mean of squares (`policies._moments`), g the cluster's share of the queries, and s = prior_weight. The
    observation that shrinking imagines is spread over the clusters by g:

        N       = n + g
        quality of a cell  x = (t + g/2 + s m) / (N + s)
        variance of a cell y = (u + g/2 + s m_2) / (N + s) - x²

    A query reads the `top` nearest centroids c_k, and gets sum_k w_k x_k with

        w_k proportional to exp(-sharpness |q - c_k|² / 2)

    The doubt treats cells as means of N outcomes, drawn to m by h = s / (N + s), whose expectations scatter around
    m with variance v / (s + 1), as in a Beta distribution of mass s. With r = N / (n_all + 1), the part of m that
    the cell itself contributes:

        a_k     = (1 - h + h r)² y / N + h² (1 - r)² v / (s + 1)      its own error, and the cell's true distance to m
        b_k     = h sqrt((1 - r) v / (n_all + 1))                     the error of m, which all cells share
        stddev² = sum_k w_k² a_k + (sum_k w_k b_k)², at most 1/4

    With one cluster this is `BestOnAverage`, mean and doubt. A new endpoint is placed by one averaging pass over
    the probes in `partial_fit`; where it was not probed it has its own mean. Centroids stay as `fit` found them.
    With a half-life h', an outcome weighs 2^(-j / h') once j later ones of its endpoint are known.

    With `learned`, outcomes are still counted at the centroids, but a query is weighed by readers r_k in their place:

        w_k proportional to exp(-sharpness |q - r_k|² / 2), of the `top` nearest readers

    which is softmax_k(theta_k q - |theta_k|² / (2 sharpness)) with theta_k = sharpness r_k. They start as r_k = c_k, so
    with 0 steps every score is, to the bit, what it is without `learned`. `fit` then moves them down the gradient of
    the cross-entropy between outcomes and sum_k w_k x_k, each query's own outcomes left out of x. `partial_fit`
    leaves them, so a new endpoint is read by what was learned from the others.

    The defaults were chosen by cross-validation inside the training halves of two sets of real outcomes (nine
    models on 1,484 queries, three on 1,785); `hold` on the same, read by hashed words rather than by an encoder.

    A table by k-means, and the learned map: Jitkrittum et al., 2025, "Universal model routing" (arXiv 2502.08773); soft
    reading of the nearest: Zhang et al., 2025, "The Avengers" (arXiv 2505.19797).
    """

    clusters: Annotated[int, Ge(1), Le(4_096), doc("kinds of query told apart, at most")] = 64
    top: Annotated[int, Ge(1), doc("how many of the nearest kinds are read")] = 8
    sharpness: Annotated[float, Ge(0), Le(1_000), doc("how fast a kind fades with distance; 0 = not at all")] = 20.0
    prior_weight: Annotated[float, Ge(0), doc("observations that the endpoint's own mean counts for (s)")] = 5.0
    half_life: Annotated[float, Gt(0), doc("outcomes after which one weighs half; null = never")] | None = None
    learned: Annotated[bool, doc("move where kinds are read from to where reading predicts best")] = False
    steps: Annotated[int, Ge(0), Le(100_000), doc("how long to move them, in steps of 256 queries")] = 300
    hold: Annotated[float, Ge(0), Le(1_000), doc("how strongly they are drawn back to the kinds' centres")] = 20.0
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other clusters")] = 0

    def __post_init__(self) -> None:
        self.table_: _Table | None = None

    def fit(self, experience: Experience) -> Self:
        seen = experience.queries.embedding[np.unique(experience.query)]
        return self._learned(experience, centroids(seen, clusters=self.clusters, seed=self.seed))

    def refit(self, experience: Experience) -> Self:
        """Learn from these outcomes alone, with the centroids found before."""
        return self._learned(experience, self._table().cells.centres)

    def _learned(self, experience: Experience, centres: Floats) -> Self:
        queries = experience.queries
        seen = queries.embedding[np.unique(experience.query)]
        nearest = _Points(centres).nearest(seen, 1)[0][:, 0]
        share = (np.bincount(nearest, minlength=len(centres)) + 1.0 / len(centres)) / (len(seen) + 1.0)
        moments = np.zeros((3, len(centres), len(experience.endpoints)))
        empty = _Cells(
            endpoints=experience.endpoints,
            space=queries.space,
            centres=centres,
            readers=self._readers(experience, centres, nearest, share) if self.learned else centres,
            share=share,
            moments=moments,
        )
        self.table_ = _Table(empty.with_outcomes(experience, self.half_life), self.prior_weight)
        return self

    def _readers(self, experience: Experience, centres: Floats, home: Ints, share: Floats) -> Floats:
        """Where to read from, float32 (K, d), given the nearest centre of each query that was asked."""
        seen, row = np.unique(experience.query, return_inverse=True)
        count, total = np.zeros((2, len(seen), len(experience.endpoints)))
        np.add.at(count, (row, experience.endpoint), 1.0)
        np.add.at(total, (row, experience.endpoint), experience.quality.astype(np.float64))
        mean, _, _ = shrunk(count.sum(axis=0), total.sum(axis=0), total.sum(axis=0))
        weight = share[:, None] + self.prior_weight
        return learned_readers(
            experience.queries.embedding[seen],
            home,
            total / np.maximum(count, 1.0),
            count,
            centres=centres,
            prior=(share[:, None] / 2 + self.prior_weight * mean) / weight,
            prior_weight=weight,
            top=self.top,
            sharpness=self.sharpness,
            steps=self.steps,
            hold=self.hold,
            seed=self.seed,
        )

    def partial_fit(self, experience: Experience) -> Self:
        cells = self._table().cells
        experience.queries.expect(space=cells.space, width=cells.centres.shape[1])
        self.table_ = _Table(cells.with_outcomes(experience, self.half_life), self.prior_weight)
        return self

    def score(self, queries: Queries) -> Scores:
        table = self._table()
        queries.expect(space=table.cells.space, width=table.cells.centres.shape[1])
        quality = np.empty((len(queries), len(table.cells.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            row, half_square = table.readers.nearest(queries.embedding[batch], self.top)
            weight = np.exp(-self.sharpness * (half_square - half_square[:, :1]))
            quality[batch], stddev[batch] = table.read(row, weight / weight.sum(axis=1, keepdims=True))
        return Scores(endpoints=table.cells.endpoints, quality=quality, stddev=stddev)

    def save(self, directory: Path) -> None:
        cells = self._table().cells
        facts = {"endpoints": list(cells.endpoints), "space": cells.space}
        centres = np.stack([cells.centres, cells.readers]) if self.learned else cells.centres
        arrays = {"centres": centres, "share": cells.share, "moments": cells.moments}
        write_state(directory, self, facts=facts, arrays=arrays)

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(
            directory, cls, facts=("endpoints", "space"), arrays=("centres", "share", "moments")
        )
        centres = arrays.pop("centres")
        counted, read = (centres[0], centres[1]) if policy.learned else (centres, centres)
        cells = _Cells(
            endpoints=tuple(facts["endpoints"]), space=facts["space"], centres=counted, readers=read, **arrays
        )
        policy.table_ = _Table(cells, policy.prior_weight)
        return policy

    def _table(self) -> _Table:
        if self.table_ is None:
            raise NotFitted("Clusters has learned nothing yet", hint="call fit first")
        return self.table_


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """What was observed. Nothing here is ever written in place.

    centres : float32 (K, d), where outcomes are counted
    readers : float32 (K, d), where queries read; the centres, unless learned
    share : float64 (K,) > 0, the clusters' shares of the queries of `fit`; they sum to 1
    moments : float64 (3, K, E), number of outcomes, their sum, the sum of their squares
    """

    endpoints: tuple[str, ...]
    space: str
    centres: Floats
    readers: Floats
    share: Floats
    moments: Floats

    def with_outcomes(self, experience: Experience, half_life: float | None) -> _Cells:
        """These and the outcomes of `experience`, oldest first, over the union of both pools."""
        names = (*self.endpoints, *(name for name in experience.endpoints if name not in self.endpoints))
        moments = np.zeros((3, len(self.centres), len(names)))
        moments[:, :, : len(self.endpoints)] = self.moments
        position = np.array([names.index(name) for name in experience.endpoints], dtype=np.int64)
        column = position[experience.endpoint]
        weight = np.ones(len(column))
        if half_life is not None:
            later, new = _later(column, len(names))
            weight = 0.5 ** (later / half_life)
            moments *= 0.5 ** (new / half_life)
        seen, row = np.unique(experience.query, return_inverse=True)
        cluster = _Points(self.centres).nearest(experience.queries.embedding[seen], 1)[0][row, 0]
        quality = experience.quality.astype(np.float64)
        for sums, values in zip(moments, (np.ones_like(quality), quality, quality**2), strict=True):
            np.add.at(sums, (cluster, column), weight * values)
        return replace(self, endpoints=names, moments=moments)


class _Table:
    """Cells and what is derived from them. Never changed once built, so copies of a policy share it."""

    def __init__(self, cells: _Cells, prior_weight: float) -> None:
        self.cells = cells
        self.readers = _Points(cells.readers)
        s, share = prior_weight, cells.share[:, None]
        count, total, square = cells.moments
        whole = count.sum(axis=0)
        mean, variance, mean_error = shrunk(whole, total.sum(axis=0), square.sum(axis=0))
        evidence = count + share
        quality = (total + share / 2 + s * mean) / (evidence + s)
        spread = (square + share / 2 + s * (variance + mean**2)) / (evidence + s) - quality**2
        drawn = s / (evidence + s)
        part = evidence / (whole + 1.0)
        away = drawn * (1.0 - part)
        self._own = (1.0 - away) ** 2 * np.maximum(spread, 0.0) / evidence + away**2 * variance / (s + 1.0)
        common = drawn * np.sqrt(np.maximum(1.0 - part, 0.0)) * mean_error
        self._read = np.stack([quality, common], axis=1)  # (K, 2, E), side by side because they are read together

    def __deepcopy__(self, memo: dict[int, Any]) -> _Table:
        return self

    def read(self, cluster: Ints, weight: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), of cells `cluster` (Q, top) by weights (Q, top) that sum to 1."""
        # One product per query, so that a batch gives the bits its rows would.
        once = weight[:, None, :]
        read = np.matmul(weight[:, None, None, :], self._read[cluster].swapaxes(1, 2))[:, :, 0]
        own = np.matmul(once**2, self._own[cluster])[:, 0]
        quality, common = read[:, 0], read[:, 1]
        return np.minimum(np.maximum(quality, 0.0), 1.0), np.minimum(np.sqrt(own + common**2), 0.5)


class _Points:
    """Points (K, d) to look for the nearest of; in double precision, and turned once and not at every look."""

    def __init__(self, points: Floats) -> None:
        wide = points.astype(np.float64)
        self._columns = np.ascontiguousarray(wide.T)
        self._square = (wide**2).sum(axis=1)

    def nearest(self, embedding: Floats, top: int) -> tuple[Ints, Floats]:
        """The nearest `top` of each row (R, d), nearest first: positions and half squared distances, (R, top)."""
        rows = embedding.astype(np.float64)
        cross = np.matmul(rows[:, None, :], self._columns)[:, 0]
        half_square = ((rows**2).sum(axis=1, keepdims=True) + self._square) / 2 - cross
        order = half_square.argsort(axis=1, kind="stable")[:, :top]
        return order, half_square[np.arange(len(rows))[:, None], order]


def _later(column: Ints, endpoints: int) -> tuple[Ints, Ints]:
    """For each outcome the number of later ones of its endpoint, (N,), and the number of each endpoint's, (E,)."""
    order = np.argsort(column, kind="stable")
    counts = np.bincount(column, minlength=endpoints)
    ends = np.cumsum(counts)
    later = np.empty_like(column)
    later[order] = ends[column[order]] - 1 - np.arange(len(column))
    return later, counts
