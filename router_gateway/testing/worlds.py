"""Synthetic worlds with a known truth: queries come in clusters, an endpoint has one quality per cluster.

Everything follows from the seeds given, so a failing test fails again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Queries

COST_CHEAPEST_USD = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """C clusters of queries and E endpoints.

    centres : float32 (C, d), unit vectors; queries scatter around them
    quality : float64 (C, E) in [0, 1], the true expected quality
    cost_usd : float64 (E,), USD per call, 1:10 from first to last endpoint
    spread : length of the noise added to a centre before normalising
    """

    centres: Floats
    quality: Floats
    cost_usd: Floats
    spread: float = 0.5
    space: str = "synthetic"

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"endpoint-{e}" for e in range(self.quality.shape[1]))

    def queries(self, count: int, *, seed: int) -> tuple[Queries, Ints]:
        """`count` queries and the cluster (count,) that each belongs to."""
        rng = np.random.default_rng(seed)
        cluster = rng.integers(0, len(self.centres), count)
        width = self.centres.shape[1]
        vectors = self.centres[cluster] + self.spread * rng.normal(size=(count, width)) / np.sqrt(width)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = Queries(
            text=tuple(f"question {i} of kind {c}" for i, c in enumerate(cluster)),
            embedding=vectors.astype(np.float32),
            tokens_input=rng.integers(5, 500, count),
            space=self.space,
        )
        return queries, cluster

    def experience(self, count: int, *, seed: int, missing: float = 0.0) -> Experience:
        """Outcomes 0 or 1 of `count` queries, a share `missing` of the cells unobserved, one comparison a query."""
        queries, cluster = self.queries(count, seed=seed)
        rng = np.random.default_rng((seed, 1))
        truth = self.quality[cluster]
        outcome = (rng.random(truth.shape) < truth).astype(np.float64)
        pair = np.argsort(rng.random(truth.shape), axis=1)[:, [0, -1]]
        first, second = np.take_along_axis(outcome, pair, axis=1).T
        ordered = np.where((first >= second)[:, None], pair, pair[:, ::-1])
        compared = np.concatenate([np.arange(count)[:, None], ordered], axis=1)[first != second]
        outcome[rng.random(truth.shape) < missing] = np.nan
        cost_usd = np.broadcast_to(self.cost_usd, truth.shape)
        learned = Experience.from_table(queries, self.endpoints, outcome, cost_usd)
        return Experience(
            queries=queries,
            endpoints=self.endpoints,
            query=learned.query,
            endpoint=learned.endpoint,
            quality=learned.quality,
            cost_usd=learned.cost_usd,
            propensity=learned.propensity,
            comparisons=compared.astype(np.int64),
        )

    def value(self, worth_usd: float) -> Floats:
        """float64 (C, E): true quality less cost in units of `worth_usd`; the best choice is its argmax."""
        return self.quality - self.cost_usd / worth_usd

    def regret(self, cluster: Ints, choice: Ints, *, worth_usd: float = np.inf) -> float:
        """Mean true value lost per query by `choice` (Q,) against the best endpoint of each query's cluster."""
        value = self.value(worth_usd)
        return float((value[cluster].max(axis=1) - value[cluster, choice]).mean())


def _world(quality: Floats, *, seed: int, width: int) -> World:
    clusters, endpoints = quality.shape
    if width < clusters:
        raise ValueError(f"{clusters} orthogonal centres need a width of at least {clusters}, got {width}")
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, clusters)))
    return World(
        centres=np.ascontiguousarray(basis.T.astype(np.float32)),
        quality=quality,
        cost_usd=COST_CHEAPEST_USD * np.geomspace(1.0, 10.0, endpoints),
    )


def specialists(*, seed: int = 0, endpoints: int = 4, width: int = 32) -> World:
    """As many clusters as endpoints; each endpoint is good (0.9) at its own and mediocre (0.4) elsewhere."""
    return _world(np.where(np.eye(endpoints, dtype=bool), 0.9, 0.4), seed=seed, width=width)


def steady(*, seed: int = 0, endpoints: int = 4, width: int = 32) -> World:
    """Four clusters in which quality rises with price, 0.2 to 0.9: the last endpoint is best everywhere."""
    return _world(np.tile(np.linspace(0.2, 0.9, endpoints), (4, 1)), seed=seed, width=width)


def two_by_two(*, seed: int = 0, width: int = 32) -> World:
    """Easy queries that both endpoints answer (0.9) and hard ones that only the ten times dearer one does (0.1)."""
    return _world(np.array([[0.9, 0.9], [0.1, 0.9]]), seed=seed, width=width)
