"""Checks of what `fit` and `partial_fit` learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import Policy
from router_gateway.testing._exam import asked, column, other_train, require, same, train, world
from router_gateway.testing.worlds import steady

_Factory = Callable[[], Policy]


def fit_returns_self(factory: _Factory) -> None:
    policy = factory()
    require(policy.fit(train()) is policy, "fit must end with `return self`")
    require(policy.partial_fit(train()) is policy, "partial_fit must end with `return self`")


def unfitted_raises_not_fitted(factory: _Factory) -> None:
    calls: tuple[tuple[str, Callable[[Policy], object]], ...] = (
        ("score", lambda policy: policy.score(asked())),
        ("partial_fit", lambda policy: policy.partial_fit(train())),
    )
    for name, call in calls:
        try:
            call(factory())
        except NotFitted:
            continue
        raise AssertionError(f"{name} before fit must raise router_gateway.NotFitted")


def fit_is_repeatable(factory: _Factory) -> None:
    policy = factory().fit(train())
    once = policy.score(asked())
    require(
        same(once, policy.fit(train()).score(asked())),
        "fitting twice with the same data gives other scores: start from nothing, and seed what is random",
    )
    require(
        same(once, factory().fit(train()).score(asked())),
        "two policies fitted with the same data differ: derive every random number from a seed that is a field",
    )


def fit_starts_from_scratch(factory: _Factory) -> None:
    twice = factory().fit(train()).fit(other_train())
    require(
        same(twice.score(asked()), factory().fit(other_train()).score(asked())),
        "fit remembers an earlier fit: it must forget everything first (partial_fit is the one that adds)",
    )


def fit_leaves_its_argument_alone(factory: _Factory) -> None:
    experience = world().experience(60, seed=21)
    before = world().experience(60, seed=21)
    factory().fit(experience).partial_fit(experience)
    for name in ("query", "endpoint", "quality", "cost_usd", "propensity", "comparisons"):
        equal = np.array_equal(getattr(experience, name), getattr(before, name), equal_nan=name == "cost_usd")
        require(equal, f"fit wrote into experience.{name}: work on a copy")
    require(
        np.array_equal(experience.queries.embedding, before.queries.embedding),
        "fit wrote into experience.queries.embedding: work on a copy",
    )


def missing_outcomes_are_accepted(factory: _Factory) -> None:
    for missing in (0.3, 0.75):
        sparse = world().experience(150, seed=22, missing=missing)
        _valid(factory().fit(sparse), f"with {missing:.0%} of the outcomes missing")


def one_outcome_is_enough(factory: _Factory) -> None:
    _valid(factory().fit(train().select(np.array([0]))), "after a single outcome")


def no_new_outcomes_are_accepted(factory: _Factory) -> None:
    nothing = train().select(np.array([], dtype=np.int64))
    _valid(factory().fit(train()).partial_fit(nothing), "after a partial_fit with no outcomes")


def unknown_costs_are_accepted(factory: _Factory) -> None:
    costless = replace(train(), cost_usd=np.full(len(train()), np.nan))
    _valid(factory().fit(costless).partial_fit(costless), "where no cost is known")


def unobserved_endpoint_is_scored(factory: _Factory) -> None:
    last = len(train().endpoints) - 1
    policy = factory().fit(train().select(train().endpoint != last))
    _valid(policy, f"where {train().endpoints[last]!r} was never observed")
    column(policy.score(asked()), train().endpoints[last])


def partial_fit_brings_new_endpoints(factory: _Factory) -> None:
    known = train().endpoints[:-1]
    policy = factory().fit(train().align(known)).partial_fit(train())
    scores = policy.score(asked())
    require(scores.quality.shape == (len(asked()), len(scores.endpoints)), "scores do not match their endpoints")
    column(scores, train().endpoints[-1])


def partial_fit_moves_toward_the_data(factory: _Factory) -> None:
    riser, faller = train().endpoints[0], train().endpoints[1]
    before = factory().fit(train()).score(asked())
    news = np.where(train().endpoint == 0, 1.0, np.where(train().endpoint == 1, 0.0, train().quality))
    policy = factory().fit(train())
    for _ in range(3):
        policy.partial_fit(replace(train(), quality=news.astype(np.float32), comparisons=_won(train(), 0, 1)))
    after = policy.score(asked())
    up = float(column(after, riser).mean() - column(before, riser).mean())
    down = float(column(after, faller).mean() - column(before, faller).mean())
    require(up > 0.01, f"an endpoint that now always succeeds moved by {up:+.3f}: partial_fit must learn from the data")
    require(
        down < -0.01, f"an endpoint that now always fails moved by {down:+.3f}: partial_fit must learn from the data"
    )


def beats_random_choice(factory: _Factory) -> None:
    place = steady(seed=31)
    policy = factory().fit(place.experience(300, seed=32))
    queries, cluster = place.queries(200, seed=33)
    scores = policy.score(queries).align(place.endpoints)
    lost = place.regret(cluster, np.argmax(scores.quality, axis=1))
    blind = float((place.quality.max(axis=1, keepdims=True) - place.quality)[cluster].mean())
    require(
        lost < 0.5 * blind,
        f"in a world where one endpoint is best everywhere the policy loses {lost:.3f} per query, a blind choice "
        f"{blind:.3f}: if it does not estimate quality at all, say beats_random=False",
    )


def _valid(policy: Policy, when: str) -> None:
    scores = policy.score(asked())
    for name, array in (("quality", scores.quality), ("stddev", scores.stddev)):
        require(np.isfinite(array).all(), f"{name} is not finite {when}")
    require((scores.quality >= 0).all() and (scores.quality <= 1).all(), f"quality leaves [0, 1] {when}")
    require((scores.stddev >= 0).all(), f"stddev is negative {when}")


def _won(experience: Experience, better: int, worse: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Comparisons that say so once per query."""
    count = len(experience.queries)
    return np.stack([np.arange(count), np.full(count, better), np.full(count, worse)], axis=1)


ALL = [
    fit_returns_self,
    unfitted_raises_not_fitted,
    fit_is_repeatable,
    fit_starts_from_scratch,
    fit_leaves_its_argument_alone,
    missing_outcomes_are_accepted,
    one_outcome_is_enough,
    no_new_outcomes_are_accepted,
    unknown_costs_are_accepted,
    unobserved_endpoint_is_scored,
    partial_fit_brings_new_endpoints,
]
OF_ESTIMATES = [partial_fit_moves_toward_the_data, beats_random_choice]
