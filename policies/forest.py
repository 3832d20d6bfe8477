"""Forest: an answer will be about as good as answers to queries that many random trees cannot tell from this one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._cells import ShrunkCells, union
from policies._looks import looks
from policies._ngrams import Ngrams
from policies._store import read_state, write_state
from policies._trees import Trees
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Queries, Scores

_BATCH = 64  # queries scored at a time: bounds the (batch, T, E) arrays
_SHARED_ROWS = 200  # queries from which it is estimated how much trees have in common
_WORDS = ("place", "rarity", "axes")
_TREES = ("root", "feature", "threshold", "below", "above", "leaf")


@dataclass(kw_only=True)
class Forest:
    """Extremely randomised trees over the words, the looks and the vector of a request; a table of cells in each.

    A query is read as its leading `words` latent dimensions (`policies._ngrams`), what its text looks like
    (`policies._looks`) and its vector's leading `components` principal components. T trees are grown on the leading
    `targets` principal components of the outcomes' table, less the endpoints' means, an unknown outcome taken for the
    mean: where endpoints fail together they are told apart together. Then every leaf is a kind of query, and counts
    each endpoint's outcomes as in `policies._cells`, drawn to the endpoint's mean by `prior_weight`. With x_t, own_t
    and common_t those of the leaf that a query reaches in tree t:

        quality = mean_t x_t
        stddev² = r mean_t own_t² + (mean_t common_t)², at most 1/4

    where r <= 1 is by how much less a mean over trees scatters than one leaf does: with a_i the weight that a known
    query i has in it, and n_t the leaf's queries, r = sum_i a_i² / mean_t (1 / n_t), averaged over known queries.

    `partial_fit` counts into the leaves, so a new endpoint is placed by its probes; trees stay as `fit` grew them. One
    leaf is `BestOnAverage`. Where no text was kept, vectors alone are read.

    The sizes were chosen by three-fold cross-validation inside the training parts of four sets of real outcomes
    (docs/policies.md). A query takes about a third of a millisecond.

    Geurts et al., 2006, "Extremely randomized trees"; trees over several outcomes: Segal & Xiao, 2011, "Multivariate
    random forests".
    """

    trees: Annotated[int, Ge(1), Le(1_000), doc("trees that vote")] = 120
    leaf_min: Annotated[int, Ge(1), Le(10_000), doc("known queries in a leaf, at least")] = 5
    share: Annotated[float, Gt(0), Le(1), doc("share of the features that a split may choose from")] = 0.3
    words: Annotated[int, Ge(1), Le(512), doc("latent dimensions of the words, at most")] = 64
    components: Annotated[int, Ge(1), Le(4_096), doc("principal components of the vector, at most")] = 32
    targets: Annotated[int, Ge(1), Le(1_000), doc("principal components of the outcomes that trees are grown on")] = 6
    prior_weight: Annotated[float, Ge(0), doc("outcomes that the endpoint's own mean counts for in a leaf")] = 1.0
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other trees")] = 0

    def __post_init__(self) -> None:
        self.table_: _Table | None = None

    def fit(self, experience: Experience) -> Self:
        queries = experience.queries
        seen = np.unique(experience.query)
        texts = [queries.text[row] for row in seen if queries.text[row]]
        centre, axes = _principal(queries.embedding[seen], self.components)
        ngrams = Ngrams.of(texts, width=self.words, seed=self.seed)
        return self._learned(experience, _Reader(ngrams=ngrams, centre=centre, components=axes))

    def refit(self, experience: Experience) -> Self:
        """Learn from these outcomes alone, reading queries as before."""
        return self._learned(experience, self._table().cells.reader)

    def _learned(self, experience: Experience, reader: _Reader) -> Self:
        seen = np.unique(experience.query)
        features = reader.read(experience.queries.take(seen), alone=False)
        trees, reached = Trees.grown(
            features,
            _targets(experience.table()[0][seen], self.targets),
            trees=self.trees,
            leaf_min=self.leaf_min,
            share=self.share,
            seed=self.seed,
        )
        empty = _Cells(
            endpoints=experience.endpoints,
            space=experience.queries.space,
            reader=reader,
            trees=trees,
            counts=np.bincount(reached.ravel(), minlength=trees.leaves).astype(np.float64),
            apart=_apart(reached, trees.leaves),
            moments=np.zeros((3, trees.leaves, len(experience.endpoints))),
        )
        self.table_ = _Table(empty.with_outcomes(experience, reached), self.prior_weight)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        cells = self._table().cells
        experience.queries.expect(space=cells.space, width=len(cells.reader.centre))
        self.table_ = _Table(cells.with_outcomes(experience), self.prior_weight)
        return self

    def score(self, queries: Queries) -> Scores:
        table = self._table()
        queries.expect(space=table.cells.space, width=len(table.cells.reader.centre))
        quality = np.empty((len(queries), len(table.cells.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            quality[batch], stddev[batch] = table.estimate(queries.take(batch))
        return Scores(endpoints=table.cells.endpoints, quality=quality, stddev=stddev)

    def save(self, directory: Path) -> None:
        cells = self._table().cells
        facts = {"endpoints": list(cells.endpoints), "space": cells.space, "apart": cells.apart}
        arrays = {name: getattr(cells.trees, name) for name in _TREES}
        arrays |= {name: getattr(cells.reader.ngrams, name) for name in _WORDS}
        arrays |= {"centre": cells.reader.centre, "components": cells.reader.components}
        write_state(directory, self, facts=facts, arrays={**arrays, "counts": cells.counts, "moments": cells.moments})

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(
            directory,
            cls,
            facts=("endpoints", "space", "apart"),
            arrays=(*_TREES, *_WORDS, "centre", "components", "counts", "moments"),
        )
        ngrams = Ngrams(**{name: arrays[name] for name in _WORDS})  # type: ignore[arg-type]
        cells = _Cells(
            endpoints=tuple(facts["endpoints"]),
            space=facts["space"],
            reader=_Reader(ngrams=ngrams, centre=arrays["centre"], components=arrays["components"]),
            trees=Trees(**{name: arrays[name] for name in _TREES}),  # type: ignore[arg-type]
            counts=arrays["counts"],
            apart=float(facts["apart"]),
            moments=arrays["moments"],
        )
        policy.table_ = _Table(cells, policy.prior_weight)
        return policy

    def _table(self) -> _Table:
        if self.table_ is None:
            raise NotFitted("Forest has learned nothing yet", hint="call fit first")
        return self.table_


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reader:
    """Queries as features: words, looks, and the vector's components; centre (d,), components (d, c), float64."""

    ngrams: Ngrams
    centre: Floats
    components: Floats

    def read(self, queries: Queries, *, alone: bool = True) -> Floats:
        """float32 (Q, F), each row as it would be alone; where that does not matter, faster, with other last bits."""
        away = queries.embedding.astype(np.float64) - self.centre
        vector = np.matmul(away[:, None, :], self.components)[:, 0].astype(np.float32)
        words = self.ngrams.vectors(queries.text) if alone else self.ngrams.together(queries.text)
        return np.concatenate([words, looks(queries.text, queries.tokens_input.tolist()), vector], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """What was observed. Nothing here is ever written in place.

    counts : float64 (L,), queries of `fit` in each leaf
    apart : by how much less a mean over trees scatters than one leaf, in (0, 1]
    moments : float64 (3, L, E), number of outcomes, their sum, the sum of their squares
    """

    endpoints: tuple[str, ...]
    space: str
    reader: _Reader
    trees: Trees
    counts: Floats
    apart: float
    moments: Floats

    def with_outcomes(self, experience: Experience, reached: Ints | None = None) -> _Cells:
        """These and the outcomes of `experience`, over the union of both pools.

        reached : int64 (R, T), the leaves of the queries that have an outcome, where they are known already
        """
        names, column = union(self.endpoints, experience)
        moments = np.zeros((3, self.trees.leaves, len(names)))
        moments[:, :, : len(self.endpoints)] = self.moments
        seen, row = np.unique(experience.query, return_inverse=True)
        if reached is None:
            reached = self.trees.reached(self.reader.read(experience.queries.take(seen), alone=False))
        quality, size = experience.quality.astype(np.float64), len(names)
        for leaf, first, end in zip(reached.T, self.trees.first[:-1], self.trees.first[1:], strict=True):
            cell = (leaf[row] - first) * size + column
            for sums, values in zip(moments, (None, quality, quality**2), strict=True):
                counted = np.bincount(cell, weights=values, minlength=int(end - first) * size)
                sums[first:end] += counted.reshape(-1, size)
        return replace(self, endpoints=names, moments=moments)


class _Table:
    """Cells and what is derived from them. Never changed once built, so copies of a policy share it."""

    def __init__(self, cells: _Cells, prior_weight: float) -> None:
        self.cells = cells
        first = cells.trees.first
        each = []
        for a, b in pairwise(first):
            count = cells.counts[a:b]
            share = (count + 1.0 / len(count)) / (count.sum() + 1.0)
            each.append(ShrunkCells.of(cells.moments[:, a:b], share, prior_weight))
        self._read = np.concatenate(
            [np.stack([one.quality, one.own_variance * cells.apart, one.common_error], axis=1) for one in each]
        )  # (L, 3, E), side by side because they are read together

    def __deepcopy__(self, memo: dict[int, Any]) -> _Table:
        return self

    def estimate(self, queries: Queries) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E)."""
        reached = self.cells.trees.reached(self.cells.reader.read(queries))
        total = self._read[reached].sum(axis=1)  # one tree after the other, so a batch gives the bits its rows would
        quality, own, common = (total / len(self.cells.trees)).transpose(1, 0, 2)
        return np.clip(quality, 0.0, 1.0), np.minimum(np.sqrt(own + common**2), 0.5)


def _principal(embedding: Floats, components: int) -> tuple[Floats, Floats]:
    """Mean (d,) and the leading directions (d, c) of vectors (R, d), float64."""
    width = embedding.shape[1]
    if not len(embedding):
        return np.zeros(width), np.zeros((width, 0))
    centre = embedding.mean(axis=0, dtype=np.float64)
    away = embedding - centre.astype(np.float32)
    axes = np.linalg.eigh((away.T @ away).astype(np.float64))[1][:, ::-1][:, :components]
    return centre, np.ascontiguousarray(axes)


def _targets(quality: Floats, targets: int) -> Floats:
    """The leading components (R, C) of outcomes (R, E) less the endpoints' means, NaN taken for the mean."""
    known = np.isfinite(quality)
    mean = np.where(known, quality, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    away = np.where(known, quality - mean, 0.0).astype(np.float64)
    return np.asarray(away @ np.linalg.eigh(away.T @ away)[1][:, ::-1][:, :targets])


def _apart(reached: Ints, leaves: int) -> float:
    """The r of `Forest`, from the leaves (R, T) that known queries reach."""
    if not len(reached):
        return 1.0
    size = np.bincount(reached.ravel(), minlength=leaves)
    members = np.argsort(reached.ravel(), kind="stable") // reached.shape[1]  # of the first leaf, of the second, …
    first = np.cumsum(size) - size
    total, single = 0.0, 0.0
    for row in np.linspace(0, len(reached) - 1, min(len(reached), _SHARED_ROWS)).round().astype(np.int64):
        own = reached[row]
        beside = size[own]
        place = np.repeat(first[own] - (np.cumsum(beside) - beside), beside) + np.arange(beside.sum())
        weight = np.bincount(members[place], weights=np.repeat(1.0 / beside, beside)) / len(own)
        total += float((weight**2).sum())
        single += float((1.0 / beside).mean())
    return total / single
