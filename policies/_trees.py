"""Extremely randomised trees as flat arrays: grown by scikit-learn, read by numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from router_gateway.core.types import Floats, Ints

ROWS_MAX = 4_000
"""More rows than this are thinned out evenly: splits need no more, and fitting must not grow with the ledger."""
_FEW = 16  # queries: of more, those that have arrived are not followed any further


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """T binary trees of N nodes in all, each ending in leaves, L of them in all. Never written in place.

    root : int32 (T,), first node of each tree
    feature, below, above : int32 (N,): a query goes `below` where its feature is at most the threshold; from a leaf to
        itself
    threshold : float64 (N,)
    leaf : int32 (N,), number of a leaf, ascending by tree; -1 inside
    """

    root: Ints
    feature: Ints
    threshold: Floats
    below: Ints
    above: Ints
    leaf: Ints

    @classmethod
    def grown(
        cls, features: Floats, target: Floats, *, trees: int, leaf_min: int, share: float, seed: int
    ) -> tuple[Self, Ints]:
        """From features (R, F) and targets (R, C): each split the best of `share` of the features at random thresholds.

        Every leaf has at least `leaf_min` rows. Also what `reached` says of the features, which scikit-learn finds in
        a tenth of the time. Geurts et al., 2006, "Extremely randomized trees".
        """
        from sklearn.ensemble import ExtraTreesRegressor  # only fitting needs it

        if len(features) < 2 * leaf_min or not target.size:
            bare = cls._joined([(np.array([-2]), np.zeros(1), np.array([-1]), np.array([-1]))])
            return bare, np.zeros((len(features), 1), dtype=np.int64)
        some = np.linspace(0, len(features) - 1, min(len(features), ROWS_MAX)).round().astype(np.int64)
        forest = ExtraTreesRegressor(trees, min_samples_leaf=leaf_min, max_features=share, random_state=seed)
        with threadpool_limits(limits=1):
            forest.fit(features[some], target[some])
            node = forest.apply(features)
        found = [tree.tree_ for tree in forest.estimators_]
        joined = cls._joined([(t.feature, t.threshold, t.children_left, t.children_right) for t in found])
        return joined, joined.leaf.take(node + joined.root).astype(np.int64)

    @classmethod
    def _joined(cls, trees: list[tuple[Ints, Floats, Ints, Ints]]) -> Self:
        start = np.cumsum([0, *[len(feature) for feature, _, _, _ in trees]])
        inner = np.concatenate([below >= 0 for _, _, below, _ in trees])
        own = np.arange(start[-1])
        children = (
            np.concatenate([tree[side] + first for tree, first in zip(trees, start, strict=False)]) for side in (2, 3)
        )
        below, above = (np.where(inner, child, own).astype(np.int32) for child in children)
        return cls(
            root=start[:-1].astype(np.int32),
            feature=np.where(inner, np.concatenate([tree[0] for tree in trees]), 0).astype(np.int32),
            threshold=np.where(inner, np.concatenate([tree[1] for tree in trees]), np.inf),
            below=below,
            above=above,
            leaf=np.where(inner, -1, np.cumsum(~inner) - 1).astype(np.int32),
        )

    def __len__(self) -> int:
        """Number of trees."""
        return len(self.root)

    @property
    def leaves(self) -> int:
        """Number of leaves, L."""
        return int(self.leaf.max()) + 1

    @property
    def first(self) -> Ints:
        """int64 (T + 1,), the first leaf of each tree, and L."""
        ends = [*self.root.tolist(), len(self.leaf)]
        inside = np.concatenate([[0], np.cumsum(self.leaf >= 0)])
        return np.asarray(inside[ends], dtype=np.int64)

    def reached(self, features: Floats) -> Ints:
        """int64 (Q, T), the leaf that each query (Q, F) reaches in each tree."""
        count, width = features.shape
        single = np.ascontiguousarray(features, dtype=np.float32).ravel()  # as when the trees were grown
        first = np.repeat(np.arange(count) * width, len(self))
        at = np.tile(self.root, count)
        place: Ints | slice = slice(None)  # of what has not reached its leaf yet
        ended = at
        while True:
            above = single.take(first + self.feature.take(at)) > self.threshold.take(at)
            down = np.where(above, self.above.take(at), self.below.take(at))
            moved = down != at
            if not moved.any():
                ended[place] = at
                return self.leaf.take(ended).astype(np.int64).reshape(count, len(self))
            at = down
            if count > _FEW and 2 * np.count_nonzero(moved) < len(at):
                ended[place] = at
                place = np.arange(len(ended))[place][moved]
                at, first = at[moved], first[moved]
