"""Checks of what `score` answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from router_gateway.core.protocols import Policy
from router_gateway.core.types import Queries, Scores
from router_gateway.testing._exam import asked, require, same, train

_Factory = Callable[[], Policy]


def scores_cover_queries_and_endpoints(factory: _Factory) -> None:
    scores = factory().fit(train()).score(asked())
    require(isinstance(scores, Scores), f"score must return Scores, got {type(scores).__name__}")
    missing = sorted(set(train().endpoints) - set(scores.endpoints))
    require(not missing, f"scores lack the endpoints {missing}: give every endpoint of `experience.endpoints` a column")
    require(len(set(scores.endpoints)) == len(scores.endpoints), "an endpoint has two columns")
    expected = (len(asked()), len(scores.endpoints))
    for name, array in (("quality", scores.quality), ("stddev", scores.stddev)):
        require(array.shape == expected, f"{name} has shape {array.shape}: return (queries, endpoints) = {expected}")


def scores_are_float32(factory: _Factory) -> None:
    scores = factory().fit(train()).score(asked())
    for name, array in (("quality", scores.quality), ("stddev", scores.stddev)):
        require(array.dtype == np.float32, f"{name} is {array.dtype}: end `score` with .astype(np.float32)")


def scores_are_finite(factory: _Factory) -> None:
    scores = factory().fit(train()).score(asked())
    for name, array in (("quality", scores.quality), ("stddev", scores.stddev)):
        require(np.isfinite(array).all(), f"{name} holds NaN or infinity: say what you do where nothing was observed")


def scores_stay_in_range(factory: _Factory) -> None:
    scores = factory().fit(train()).score(asked())
    low, high = float(scores.quality.min()), float(scores.quality.max())
    require(low >= 0 and high <= 1, f"quality spans [{low:.3g}, {high:.3g}]: clip or calibrate it into [0, 1]")
    require((scores.stddev >= 0).all(), "stddev is negative: it is a standard deviation, not a signed bonus")


def batch_equals_its_rows(factory: _Factory) -> None:
    policy = factory().fit(train())
    together = policy.score(asked())
    for i in range(len(asked())):
        alone = policy.score(asked().take(np.array([i])))
        equal = np.array_equal(alone.quality[0], together.quality[i]) and np.array_equal(
            alone.stddev[0], together.stddev[i]
        )
        require(
            equal,
            f"query {i} alone scores differently from query {i} in a batch of "
            f"{len(asked())}: nothing may be "
            "normalised over the batch, and a matrix product must be one per row (np.matmul over a stack), "
            "because BLAS rounds differently for another number of rows",
        )


def order_of_queries_does_not_matter(factory: _Factory) -> None:
    policy = factory().fit(train())
    backwards = np.arange(len(asked()))[::-1]
    straight, reversed_ = policy.score(asked()), policy.score(asked().take(backwards))
    equal = np.array_equal(straight.quality[backwards], reversed_.quality) and np.array_equal(
        straight.stddev[backwards], reversed_.stddev
    )
    require(equal, "scores depend on the order of the batch: each query must be scored on its own")


def one_query_and_none_are_batches(factory: _Factory) -> None:
    policy = factory().fit(train())
    for count in (1, 0):
        scores = policy.score(asked().take(slice(0, count)))
        expected = (count, len(scores.endpoints))
        require(
            scores.quality.shape == scores.stddev.shape == expected,
            f"a batch of {count} gives shapes {scores.quality.shape} and {scores.stddev.shape}: return {expected}",
        )


def score_leaves_its_argument_alone(factory: _Factory) -> None:
    policy = factory().fit(train())
    queries = Queries(
        text=asked().text,
        embedding=asked().embedding.copy(),
        tokens_input=asked().tokens_input.copy(),
        space=asked().space,
    )
    policy.score(queries)
    untouched = np.array_equal(queries.embedding, asked().embedding) and np.array_equal(
        queries.tokens_input, asked().tokens_input
    )
    require(untouched, "score wrote into the arrays it was given: work on a copy")


def score_answers_alike_twice(factory: _Factory) -> None:
    policy = factory().fit(train())
    first = policy.score(asked())
    policy.score(asked().take(slice(0, 7)))
    require(
        same(first, policy.score(asked())),
        "the same queries score differently the second time: score must not learn, nor use randomness of its own",
    )


ALL = [
    scores_cover_queries_and_endpoints,
    scores_are_float32,
    scores_are_finite,
    scores_stay_in_range,
    batch_equals_its_rows,
    order_of_queries_does_not_matter,
    one_query_and_none_are_batches,
    score_leaves_its_argument_alone,
    score_answers_alike_twice,
]
