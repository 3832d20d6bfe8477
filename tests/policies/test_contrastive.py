import copy
from dataclasses import replace

import numpy as np
import pytest

from policies._contrasts import bands_of, cost_banded, partners, sample_endpoint, sample_sample, top_and_bottom
from policies._heads import Heads, fresh_layers, train, unit
from policies._platt import Platt
from policies.baseline import BestOnAverage
from policies.contrastive import Contrastive
from router_gateway.core.experience import Experience
from router_gateway.testing import check_policy, specialists, two_by_two

LOSSES = ("dual", "cost_bands")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def slope(value, at, step=1e-5):
    """The gradient of a function of an array, by central differences."""
    found = np.zeros_like(at)
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i] += step
        down[i] -= step
        found[i] = (value(up) - value(down)) / (2 * step)
    return found


def test_sample_endpoint_loss_by_hand():
    # Query 0: one right endpoint against two wrong ones; query 1: two right against one; query 2 teaches nothing.
    similarity = np.log([[2.0, 1.0, 1.0], [3.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    positive = np.array([[True, False, False], [True, True, False], [True, True, True]])
    value, _ = sample_endpoint(similarity, positive, ~positive, temperature=1.0)
    first, second = np.log(4 / 2), (np.log(4 / 3) + np.log(2 / 1)) / 2
    assert value == pytest.approx((first + second) / 2)


def test_top_and_bottom_follow_quality_and_leave_good_endpoints_alone():
    quality = np.array([[0.9, 0.8, 0.7, 0.6], [1.0, 0.0, 0.2, 0.6], [0.0, 0.0, np.nan, 0.0]])
    positive, negative = top_and_bottom(quality, np.zeros_like(quality), top=2, bottom=2)
    np.testing.assert_array_equal(positive, [[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(negative, [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]])  # 0.7 and 0.6 are not pushed


def test_ties_are_broken_by_the_order_given_not_by_column():
    order = np.array([[3.0, 1.0, 0.0, 2.0]])
    positive, _ = top_and_bottom(np.ones((1, 4)), order, top=1, bottom=1)
    np.testing.assert_array_equal(positive, [[0, 0, 1, 0]])


def test_sample_sample_loss_by_hand():
    similarity = np.log([[1.0, 4.0, 2.0], [4.0, 1.0, 1.0], [2.0, 1.0, 1.0]])
    value, _ = sample_sample(similarity, np.array([1, 0, 2]), np.array([[2], [2], [0]]), temperature=1.0)
    assert value == pytest.approx(np.mean([np.log(6 / 4), np.log(5 / 4), np.log(3 / 1)]))


def test_cost_banded_loss_by_hand():
    similarity, correct = np.array([[0.1, 0.4, 0.2]]), np.array([[True, False, True]])
    temperature, cost = np.array([0.5, 1.0]), np.array([0.0, 0.5, 1.0])
    value, _ = cost_banded(
        similarity,
        correct,
        np.ones((1, 3), dtype=bool),
        band=np.array([0, 0, 1]),
        temperature=temperature,
        cost=cost,
        cost_penalty=0.2,
    )
    cheap = -np.log(np.exp(0.1 / 0.5) / np.exp((similarity[0] - 0.2 * cost) / 0.5).sum())
    dear = -np.log(np.exp(0.2 / 1.0) / np.exp((similarity[0] - 0.2 * cost) / 1.0).sum())
    assert value == pytest.approx((cheap + dear) / 2)


def test_one_band_without_a_penalty_is_infonce(rng):
    similarity, correct = rng.normal(size=(6, 5)), rng.random((6, 5)) < 0.4
    correct[0] = False  # teaches nothing
    correct[1:, 0] = True

    def infonce(s):
        chance = np.exp(s / 0.3) / np.exp(s / 0.3).sum(axis=1, keepdims=True)
        return -np.log((chance * correct).sum(axis=1)[1:]).mean()

    value, gradient = cost_banded(
        similarity,
        correct,
        np.ones_like(correct),
        band=np.zeros(5, dtype=int),
        temperature=np.array([0.3]),
        cost=rng.random(5),
        cost_penalty=0.0,
    )
    assert value == pytest.approx(infonce(similarity))
    np.testing.assert_allclose(gradient, slope(infonce, similarity), atol=1e-8)


def test_gradients_are_the_slopes_of_the_values(rng):
    similarity = rng.normal(size=(5, 4))
    quality = np.where(rng.random((5, 4)) < 0.2, np.nan, rng.random((5, 4)))
    positive, negative = top_and_bottom(quality, rng.random((5, 4)), top=2, bottom=2)
    known = np.isfinite(quality)
    bands = {"band": np.array([0, 0, 1, 1]), "temperature": np.array([0.2, 0.5]), "cost": rng.random(4)}
    square, kin, others = rng.normal(size=(5, 5)), np.array([1, 0, 3, 2, 4]), rng.integers(0, 5, (5, 3))
    losses = [
        (similarity, lambda s: sample_endpoint(s, positive, negative, temperature=0.4)),
        (similarity, lambda s: cost_banded(s, positive, known, **bands, cost_penalty=0.3)),
        (square, lambda s: sample_sample(s, kin, others, temperature=0.4)),
    ]
    for at, loss in losses:
        np.testing.assert_allclose(loss(at)[1], slope(lambda s, f=loss: f(s)[0], at), atol=1e-7)


def test_bands_hold_two_endpoints_or_more_and_equal_costs_share_one():
    assert bands_of(np.array([1.0, 9.0, 2.0, 8.0]), bands=5).tolist() == [0, 1, 0, 1]
    assert bands_of(np.full(6, 3.0), bands=5).tolist() == [0] * 6
    assert bands_of(np.full(3, np.nan), bands=5).tolist() == [0] * 3
    assert np.bincount(bands_of(np.arange(10.0), bands=5)).tolist() == [2] * 5


def test_partners_are_of_ones_kind_and_strangers_are_not(rng):
    kind = rng.integers(0, 3, 40)
    positive, negative = partners(kind, rng)
    assert (kind[positive] == kind).all()
    assert (positive != np.arange(40)).all()
    assert (kind[negative] != kind[:, None]).all()
    assert partners(np.zeros(10, dtype=int), rng) is None


def test_without_kinds_training_follows_the_first_loss_alone(rng):
    quality = (rng.random((100, 4)) < 0.5).astype(float)
    embedding = unit(rng.normal(size=(100, 8))).astype(np.float32)
    policy = Contrastive(kind_weight=0.0, top=2, bottom=2, temperature=0.2)

    def first_alone(query, endpoint, rows, rng):
        similarity = query @ endpoint.T
        masks = top_and_bottom(quality[rows], rng.random(similarity.shape), top=2, bottom=2)
        gradient = sample_endpoint(similarity, *masks, temperature=0.2)[1]
        return gradient @ endpoint, gradient.T @ query

    def ends(objective):
        start = fresh_layers(np.random.default_rng(1), 8, 6), unit(np.random.default_rng(2).normal(size=(4, 6)))
        how = {"steps": 3, "rate": 1e-2, "decay": 0.0, "learn_vectors": True, "rng": np.random.default_rng(3)}
        layers, vectors = train(*start, embedding, objective, **how)
        return np.concatenate([layers[0].ravel(), vectors.ravel()])

    kind = np.arange(100) % 5
    np.testing.assert_array_equal(ends(policy._dual(quality, kind)), ends(first_alone))
    assert not np.array_equal(
        ends(Contrastive(top=2, bottom=2, temperature=0.2)._dual(quality, kind)), ends(first_alone)
    )


def test_a_head_answers_each_query_alike_alone_and_in_a_batch(rng):
    heads = Heads.joined([fresh_layers(rng, 12, 7, 5) for _ in range(3)])
    points = rng.normal(size=(20, 12)).astype(np.float32)
    together = heads.project(points)
    np.testing.assert_array_equal(heads.project(points[3:4])[0], together[3])
    np.testing.assert_allclose(heads.apply(1, points), together[:, 1], atol=1e-6)


def test_calibration_recovers_the_curve_and_shrinks_towards_what_is_common(rng):
    endpoint = np.repeat(np.arange(4), [2000, 2000, 2000, 10])
    similarity = rng.uniform(-1, 1, len(endpoint))
    truth = 1 / (1 + np.exp(-(4.0 * similarity + np.array([-1.0, 0.0, 1.0, 0.0])[endpoint])))
    outcome = (rng.random(len(endpoint)) < truth).astype(np.float32)
    platt = Platt.fitted(5, similarity, endpoint, outcome)
    np.testing.assert_allclose(platt.mean[:3, 0], 4.0, atol=0.4)
    np.testing.assert_allclose(platt.mean[:3, 1], [-1.0, 0.0, 1.0], atol=0.2)
    assert 1.5 < platt.mean[3, 0] < 6.5
    quality, variance = platt.quality(np.zeros((1, 5)))
    assert (quality[0, 4], np.sqrt(variance[0, 4])) == (0.5, 0.5), "never seen"
    assert variance[0, 3] > 10 * variance[0, 0]


@pytest.mark.parametrize("loss", LOSSES)
def test_each_kind_of_query_has_its_own_best_endpoint(loss):
    world = specialists(seed=1)
    train = world.experience(800, seed=2, missing=0.2)
    queries, cluster = world.queries(300, seed=3)
    learned, average = (p.fit(train).score(queries) for p in (Contrastive(loss=loss), BestOnAverage()))
    lost = world.regret(cluster, learned.quality.argmax(axis=1))
    assert lost < 0.2 * world.regret(cluster, average.quality.argmax(axis=1))


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Contrastive().fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


@pytest.mark.parametrize("loss", LOSSES)
def test_stddev_is_the_error_one_may_expect(loss):
    world = specialists(seed=8)
    queries, cluster = world.queries(200, seed=9)
    errors = []
    for seed in range(3):
        scores = Contrastive(loss=loss).fit(world.experience(300, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


@pytest.mark.parametrize(("loss", "gap"), [("dual", 0.3), ("cost_bands", 0.02)])
def test_a_new_endpoint_like_a_known_one_is_put_beside_it(loss, gap):
    world = specialists(seed=4)
    probes = world.experience(192, seed=6).align(world.endpoints[2:3])
    policy = Contrastive(loss=loss).fit(world.experience(800, seed=5))
    queries, cluster = world.queries(300, seed=7)
    quality = policy.partial_fit(replace(probes, endpoints=("twin",))).score(queries).quality[:, -1]
    assert quality[cluster == 2].mean() > quality[cluster != 2].mean() + gap
    assert np.abs(quality - policy.score(queries).quality[:, 2]).mean() < 0.1


def test_probes_place_a_new_endpoint_and_leave_the_others_as_they_were():
    world = specialists(seed=4)
    known = world.experience(800, seed=5).align(world.endpoints[:-1])
    probes = world.experience(192, seed=6).align(world.endpoints[-1:])
    queries, cluster = world.queries(300, seed=7)
    policy = Contrastive().fit(known)
    before = policy.score(queries)
    after = policy.partial_fit(probes).score(queries)
    assert after.endpoints == world.endpoints
    np.testing.assert_allclose(after.quality[:, :-1], before.quality, atol=1e-6)
    at_home, elsewhere = after.quality[cluster == 3, -1], after.quality[cluster != 3, -1]
    assert at_home.mean() > elsewhere.mean() + 0.2
    average = BestOnAverage().fit(known).partial_fit(probes).score(queries)
    chosen = [world.regret(cluster, scores.quality.argmax(axis=1)) for scores in (after, average)]
    assert chosen[0] < 0.5 * chosen[1]


def test_costs_shape_training_and_unknown_ones_do_not_stop_it():
    world = specialists(seed=1)
    train = world.experience(200, seed=2)
    queries, _ = world.queries(20, seed=3)
    costless = Experience.from_table(train.queries, train.endpoints, train.table()[0])
    told, untold, indifferent = (
        policy.fit(known).score(queries).quality
        for policy, known in (
            (Contrastive(loss="cost_bands"), train),
            (Contrastive(loss="cost_bands"), costless),
            (Contrastive(loss="dual"), train),
        )
    )
    assert not np.array_equal(told, untold)
    np.testing.assert_array_equal(Contrastive(loss="dual").fit(costless).score(queries).quality, indifferent)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_endpoint_one_query_and_nothing_at_all(make, loss):
    asked = make.queries(np.eye(3))
    nothing = Contrastive(loss=loss).fit(make.experience(np.eye(3), np.full((3, 2), np.nan))).score(asked)
    assert (nothing.quality == 0.5).all()
    assert (nothing.stddev == 0.5).all()
    single = Contrastive(loss=loss).fit(make.experience([[1, 0, 0]], [[1.0, np.nan]])).score(asked)
    assert 0.5 < single.quality[0, 0] < 0.9
    assert (single.quality[:, 1] == 0.5).all()
    alone = make.random(100, 1, width=3)
    scores = Contrastive(loss=loss).fit(alone).score(asked)
    np.testing.assert_allclose(scores.quality[:, 0], alone.quality.mean(), atol=0.15)


def test_a_copy_shares_the_state_and_learns_alone(make):
    policy = Contrastive(steps=1).fit(make.random(60, 2))
    twin = copy.deepcopy(policy)
    assert twin.placed_ is policy.placed_
    assert twin.partial_fit(make.random(5, 2, seed=1)).placed_ is not policy.placed_


def test_the_other_settings_keep_the_contract():
    check_policy(lambda: Contrastive(loss="cost_bands", hidden=0, steps=20))
