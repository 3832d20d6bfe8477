"""Composed: first which category a query belongs to, then which endpoints are worth keeping for the categories."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._cells import ShrunkCells, add_outcomes, union
from policies._kmeans import centroids
from policies._logistic import Logistic, thinned
from policies._pool import best_pool
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Bools, Floats, Ints, Queries, Scores

_BATCH = 256  # queries scored at a time: bounds the (batch, K) array
_QUERIES_EACH = 8  # past queries per category, on average: fewer show neither where it ends nor who is good at it


@dataclass(kw_only=True)
class Composed:
    """Two steps: a classifier gives the query a category, a table says how good each endpoint is at it.

    Categories are clusters of past queries (k-means) learned by multinomial logistic regression, so that a query's
    category comes with a probability. Below `certainty_min` the category is "general", whose row of the table is
    the endpoints' means, as in `BestOnAverage`; the other rows are means within the category, drawn to the
    endpoint's own by `prior_weight` (`policies._cells`), and the doubt is

        stddev² = own² + common², at most 1/4

    Which endpoint wins on one query says little, which wins in a category much: that is the case for two steps.
    With one category, or where no query is certain enough, this is `BestOnAverage`, doubt included.

    Without a limit the table is all there is. With `pool_max` (how many endpoints may be kept) or `size_max` (how
    large together, by `sizes`; an endpoint not named there takes no room) only the endpoints are kept that together
    serve the categories best, each category by its best one, weighed by how many of the past queries it has
    (`policies._pool`, solved exactly). One that is not kept counts as not there: an answer of quality 0, and no
    doubt about it. Left out of the scores it would be taken for an endpoint nobody knows, which is worth a try. Where
    a dial asks for the cheapest at any quality, it may still be chosen: take it out of the pool then.

    `partial_fit` adds outcomes to the table and picks the pool anew; a new endpoint is judged by its probes in each
    category, and by its mean where it has none. Categories stay as `fit` found them.

    Categories and certainty were compared by cross-validation inside the training halves of two sets of real outcomes
    (docs/policies.md): more than 32 categories leave each too few outcomes; certainties up to 0.3 are alike.

    Jain et al., 2024, "Composition of Experts: a modular compound AI system leveraging large language models"
    (arXiv 2412.01868). There the categories are given by people; here nobody labels queries.
    """

    categories: Annotated[int, Ge(1), Le(1_024), doc("categories told apart, at most; one per 8 queries")] = 32
    certainty_min: Annotated[float, Ge(0), Le(1), doc("a query less certain of its category is a general one")] = 0.2
    penalty: Annotated[float, Gt(0), Le(1e6), doc("how strongly the classifier's slopes are held to zero")] = 0.1
    prior_weight: Annotated[float, Ge(0), doc("observations that the endpoint's own mean counts for")] = 5.0
    pool_max: Annotated[int, Ge(1), doc("endpoints kept, at most; null = all")] | None = None
    sizes: Annotated[dict[str, Annotated[float, Ge(0)]], doc("room an endpoint takes, by name")] = field(
        default_factory=dict
    )
    size_max: Annotated[float, Ge(0), doc("room there is for all endpoints kept; null = any")] | None = None
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other categories")] = 0

    def __post_init__(self) -> None:
        if self.sizes and self.size_max is None:
            raise ValueError("sizes say nothing without size_max")
        self.table_: _Table | None = None

    def fit(self, experience: Experience) -> Self:
        queries = experience.queries
        seen = queries.embedding[np.unique(experience.query)]
        router = self._router(seen)
        category, certainty = router.classify(seen)
        served = np.where(certainty < self.certainty_min, len(router), category)
        cells = _Cells(
            endpoints=experience.endpoints,
            space=queries.space,
            router=router,
            share=(np.bincount(category, minlength=len(router)) + 1.0 / len(router)) / (len(seen) + 1.0),
            traffic=np.bincount(served, minlength=len(router) + 1).astype(np.float64),
            moments=np.zeros((3, len(router), len(experience.endpoints))),
        )
        self.table_ = self._composed(cells.with_outcomes(experience))
        return self

    def partial_fit(self, experience: Experience) -> Self:
        cells = self._table().cells
        experience.queries.expect(space=cells.space, width=cells.width)
        self.table_ = self._composed(cells.with_outcomes(experience))
        return self

    def score(self, queries: Queries) -> Scores:
        table = self._table()
        queries.expect(space=table.cells.space, width=table.cells.width)
        quality = np.empty((len(queries), len(table.cells.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            category = table.cells.served(queries.embedding[batch], self.certainty_min)
            quality[batch], stddev[batch] = table.quality[category], table.stddev[category]
        return Scores(endpoints=table.cells.endpoints, quality=quality, stddev=stddev)

    @property
    def pool(self) -> tuple[str, ...]:
        """The endpoints kept. Raises NotFitted."""
        table = self._table()
        return tuple(name for name, kept in zip(table.cells.endpoints, table.kept, strict=True) if kept)

    def save(self, directory: Path) -> None:
        cells = self._table().cells
        facts = {"endpoints": list(cells.endpoints), "space": cells.space}
        arrays = {"slope": cells.router.slope, "intercept": cells.router.intercept, "share": cells.share}
        write_state(directory, self, facts=facts, arrays={**arrays, "traffic": cells.traffic, "moments": cells.moments})

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(
            directory,
            cls,
            facts=("endpoints", "space"),
            arrays=("slope", "intercept", "share", "traffic", "moments"),
        )
        router = Logistic(slope=arrays.pop("slope"), intercept=arrays.pop("intercept"))
        cells = _Cells(endpoints=tuple(facts["endpoints"]), space=facts["space"], router=router, **arrays)
        policy.table_ = policy._composed(cells)
        return policy

    def _router(self, seen: Floats) -> Logistic:
        """The classifier of categories that k-means finds in these queries, (R, d)."""
        some = seen[thinned(len(seen))]
        categories = min(self.categories, max(1, len(seen) // _QUERIES_EACH))
        centres = centroids(seen, clusters=categories, seed=self.seed).astype(np.float64)
        nearest = (some @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
        label = np.unique(nearest, return_inverse=True)[1]
        return Logistic.fit(some, label, penalty=self.penalty)

    def _composed(self, cells: _Cells) -> _Table:
        table = ShrunkCells.of(cells.moments, cells.share, self.prior_weight)
        quality = np.clip(np.vstack([table.quality, table.mean]), 0.0, 1.0)
        doubt = np.sqrt(table.own_variance + table.common_error**2)
        stddev = np.minimum(np.vstack([doubt, table.mean_error]), 0.5)
        kept = np.ones(len(cells.endpoints), dtype=bool)
        if self.pool_max is not None or self.size_max is not None:
            sizes = np.array([self.sizes.get(name, 0.0) for name in cells.endpoints])
            limits: dict[str, Any] = {"endpoints_max": self.pool_max, "sizes": sizes, "size_max": self.size_max}
            kept = best_pool(quality, cells.traffic, **limits)
        return _Table(cells=cells, kept=kept, quality=np.where(kept, quality, 0.0), stddev=np.where(kept, stddev, 0.0))

    def _table(self) -> _Table:
        if self.table_ is None:
            raise NotFitted("Composed has learned nothing yet", hint="call fit first")
        return self.table_


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """What was observed. Nothing here is ever written in place.

    router : of K categories
    share : float64 (K,) > 0, the categories' shares of the queries of `fit`; they sum to 1
    traffic : float64 (K + 1,), how many of those queries each category serves, the general one last
    moments : float64 (3, K, E), number of outcomes, their sum, the sum of their squares
    """

    endpoints: tuple[str, ...]
    space: str
    router: Logistic
    share: Floats
    traffic: Floats
    moments: Floats

    @property
    def width(self) -> int:
        return len(self.router.slope)

    def served(self, embedding: Floats, certainty_min: float) -> Ints:
        """The row of the table for each query, (Q,): its category, or K where that is too uncertain."""
        category, certainty = self.router.classify(embedding)
        return np.where(certainty < certainty_min, len(self.router), category)

    def with_outcomes(self, experience: Experience) -> _Cells:
        """These and the outcomes of `experience`, over the union of both pools."""
        names, column = union(self.endpoints, experience)
        moments = np.zeros((3, len(self.router), len(names)))
        moments[:, :, : len(self.endpoints)] = self.moments
        seen, row = np.unique(experience.query, return_inverse=True)
        category, _ = self.router.classify(experience.queries.embedding[seen])
        add_outcomes(moments, category[row], column, experience.quality)
        return replace(self, endpoints=names, moments=moments)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """Cells and what is derived from them: bool (E,), and quality and stddev (K + 1, E), the general category last."""

    cells: _Cells
    kept: Bools
    quality: Floats
    stddev: Floats

    def __deepcopy__(self, memo: dict[int, Any]) -> _Table:
        return self
