"""K-means of embeddings, the same centroids whenever it is asked."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from router_gateway.core.types import Floats

ROWS_MAX = 20_000
"""More rows than this are thinned out evenly: centroids need no more, and fitting must not grow with the ledger."""
_RESTARTS = 4


def centroids(embedding: Floats, *, clusters: int, seed: int) -> Floats:
    """Centres of at most `clusters` clusters of `embedding` (R, d): float32 (K, d), K = 1 at the origin if R = 0.

    Lloyd's algorithm from k-means++, the best of a few starts. On one thread: sums of several threads are added in
    the order in which they finish, and their last bits with them.
    """
    width = embedding.shape[1]
    rows = np.linspace(0, len(embedding) - 1, min(len(embedding), ROWS_MAX)).round().astype(np.int64)
    points = np.ascontiguousarray(embedding[rows], dtype=np.float32)
    count = min(clusters, len(np.unique(points, axis=0)))
    if count == 0:
        return np.zeros((1, width), dtype=np.float32)
    with threadpool_limits(limits=1):
        found = KMeans(n_clusters=count, n_init=_RESTARTS, random_state=seed).fit(points)
    return np.ascontiguousarray(found.cluster_centers_, dtype=np.float32)
