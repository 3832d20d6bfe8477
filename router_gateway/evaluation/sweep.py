"""One fitted policy over the whole dial: scored once, weighed many times, by the Router that serves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_gateway.core.protocols import CostModel, Policy
from router_gateway.core.types import Attempt, Floats, Ints, NamedPolicy, Queries, Query
from router_gateway.evaluation.metrics import Curve
from router_gateway.evaluation.prepared import Prepared
from router_gateway.routing.router import Assessment, Router
from router_gateway.routing.rules import Greedy

DIALS_PER_DECADE = 16
DIALS_MAX = 200
_TIMED_QUERIES = 100
_WARM_UP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanCost:
    """A CostModel that knows one number per endpoint: the mean of the calls it was shown.

    mean_usd : float64 (E,)
    """

    mean_usd: Floats

    @classmethod
    def of(cls, cost_usd: Floats) -> MeanCost:
        """From calls (Q, E), NaN where unseen; an endpoint without a call gets the mean of the others."""
        known = np.isfinite(cost_usd)
        count = known.sum(axis=0)
        mean = np.where(known, cost_usd, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)
        return cls(mean_usd=np.where(np.isfinite(mean), mean, np.nanmean(mean)))

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        """float64 (Q, E), every row alike."""
        return np.tile(self.mean_usd, (len(queries), 1))

    def observe(self, attempts: Sequence[Attempt]) -> None:
        """Nothing is learned from a test."""


def dial_grid(cost_usd: Floats) -> Floats:
    """float64 (D,): values of `worth_usd`, from infinity (price plays no part) down to where only price counts.

    With λ = 1 / worth_usd in quality per USD: λ = 0, then geometric up to 1.5 / (least positive difference of two
    endpoints' costs), beyond which the cheapest always wins, because qualities differ by at most 1. The grid
    starts seven decades below that, or lower where the costs spread so far that a thousandth of quality would
    otherwise be missed. Equal costs need no dial: the one value is infinity.

    cost_usd : float64 (E,), each endpoint's mean
    """
    costs = np.unique(cost_usd)
    if len(costs) < 2:
        return np.array([np.inf])
    highest = 1.5 / np.diff(costs).min()
    lowest = min(1e-7 * highest, 1e-3 / (costs[-1] - costs[0]))
    count = min(DIALS_MAX, int(np.ceil(np.log10(highest / lowest) * DIALS_PER_DECADE)) + 1)
    return np.concatenate([[np.inf], 1.0 / np.geomspace(lowest, highest, count)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a router brings at each of D dials, in expectation over its draws.

    quality, cost_usd : float64 (D, Q)
    picks : int16 (D, Q), the likeliest endpoint's column in the table
    """

    quality: Floats
    cost_usd: Floats
    picks: Ints

    @property
    def curve(self) -> Curve:
        """One point per dial."""
        return Curve(cost_usd=self.cost_usd.mean(axis=1), quality=self.quality.mean(axis=1))

    def shares(self, endpoints: int) -> Floats:
        """float64 (D, E): how often each endpoint is picked."""
        return np.stack([np.bincount(row, minlength=endpoints) / len(row) for row in self.picks])

    @classmethod
    def joined(cls, parts: Sequence[Expected]) -> Expected:
        """Tests on disjoint queries over one dial as a single test."""
        return cls(
            quality=np.concatenate([p.quality for p in parts], axis=1),
            cost_usd=np.concatenate([p.cost_usd for p in parts], axis=1),
            picks=np.concatenate([p.picks for p in parts], axis=1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A policy's answers to a test's queries, before anybody has looked at the outcomes.

    columns : of the pool, in the table; the router's E axis
    worth_usd : float64 (D,)
    """

    router: Router
    seen: Assessment
    columns: Ints
    worth_usd: Floats

    def expected(self, quality: Floats, cost_usd: Floats) -> Expected:
        """Weigh at every dial and look up what that brings.

        quality, cost_usd : (Q, E) over `columns`, NaN where unknown; what is unknown must not be eligible
        """
        at_dials = [self.router.weigh(self.seen, np.asarray(worth)).probability for worth in self.worth_usd]
        own_quality, own_cost = np.nan_to_num(quality.astype(np.float64)), np.nan_to_num(cost_usd)
        return Expected(
            quality=np.stack([np.einsum("qe,qe->q", p, own_quality) for p in at_dials]),
            cost_usd=np.stack([np.einsum("qe,qe->q", p, own_cost) for p in at_dials]),
            picks=np.stack([self.columns[p.argmax(axis=1)] for p in at_dials]).astype(np.int16),
        )


def sweep(
    named: NamedPolicy,
    prepared: Prepared,
    queries: Sequence[Query],
    embedding: Floats,
    *,
    columns: Ints,
    cost: CostModel,
    worth_usd: Floats,
) -> Sweep:
    """Assess `queries` with a fitted policy, over the endpoints in `columns` of the set.

    embedding : float32 (Q, d) in the set's space
    cost : over those endpoints, in that order
    """
    endpoints = tuple(prepared.endpoints[c] for c in columns)
    router = Router(
        endpoints=endpoints,
        default_endpoint=endpoints[0].name,
        live=lambda: named,
        cost=cost,
        rule=Greedy(),
        space=prepared.space,
        worth_usd=1.0,  # every dial is given to `weigh`
    )
    return Sweep(router=router, seen=router.assess(queries, embedding), columns=columns, worth_usd=worth_usd)


def score_times_ms(policy: Policy, batch: Queries) -> Floats:
    """float64 (n,): milliseconds that `score` takes for one query at a time, the first ones not counted."""
    times_ms = []
    for i in range(min(len(batch), _TIMED_QUERIES + _WARM_UP)):
        one = batch.take(slice(i, i + 1))
        started = time.perf_counter()
        policy.score(one)
        times_ms.append((time.perf_counter() - started) * 1e3)
    return np.array(times_ms[_WARM_UP:] or times_ms)
