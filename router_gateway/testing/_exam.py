"""What the checks share: one small world, its data and a few comparisons."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from router_gateway.core.experience import Experience
from router_gateway.core.types import Queries, Scores
from router_gateway.testing.worlds import World, specialists, steady

OBSERVED = 200
ASKED = 40


@cache
def world() -> World:
    return specialists(seed=11)


@cache
def train() -> Experience:
    return _frozen(world().experience(OBSERVED, seed=12))


@cache
def other_train() -> Experience:
    return _frozen(steady(seed=11).experience(OBSERVED, seed=13))


@cache
def asked() -> Queries:
    queries, _ = world().queries(ASKED, seed=14)
    return _still(queries)


def require(condition: object, message: str) -> None:
    """`assert` that also works under `python -O`."""
    if not condition:
        raise AssertionError(message)


def same(first: Scores, second: Scores) -> bool:
    """Bit for bit the same estimate."""
    return (
        first.endpoints == second.endpoints
        and np.array_equal(first.quality, second.quality)
        and np.array_equal(first.stddev, second.stddev)
    )


def column(scores: Scores, endpoint: str) -> np.ndarray[tuple[int], np.dtype[np.floating]]:
    """Quality (Q,) of one endpoint."""
    require(endpoint in scores.endpoints, f"scores lack a column for {endpoint!r}: score every endpoint of `fit`")
    return scores.quality[:, scores.endpoints.index(endpoint)]


def _still(queries: Queries) -> Queries:
    embedding, tokens_input = queries.embedding.copy(), queries.tokens_input.copy()
    embedding.flags.writeable = tokens_input.flags.writeable = False
    return replace(queries, embedding=embedding, tokens_input=tokens_input)


def _frozen(experience: Experience) -> Experience:
    """Read-only arrays: what writes to its arguments fails at the line that does."""
    for name in ("query", "endpoint", "quality", "cost_usd", "propensity", "comparisons"):
        getattr(experience, name).flags.writeable = False
    return replace(experience, queries=_still(experience.queries))
