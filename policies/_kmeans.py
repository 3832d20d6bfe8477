"""K-means of embeddings, the same centroids whenever it is asked."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from router_gateway.core.types import Floats, Ints

ROWS_MAX = 5_000
"""More rows than this are thinned out evenly: centroids need no more, and fitting must not grow with the ledger."""
_STARTS = 4
_START_ROWS = 1_000  # starts are compared on this many rows, or on as many per cluster as below
_START_ROWS_EACH = 8


def centroids(embedding: Floats, *, clusters: int, seed: int) -> Floats:
    """Centres of at most `clusters` clusters of `embedding` (R, d): float32 (K, d), K = 1 at the origin if R = 0.

    Lloyd's algorithm, from the best of a few runs on a part of the rows, each from k-means++ (Bradley & Fayyad, 1998,
    "Refining initial points for k-means clustering"). On one thread: sums of several threads are added in the order in
    which they finish, and their last bits with them.
    """
    width = embedding.shape[1]
    points = np.ascontiguousarray(embedding[_evenly(len(embedding), ROWS_MAX)], dtype=np.float32)
    count = min(clusters, _distinct(points))
    if count == 0:
        return np.zeros((1, width), dtype=np.float32)
    some = points[_evenly(len(points), max(_START_ROWS, _START_ROWS_EACH * count))]
    if _distinct(some) < count:
        some = points
    with threadpool_limits(limits=1):
        found = KMeans(n_clusters=count, n_init=_STARTS, random_state=seed).fit(some)
        if len(some) < len(points):
            found = KMeans(n_clusters=count, init=found.cluster_centers_, n_init=1, random_state=seed).fit(points)
    return np.ascontiguousarray(found.cluster_centers_, dtype=np.float32)


def _evenly(rows: int, most: int) -> Ints:
    """At most `most` of `rows` positions, evenly spread."""
    return np.linspace(0, max(rows - 1, 0), min(rows, most)).round().astype(np.int64)


def _distinct(points: Floats) -> int:
    """How many rows differ."""
    return len({row.tobytes() for row in points + np.float32(0.0)})  # minus zero and zero are one number
