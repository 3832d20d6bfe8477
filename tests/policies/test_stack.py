import copy
from dataclasses import replace

import numpy as np
import pytest

from policies import _others
from policies._blend import nonnegative_ridge
from policies._novelty import SAMPLE_MAX, Novelty
from policies.baseline import BestOnAverage
from policies.knn import KNN
from policies.lexical import Lexical
from policies.linear import Linear
from policies.stack import Stack
from router_gateway.core.errors import BadParameters, SnapshotMismatch, UnknownPolicy
from router_gateway.testing import specialists, two_by_two

LIGHT = ("linear", "knn")


@pytest.fixture
def halves(make):
    """A world of two halves: one shows its kind in the vector alone, the other in the words alone."""

    def made(count, *, seed):
        rng = np.random.default_rng(seed)
        wordy, kind = rng.random(count) < 0.5, rng.integers(0, 2, count)
        vectors = 0.1 * rng.normal(size=(count, 8))
        vectors[np.arange(count), np.where(wordy, 2, kind)] += 1.0
        quality = np.where(kind[:, None] == np.arange(2), 0.9, 0.1)
        experience = make.experience(vectors, (rng.random(quality.shape) < quality).astype(float))
        words = [f"please {('translate', 'compute')[k]} this" if w else "as before" for w, k in zip(wordy, kind)]  # noqa: B905
        return replace(experience, queries=replace(experience.queries, text=tuple(words))), quality

    return made


def test_one_policy_and_a_penalty_beyond_measure_is_that_policy(make):
    train, asked = make.random(60, 3, missing=0.3), make.random(8, 1, seed=1).queries
    alone = Linear(penalty=5.0).fit(train).score(asked)
    only = (
        Stack(over=("linear",), parameters={"linear": {"penalty": 5.0}}, penalty=1e12, novelty=0.0)
        .fit(train)
        .score(asked)
    )
    np.testing.assert_allclose(only.quality, alone.quality, atol=1e-6)
    np.testing.assert_allclose(only.stddev, alone.stddev, atol=1e-6)


def test_a_penalty_beyond_measure_is_the_plain_average(make):
    train, asked = make.random(60, 3, missing=0.3), make.random(8, 1, seed=1).queries
    average = (Linear().fit(train).score(asked).quality + KNN().fit(train).score(asked).quality) / 2
    np.testing.assert_allclose(
        Stack(over=LIGHT, penalty=1e12, novelty=0.0).fit(train).score(asked).quality, average, atol=1e-6
    )


def test_policies_that_know_nothing_of_unseen_queries_leave_the_mean(make):
    rng = np.random.default_rng(3)
    train = make.experience(rng.normal(size=(400, 40)), rng.integers(0, 2, (400, 2)).astype(float))
    asked = make.random(50, 1, width=40, seed=4).queries
    noisy = {"linear": {"penalty": 1e-3}, "knn": {"k": 3, "prior_weight": 0.0}}
    stack = Stack(over=LIGHT, parameters=noisy, penalty=1.0).fit(train).score(asked).quality
    mean, alone = BestOnAverage().fit(train).score(asked).quality, Linear(penalty=1e-3).fit(train).score(asked).quality
    assert np.abs(stack - mean).mean() < 0.2 * np.abs(alone - mean).mean()


@pytest.mark.parametrize("penalty", [0.0, 1.0, 300.0])
def test_weights_minimise_what_they_should_and_are_never_negative(penalty):
    rng = np.random.default_rng(5)
    beyond = rng.normal(size=(200, 3))
    residual = beyond @ [0.7, -0.4, 0.1] + 0.1 * rng.normal(size=200)
    prior = np.full(3, 1 / 3)

    def loss(w):
        return np.sum((residual - beyond @ w) ** 2) + penalty * np.mean(beyond**2) * np.sum((w - prior) ** 2)

    found = nonnegative_ridge(beyond, residual, prior=prior, penalty=penalty)
    assert (found >= 0).all()
    assert all(loss(found) <= loss(np.maximum(found + 0.01 * rng.normal(size=3), 0)) for _ in range(200))


def test_it_beats_each_of_its_policies_where_each_is_good_at_a_part(halves):
    train, _ = halves(500, seed=6)
    asked, truth = halves(400, seed=7)
    error = {}
    for policy in (Stack(over=("linear", "lexical"), penalty=30.0), Linear(), Lexical(), BestOnAverage()):
        quality = policy.fit(train).score(asked.queries).quality
        error[type(policy).__name__] = np.mean((quality - truth) ** 2)
    assert error["Stack"] < 0.75 * min(error["Linear"], error["Lexical"])
    assert error["Stack"] < 0.4 * error["BestOnAverage"]


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Stack().fit(world.experience(600, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_partial_fit_teaches_the_policies_and_keeps_the_weights(make):
    train, more = make.random(80, 3, seed=8), make.random(40, 3, seed=9)
    asked = make.random(10, 1, seed=10).queries
    policy = Stack(over=LIGHT).fit(train)
    weights = policy.state_.weights.copy()
    policy.partial_fit(more)
    np.testing.assert_array_equal(policy.state_.weights, weights)
    taught = (Linear().fit(train).partial_fit(more), KNN().fit(train).partial_fit(more))
    assert policy.made_of() == {"linear": {}, "knn": {}}
    for inner, outer in zip(policy.parts().values(), taught, strict=True):
        np.testing.assert_array_equal(inner.score(asked).quality, outer.score(asked).quality)


def test_a_new_endpoint_is_placed_by_its_probes_and_leaves_the_others_as_they_were():
    world = specialists(seed=4)
    everything, probes = world.experience(600, seed=5), world.experience(192, seed=6)
    queries, cluster = world.queries(300, seed=7)
    policy = Stack(over=("linear", "clusters"), novelty=0.0).fit(everything.align(world.endpoints[:-1]))
    before = policy.score(queries)
    after = policy.partial_fit(probes.align(world.endpoints[-1:])).score(queries)
    np.testing.assert_array_equal(after.quality[:, :-1], before.quality)
    assert after.quality[cluster == 3, -1].mean() > after.quality[cluster != 3, -1].mean() + 0.2


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(8):
        scores = Stack(over=LIGHT).fit(world.experience(120, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_what_is_unlike_everything_known_gets_the_mean_and_more_doubt():
    world = specialists(seed=18)
    train, usual = world.experience(300, seed=19), world.queries(100, seed=20)[0]
    strange = replace(usual, embedding=-usual.embedding)
    wary, bold = (Stack(over=LIGHT, novelty=share).fit(train) for share in (0.05, 0.0))
    mean = BestOnAverage().fit(train).score(usual).quality
    same = (wary.score(usual).quality == bold.score(usual).quality).all(axis=1)
    assert same.mean() > 0.85
    guarded, unguarded = wary.score(strange), bold.score(strange)
    assert np.abs(guarded.quality - mean).max() <= 0.1 * np.abs(unguarded.quality - mean).max() + 1e-6
    assert (guarded.stddev >= unguarded.stddev).all()


def test_what_was_unlike_everything_is_trusted_once_it_was_learned():
    world = specialists(seed=21)
    policy = Stack(over=LIGHT).fit(world.experience(200, seed=22))
    other = world.experience(200, seed=23)
    other = replace(other, queries=replace(other.queries, embedding=-other.queries.embedding))
    asked = replace(other.queries, embedding=-world.queries(200, seed=24)[0].embedding)
    before, after = (p.known.share(asked.embedding) for p in (policy.state_, policy.partial_fit(other).state_))
    assert np.median(before) < 0.01
    assert np.median(after) > 0.3


def test_the_sample_of_known_queries_does_not_depend_on_order_or_batches(make):
    vectors = make.random(3 * SAMPLE_MAX, 1, seed=25).queries.embedding
    at_once = Novelty.of(vectors)
    in_parts = Novelty.of(vectors[2000:]).grown(vectors[:500]).grown(vectors[500:2000]).grown(vectors[:10])
    assert len(at_once.known) == SAMPLE_MAX
    np.testing.assert_array_equal(in_parts.known, at_once.known)
    np.testing.assert_array_equal(in_parts.nearest, at_once.nearest)


def test_the_share_of_queries_of_the_usual_kind_is_uniform(make):
    vectors = make.random(1_500, 1, seed=26).queries.embedding
    shares = Novelty.of(vectors[:800]).share(vectors[800:])
    np.testing.assert_allclose(np.quantile(shares, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.08)


def test_one_query_one_endpoint_and_none_observed(make):
    one = make.experience([[1, 0]], [[1.0]])
    scores = Stack(over=LIGHT).fit(one).score(one.queries)
    assert 0.5 < scores.quality[0, 0] <= 1.0
    nothing = make.experience(np.eye(2), np.full((2, 2), np.nan))
    empty = Stack(over=LIGHT).fit(nothing).score(nothing.queries)
    np.testing.assert_allclose(empty.quality, 0.5)
    np.testing.assert_allclose(empty.stddev, 0.5)


def test_saved_in_one_folder_per_policy(make, tmp_path):
    train, asked = make.random(60, 3, missing=0.4, seed=11), make.random(8, 1, seed=12).queries
    policy = Stack(over=LIGHT, parameters={"knn": {"k": 7}}).fit(train)
    policy.save(tmp_path / "stack")
    assert {path.name for path in (tmp_path / "stack").iterdir() if path.is_dir()} == set(LIGHT)
    loaded = Stack.load(tmp_path / "stack")
    assert loaded == policy
    assert loaded.state_.policies[1].k == 7
    np.testing.assert_array_equal(loaded.score(asked).quality, policy.score(asked).quality)
    np.testing.assert_array_equal(loaded.score(asked).stddev, policy.score(asked).stddev)


def test_where_outcomes_are_refused_no_policy_has_learned(make):
    policy = Stack(over=LIGHT).fit(make.random(40, 2, seed=13))
    state = policy.state_
    with pytest.raises(SnapshotMismatch):
        policy.partial_fit(make.random(5, 2, width=7, seed=14))
    assert policy.state_ is state


def test_a_copy_learns_alone(make):
    policy = Stack(over=LIGHT).fit(make.random(30, 2, seed=15))
    asked = make.random(5, 1, seed=16).queries
    before = policy.score(asked).quality
    copy.deepcopy(policy).partial_fit(make.random(20, 2, seed=17))
    np.testing.assert_array_equal(policy.score(asked).quality, before)


@pytest.mark.parametrize(
    "fields",
    [{"over": ()}, {"over": ("knn", "knn")}, {"over": ("stack",)}, {"over": ("knn",), "parameters": {"linear": {}}}],
)
def test_what_cannot_be_stacked_is_refused(fields):
    with pytest.raises(ValueError):
        Stack(**fields)


def test_unknown_policies_and_parameters_are_named():
    with pytest.raises(UnknownPolicy, match="nobody"):
        _others.create("nobody", {})
    with pytest.raises(BadParameters, match="knn"):
        _others.create("knn", {"neighbours": 3})


def test_a_fold_is_asked_of_policies_that_learned_none_of_its_outcomes(make):
    train, asked = make.random(60, 3, seed=40), make.random(8, 1, seed=41).queries
    other = make.random(60, 3, seed=42)
    for policy in (Linear(), KNN(), Lexical(dimensions=8)):
        fitted = policy.fit(train)
        before = fitted.score(asked).quality
        again = _others.refitted(fitted, other).score(asked)
        np.testing.assert_array_equal(fitted.score(asked).quality, before)
        assert not np.array_equal(again.quality, before)
    np.testing.assert_array_equal(
        _others.refitted(Linear().fit(train), other).score(asked).quality, Linear().fit(other).score(asked).quality
    )
