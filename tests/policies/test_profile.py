import copy

import numpy as np
import pytest

from policies._attention import Attention, loss
from policies.baseline import BestOnAverage
from policies.profile import Profile, _evenly
from router_gateway.testing import check_policy, specialists, two_by_two


def by_hand(train, asked, *, sharpness):
    """Softmax-weighted neighbours over all rows, one query and one endpoint at a time."""
    table, _ = train.table()
    quality, stddev = np.zeros((len(asked), table.shape[1])), np.zeros((len(asked), table.shape[1]))
    for i, x in enumerate(asked.embedding.astype(float)):
        for e in range(table.shape[1]):
            known = np.isfinite(table[:, e])
            c, near = table[known, e].astype(float), train.queries.embedding[known].astype(float)
            w = np.exp(sharpness * near @ x)
            w /= w.sum()
            n = len(c)
            q = 1 / (1 + np.exp(-(n / (n + 1)) * 2.0 * (w * (2 * c - 1)).sum()))
            m = (c.sum() + 0.5) / (n + 1)
            spread = (((c**2).sum() + 0.5) / (n + 1) - m**2) / (m * (1 - m))
            quality[i, e] = q
            stddev[i, e] = np.sqrt(spread * q * (1 - q) / (1 / (w**2).sum() + 1))
    return quality, np.minimum(stddev, 0.5)


@pytest.mark.parametrize("missing", [0.0, 0.6])
@pytest.mark.parametrize("sharpness", [1.0, 10.0])
def test_without_training_it_is_softmax_weighted_neighbours(make, missing, sharpness):
    train, asked = make.random(60, 3, missing=missing), make.random(10, 1, seed=1).queries
    scores = Profile(steps=0, sharpness=sharpness).fit(train).score(asked)
    quality, stddev = by_hand(train, asked, sharpness=sharpness)
    np.testing.assert_allclose(scores.quality, quality, atol=1e-6)
    np.testing.assert_allclose(scores.stddev, stddev, atol=1e-6)


def test_gradients_are_the_slopes_of_the_loss():
    rng = np.random.default_rng(0)
    arrays = {"projection": rng.normal(size=(6, 4)), "weights": np.array([1.5, 0.3, -0.2])}
    asked, profile = rng.normal(size=(5, 6)), rng.normal(size=(7, 6))
    truth, outcome = rng.random((5, 3)), rng.random((7, 3))
    truth[0, 1] = outcome[2, 0] = np.nan
    outcome[:, 2] = np.nan  # an endpoint without a profile
    _, gradients = loss(arrays, asked, truth, profile, outcome)
    for name, array in arrays.items():
        for i in np.ndindex(array.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = {n: a.copy() for n, a in arrays.items()}
                moved[name][i] += step
                ends.append(loss(moved, asked, truth, profile, outcome)[0])
            assert gradients[name][i] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


def test_training_finds_the_directions_that_matter(make):
    """Quality follows one component of twenty; the others are noise to be looked past."""
    rng = np.random.default_rng(1)
    vectors, asked = rng.normal(size=(1200, 20)), make.queries(rng.normal(size=(300, 20)))
    truth = 1 / (1 + np.exp(-30 * make.queries(vectors).embedding[:, :1] * [1, -1, 1, -1]))
    train = make.experience(vectors, (rng.random(truth.shape) < truth).astype(float))
    expected = 1 / (1 + np.exp(-30 * asked.embedding[:, :1] * [1, -1, 1, -1]))
    plain, learned = (
        np.square(Profile(steps=steps).fit(train).score(asked).quality - expected).mean() for steps in (0, 150)
    )
    assert learned < 0.7 * plain


def test_each_kind_of_query_has_its_own_best_endpoint():
    world = specialists(seed=1)
    train = world.experience(800, seed=2, missing=0.2)
    queries, cluster = world.queries(300, seed=3)
    learned, average = (p.fit(train).score(queries) for p in (Profile(), BestOnAverage()))
    lost = world.regret(cluster, learned.quality.argmax(axis=1))
    assert lost < 0.02 < world.regret(cluster, average.quality.argmax(axis=1))


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Profile().fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(8):
        scores = Profile().fit(world.experience(200, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_a_new_endpoint_works_from_its_profile_alone():
    world = specialists(seed=4)
    everything, probes = world.experience(800, seed=5), world.experience(192, seed=6)
    known = everything.align(world.endpoints[:-1])
    queries, cluster = world.queries(300, seed=7)
    policy = Profile().fit(known)
    before = policy.score(queries)
    after = policy.partial_fit(probes.align(world.endpoints[-1:])).score(queries)
    np.testing.assert_allclose(after.quality[:, :-1], before.quality, atol=1e-6)
    assert after.quality[cluster == 3, -1].min() > after.quality[cluster != 3, -1].max()
    assert world.regret(cluster, after.quality.argmax(axis=1)) < 0.02


def test_the_newest_outcomes_are_the_profile(make):
    train = make.random(40, 2, missing=0.3)
    late = make.random(30, 2, seed=1)
    policy = Profile(profile_max=20).fit(train)
    assert (np.isfinite(policy.book_.pages.outcome).sum(axis=0) == 20).all()
    outcome = policy.partial_fit(late).book_.pages.outcome
    assert (np.isfinite(outcome).sum(axis=0) == 20).all()
    assert np.isin(outcome, late.quality).all(), "forty older ones have made room"
    part = policy.partial_fit(train.select((train.endpoint == 0) & (train.query < 5))).book_.pages.outcome
    assert np.isfinite(part).sum(axis=0).tolist() == [20, 20]


def test_every_beginning_of_the_order_holds_easy_and_hard_queries_alike():
    quality = np.repeat([[0.0], [0.25], [0.5], [0.75], [1.0]], 20, axis=0)
    order = _evenly(quality, seed=0)
    assert sorted(order.tolist()) == list(range(100))
    assert quality[order[:10]].mean() == quality[order[:50]].mean() == 0.5


def test_a_narrow_projection_keeps_the_first_axes():
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(50, 2)) @ rng.normal(size=(2, 8))).astype(np.float32)
    narrow = Attention.start(points, width=2, sharpness=3.0).project(points)
    np.testing.assert_allclose(narrow @ narrow.T, 3.0 * points @ points.T, atol=1e-3)


def test_one_endpoint_one_query_and_nothing_at_all(make):
    asked = make.queries(np.eye(3))
    nothing = Profile().fit(make.experience(np.eye(3), np.full((3, 2), np.nan))).score(asked)
    assert (nothing.quality == 0.5).all()
    assert (nothing.stddev == 0.5).all()
    single = Profile().fit(make.experience([[1, 0, 0]], [[1.0, np.nan]])).score(asked)
    assert (single.quality[:, 0] < 0.8).all(), "one lucky answer makes no winner"
    assert (single.stddev[:, 0] > 0.2).all()
    assert (single.quality[:, 1] == 0.5).all()
    alone = Profile().fit(make.random(100, 1, width=3)).score(asked)
    assert ((alone.quality > 0.3) & (alone.quality < 0.7)).all()


def test_a_copy_shares_the_state_and_learns_alone(make):
    policy = Profile(steps=2).fit(make.random(60, 2))
    twin = copy.deepcopy(policy)
    assert twin.book_ is policy.book_
    assert twin.partial_fit(make.random(5, 2, seed=1)).book_ is not policy.book_


def test_without_training_the_contract_holds_too():
    check_policy(lambda: Profile(steps=0, profile_max=50, width=4))
