"""K-means of embeddings, the same centroids whenever it is asked."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from router_gateway.core.types import Floats, Ints

ROWS_MAX = 5_000
"""More rows than this are thinned out evenly: centroids need no more, and fitting must not grow with the ledger."""
_STARTS = 4
_START_ROWS = 1_000  # starts are compared on this many rows, or on as many per cluster as below
_START_ROWS_EACH = 8


def centroids(embedding: Floats, *, clusters: int, seed: int) -> Floats:
    """Centres of at most `clusters` clusters of `embedding` (R, d): float32 (K, d), K = 1 at the origin if R = 0.

    Lloyd's algorithm, from the best of a few runs on a part of the rows, each from `_spread_out` (Bradley & Fayyad,
    1998, "Refining initial points for k-means clustering"). On one thread: sums of several threads are added in the
    order in which they finish, and their last bits with them.
    """
    from sklearn.cluster import KMeans  # only fitting needs it: a hundred megabytes, and a second of import

    width = embedding.shape[1]
    points = np.ascontiguousarray(embedding[_evenly(len(embedding), ROWS_MAX)], dtype=np.float32)
    count = min(clusters, _distinct(points))
    if count == 0:
        return np.zeros((1, width), dtype=np.float32)
    some = points[_evenly(len(points), max(_START_ROWS, _START_ROWS_EACH * count))]
    if _distinct(some) < count:
        some = points
    rng = np.random.default_rng(seed)
    with threadpool_limits(limits=1):
        starts = [_spread_out(some, count, rng) for _ in range(_STARTS)]
        runs = [KMeans(n_clusters=count, init=start, n_init=1, random_state=seed).fit(some) for start in starts]
        found = min(runs, key=lambda run: float(run.inertia_))
        if len(some) < len(points):
            found = KMeans(n_clusters=count, init=found.cluster_centers_, n_init=1, random_state=seed).fit(points)
    return np.ascontiguousarray(found.cluster_centers_, dtype=np.float32)


def _spread_out(points: Floats, count: int, rng: np.random.Generator) -> Floats:
    """`count` of the points (R, d) to start from, greedy k-means++: float32 (count, d).

    Each next one is, of a few drawn in proportion to the squared distance from those chosen, the one that leaves least
    of it (Arthur & Vassilvitskii, 2007, "k-means++: the advantages of careful seeding"). As scikit-learn's, without
    its checks at every step, which take longer than the step.
    """
    drawn_each = 2 + int(np.log(count))
    square = (points**2).sum(axis=1)
    chosen, left = [int(rng.integers(len(points)))], np.full(len(points), np.inf, dtype=np.float32)
    drawn = np.array(chosen)
    while True:
        away = np.maximum(square[drawn, None] + square - 2.0 * (points[drawn] @ points.T), 0.0)
        away[np.arange(len(drawn)), drawn] = 0.0
        remaining = np.minimum(away, left)
        best = int(remaining.sum(axis=1).argmin())
        chosen[-1], left = int(drawn[best]), remaining[best]
        if len(chosen) == count:
            return points[chosen]
        total = left.cumsum(dtype=np.float64)
        drawn = np.searchsorted(total, rng.random(drawn_each) * total[-1], side="right").clip(max=len(points) - 1)
        chosen.append(-1)


def _evenly(rows: int, most: int) -> Ints:
    """At most `most` of `rows` positions, evenly spread."""
    return np.linspace(0, max(rows - 1, 0), min(rows, most)).round().astype(np.int64)


def _distinct(points: Floats) -> int:
    """How many rows differ."""
    return len({row.tobytes() for row in points + np.float32(0.0)})  # minus zero and zero are one number
