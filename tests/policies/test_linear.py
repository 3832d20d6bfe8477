import copy

import numpy as np
import pytest

from policies.baseline import BestOnAverage
from policies.linear import Linear
from router_gateway.testing import specialists, two_by_two


def test_a_penalty_beyond_measure_gives_best_on_average(make):
    train, asked = make.random(50, 3, missing=0.3), make.random(8, 1, seed=1).queries
    held, average = Linear(penalty=1e12).fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(held.quality, average.quality, atol=1e-5)
    np.testing.assert_allclose(held.stddev, average.stddev, atol=1e-5)


def test_a_linear_truth_is_recovered(make):
    rng = np.random.default_rng(2)
    slope = 0.12 * rng.normal(size=(6, 2))
    vectors = rng.normal(size=(400, 6))
    truth = np.clip(0.5 + (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ slope, 0, 1)
    policy = Linear(penalty=1e-6).fit(make.experience(vectors[:300], truth[:300]))
    np.testing.assert_allclose(policy.score(make.queries(vectors[300:])).quality, truth[300:], atol=0.01)


@pytest.mark.parametrize("chunk", [1, 13, 60])
def test_partial_fit_equals_a_refit(make, chunk):
    train = make.random(120, 3, width=16, missing=0.5, seed=3)
    asked = make.random(20, 1, width=16, seed=4).queries
    pieces = Linear(penalty=5.0).fit(train.select(train.query < 60))
    for first in range(60, 120, chunk):
        pieces.partial_fit(train.select((train.query >= first) & (train.query < first + chunk)))
    refit, learned = Linear(penalty=5.0).fit(train).score(asked), pieces.score(asked)
    np.testing.assert_allclose(learned.quality, refit.quality, atol=1e-6)
    np.testing.assert_allclose(learned.stddev, refit.stddev, atol=1e-6)


def test_a_new_endpoint_is_learned_from_its_probes_alone(make):
    train = make.random(80, 2, seed=5)
    probes = make.experience(train.queries.embedding[:30], np.random.default_rng(6).random((30, 1)), ("new",))
    policy = Linear().fit(train).partial_fit(probes)
    asked = make.random(10, 1, seed=7).queries
    scores = policy.score(asked)
    assert scores.endpoints == ("e0", "e1", "new")
    np.testing.assert_allclose(scores.quality[:, 2], Linear().fit(probes).score(asked).quality[:, 0], atol=1e-6)
    np.testing.assert_array_equal(scores.quality[:, :2], Linear().fit(train).score(asked).quality)


def test_quality_is_clipped_where_the_line_leaves_the_range(make):
    steep = make.experience([[1, 0], [0, 1], [1, 1]], [[1.0], [0.0], [1.0]])
    beyond = make.queries([[1, -1], [-1, 1]])
    assert Linear(penalty=1e-3).fit(steep).score(beyond).quality.ravel().tolist() == [1.0, 0.0]


def test_an_endpoint_never_seen_is_a_coin_flip_with_doubt_a_half(make):
    nothing = make.experience(np.eye(3), np.full((3, 2), np.nan))
    scores = Linear().fit(nothing).score(make.queries(np.eye(3)))
    assert (scores.quality == 0.5).all()
    assert (scores.stddev == 0.5).all()


def test_doubt_shrinks_with_evidence_and_grows_where_there_was_none():
    world = specialists(seed=3)
    queries, cluster = world.queries(200, seed=6)
    few, many = world.experience(40, seed=4), world.experience(2000, seed=5)
    assert (Linear().fit(many).score(queries).stddev < Linear().fit(few).score(queries).stddev).all()
    seen = few.select(np.isin(few.query, np.flatnonzero(world.queries(40, seed=4)[1] != 0)))
    doubt = Linear(penalty=1.0).fit(seen).score(queries).stddev.mean(axis=1)
    assert doubt[cluster == 0].min() > doubt[cluster != 0].max(), "cluster 0 was never asked about"


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(20):
        scores = Linear(penalty=5.0).fit(world.experience(120, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Linear().fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_a_copy_shares_matrices_and_learns_alone(make):
    policy = Linear().fit(make.random(20, 2))
    twin = copy.deepcopy(policy)
    assert twin.model_ is policy.model_  # a copy of many matrices costs nothing until it learns
    assert twin.partial_fit(make.random(5, 2, seed=1)).model_ is not policy.model_
