import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from policies._factor_map import _Objective
from policies._identities import most_informative, place, sigmoid
from policies.baseline import BestOnAverage
from policies.factors import Factors
from router_gateway.testing import check_policy, specialists, steady, two_by_two

SMALL = {"penalty": 3.0, "difficulty_penalty": 3.0}  # the worlds here are smaller and steeper than real ones
VARIANTS = [{}, {"difficulty_penalty": None}, {"rank": 0}, {"kl_weight": 1.0}]


class FactorWorld:
    """Quality is the logistic of a level, a product of `rank` factors and, perhaps, a difficulty that all share."""

    def __init__(self, *, endpoints=12, rank=2, width=12, difficulty=0.0, seed=0):
        rng = np.random.default_rng(seed)
        self.level = rng.normal(0.0, 0.5, endpoints)
        self.identity = rng.normal(size=(endpoints, rank))
        self.loading = 5.0 * rng.normal(size=(width, rank)) / np.sqrt(rank)
        self.ease = difficulty * rng.normal(size=width)

    def draw(self, make, count, seed):
        """Experience of all endpoints on `count` queries, and the true quality (count, E)."""
        rng = np.random.default_rng((seed, 1))
        vectors = rng.normal(size=(count, len(self.loading)))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        truth = sigmoid(vectors @ (self.loading @ self.identity.T + self.ease[:, None]) + self.level)
        return make.experience(vectors, (rng.random(truth.shape) < truth).astype(float)), truth


def error(policy, queries, truth):
    return float(np.sqrt(np.mean((policy.score(queries).quality - truth) ** 2)))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_keeps_the_contract(variant):
    check_policy(lambda: Factors(**variant))


@pytest.mark.parametrize("graded", [True, False])
@pytest.mark.parametrize(
    "parameters", [{"rank": 0, "difficulty_penalty": None}, {"penalty": 1e6, "difficulty_penalty": 1e9}]
)
def test_without_factors_and_difficulty_it_is_best_on_average(make, parameters, graded):
    drawn = make.random(60, 3, missing=0.3)
    train = drawn if graded else replace(drawn, quality=drawn.quality.round())
    asked = make.random(8, 1, seed=1).queries
    none, average = Factors(**parameters).fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(none.quality, average.quality, atol=1e-5)
    np.testing.assert_allclose(none.stddev, average.stddev, atol=1e-5)


def test_difficulty_held_to_nothing_is_plain_matrix_factorisation(make):
    train, _ = FactorWorld(difficulty=3.0).draw(make, 300, seed=1)
    asked = make.random(20, 1, width=12, seed=2).queries
    plain = Factors(**SMALL | {"difficulty_penalty": None}).fit(train).score(asked)
    held = Factors(**SMALL | {"difficulty_penalty": 1e9}).fit(train).score(asked)
    np.testing.assert_allclose(held.quality, plain.quality, atol=2e-3)
    np.testing.assert_allclose(held.stddev, plain.stddev, atol=2e-3)


def test_difficulty_is_one_more_factor_of_which_every_endpoint_has_one(make):
    train, _ = FactorWorld(difficulty=3.0).draw(make, 300, seed=1)
    queries = make.random(20, 1, width=12, seed=2).queries
    policy = Factors(**SMALL).fit(train)
    features, ease = policy.model_.shared.read(queries.embedding)
    assert np.abs(ease).max() > 0.1
    wider = np.concatenate([features, ease[:, None]], axis=1)  # W' = [W, -beta], nothing left as offset
    identity = np.concatenate([policy.model_.theta, np.ones((len(train.endpoints), 1))], axis=1)  # P' = [P, 1]
    np.testing.assert_allclose(sigmoid(wider @ identity.T), policy.score(queries).quality, atol=1e-6)


def test_turning_the_factors_changes_no_score(make):
    train, _ = FactorWorld().draw(make, 300, seed=1)
    queries = make.random(20, 1, width=12, seed=2).queries
    policy = Factors(**SMALL | {"difficulty_penalty": None}).fit(train)
    rank = policy.model_.shared.weights.shape[1] - 1
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(rank, rank)))[0]
    z, _ = policy.model_.shared.read(queries.embedding)
    turned = sigmoid((z[:, 1:] @ turn) @ (policy.model_.theta[:, 1:] @ turn).T + policy.model_.theta[:, 0])
    np.testing.assert_allclose(turned, policy.score(queries).quality, atol=1e-6)


def test_the_map_is_the_optimum_of_the_nuclear_norm_problem(make):
    """Rank at the number of endpoints: compared with a descent on the product itself, which knows no factors."""
    train, _ = FactorWorld(endpoints=4, width=5).draw(make, 80, seed=3)
    policy = Factors(penalty=1.5, difficulty_penalty=None).fit(train)
    x = train.queries.embedding.astype(float)
    x -= x.mean(axis=0)
    table, _ = train.table()

    def loss(level, product, smooth=0.0):
        logit = x @ product + level
        length = np.linalg.svd(product, compute_uv=False)
        own = (np.logaddexp(0, logit) - table * logit).sum() + (np.logaddexp(0, level) - level / 2).sum()
        return own + 1.5 * np.sqrt(length**2 + smooth).sum()

    theta = policy.model_.theta
    ours = loss(theta[:, 0], policy.model_.shared.weights[:, :-1] @ theta[:, 1:].T)
    best = minimize(lambda v: loss(v[:4], v[4:].reshape(5, 4), smooth=1e-4), np.zeros(24), method="L-BFGS-B")
    assert ours <= loss(best.x[:4], best.x[4:].reshape(5, 4)) + 0.02


def test_the_gradient_is_the_slope_of_the_loss(make):
    train = make.random(40, 3, width=5, missing=0.4)
    table, _ = train.table()
    count = (~np.isnan(table)).astype(float)
    objective = _Objective(
        train.queries.embedding, np.nan_to_num(table), count, rank=2, penalty=1.3, difficulty_penalty=0.7, kl_weight=0.9
    )
    flat = objective.start() + 0.3 * np.random.default_rng(0).normal(size=5 * 2 + 3 * 2 + 3 + 5 + 3 * 2)
    _, slope = objective(flat)
    step = 1e-2
    measured = [(objective(flat + step * e)[0] - objective(flat - step * e)[0]) / (2 * step) for e in np.eye(len(flat))]
    np.testing.assert_allclose(slope, measured, atol=5e-3)


def test_certain_identities_are_the_limit_of_uncertain_ones(make):
    """The loss with sigma at zero is the loss of points, but for what a certain identity costs in KL."""
    train = make.random(40, 3, width=5)
    table, _ = train.table()
    arguments = (train.queries.embedding, table.astype(float), np.ones(table.shape))
    options = {"rank": 2, "penalty": 1.3, "difficulty_penalty": 0.7}
    points, uncertain = (_Objective(*arguments, **options, kl_weight=k) for k in (None, 1.0))
    flat = points.start() + 0.1
    spread = np.full(6, -8.0)
    cost = (np.exp(2 * spread) / 2 - spread - 0.5).sum()
    assert uncertain(np.concatenate([flat, spread]))[0] - cost == pytest.approx(points(flat)[0], abs=1e-4)


@pytest.mark.parametrize("kl_weight", [None, 1.0])
def test_factors_learn_what_means_cannot(make, kl_weight):
    world = FactorWorld()
    train, _ = world.draw(make, 600, seed=1)
    asked, truth = world.draw(make, 200, seed=2)
    policy, average = Factors(**SMALL, kl_weight=kl_weight).fit(train), BestOnAverage().fit(train)
    assert error(policy, asked.queries, truth) < 0.45 * error(average, asked.queries, truth)
    assert policy.model_.shared.weights.shape[1] - 1 < len(train.endpoints), "directions that do not pay vanish"


def test_difficulty_is_learned_from_the_endpoints_together(make):
    world = FactorWorld(difficulty=5.0, endpoints=6)
    train, _ = world.draw(make, 150, seed=1)
    asked, truth = world.draw(make, 200, seed=2)
    with_it, without = Factors(**SMALL).fit(train), Factors(**SMALL | {"difficulty_penalty": None}).fit(train)
    assert error(with_it, asked.queries, truth) < error(without, asked.queries, truth)


@pytest.mark.parametrize("parameters", [{}, {"kl_weight": 1.0}])
def test_probes_place_a_new_endpoint_and_leave_the_others_as_they_were(make, parameters):
    world = FactorWorld(endpoints=20, difficulty=2.0)
    train, _ = world.draw(make, 600, seed=1)
    probes, _ = world.draw(make, 40, seed=2)
    asked, truth = world.draw(make, 300, seed=3)
    known, new = train.endpoints[:14], train.endpoints[14:]
    policy = Factors(**SMALL | parameters).fit(train.align(known))
    before = policy.score(asked.queries)
    after = policy.partial_fit(probes.align(new)).score(asked.queries)
    np.testing.assert_array_equal(after.quality[:, :14], before.quality)
    np.testing.assert_array_equal(after.stddev[:, :14], before.stddev)
    mine = np.sqrt(np.mean((after.quality[:, 14:] - truth[:, 14:]) ** 2))
    average = BestOnAverage().fit(probes.align(new)).score(asked.queries).quality
    everything = Factors(**SMALL | parameters).fit(train).score(asked.queries).quality[:, 14:]
    full = np.sqrt(np.mean((everything - truth[:, 14:]) ** 2))
    assert mine < 0.65 * np.sqrt(np.mean((average - truth[:, 14:]) ** 2))
    assert mine < full + 0.1, "forty answers instead of six hundred"


def test_chosen_probes_tell_more_than_random_ones(make):
    world = FactorWorld(endpoints=24, rank=4, difficulty=2.0)
    train, _ = world.draw(make, 800, seed=1)
    pool, _ = world.draw(make, 400, seed=2)
    asked, truth = world.draw(make, 300, seed=3)
    known, new = train.endpoints[:16], train.endpoints[16:]
    policy = Factors(**SMALL).fit(train.align(known))
    rows = policy.informative(pool.queries, 24)
    assert len(set(rows.tolist())) == 24

    def missed(chosen):
        probes = pool.select(np.isin(pool.query, chosen)).align(new)
        scores = copy.deepcopy(policy).partial_fit(probes).score(asked.queries)
        return np.sqrt(np.mean((scores.quality[:, 16:] - truth[:, 16:]) ** 2))

    at_random = [missed(np.random.default_rng(seed).choice(400, 24, replace=False)) for seed in range(10)]
    assert missed(rows) < np.mean(at_random)
    assert len(policy.informative(pool.queries.take(slice(0, 3)), 24)) == 3
    assert len(policy.informative(pool.queries, 0)) == 0


def test_the_greedy_choice_raises_the_determinant_most():
    rng = np.random.default_rng(1)
    features, weight, precision = rng.normal(size=(30, 4)), rng.random(30), np.eye(4)
    told = precision.copy()
    for row in most_informative(features, weight, precision, 6):
        gains = [np.linalg.slogdet(told + w * np.outer(z, z))[1] for z, w in zip(features, weight, strict=True)]
        assert gains[row] == pytest.approx(max(gains))
        told += weight[row] * np.outer(features[row], features[row])
        features[row] = 0.0


def test_placing_finds_the_mode_and_its_curvature():
    rng = np.random.default_rng(0)
    z, offset, q, w = rng.normal(size=(50, 3)), rng.normal(size=50), rng.random(50), rng.integers(1, 3, 50) * 1.0
    mean, precision = rng.normal(size=3), np.diag([0.5, 1.0, 2.0])

    def loss(theta):
        logit = z @ theta + offset
        return (w * (np.logaddexp(0, logit) - q * logit)).sum() + (theta - mean) @ precision @ (theta - mean) / 2

    theta, curved = place(z, offset, q, w, mean, precision)
    np.testing.assert_allclose(theta, minimize(loss, mean, tol=1e-12).x, atol=1e-4)
    h = 1e-3 * np.eye(3)
    measured = [[(loss(theta + a + b) - loss(theta + a) - loss(theta + b) + loss(theta)) / 1e-6 for a in h] for b in h]
    np.testing.assert_allclose(curved, measured, rtol=1e-2, atol=1e-2)


def test_placing_survives_answers_that_are_all_alike():
    z = np.concatenate([np.ones((2000, 1)), np.random.default_rng(0).normal(scale=30.0, size=(2000, 2))], axis=1)
    theta, precision = place(z, np.zeros(2000), np.ones(2000), np.ones(2000), np.zeros(3), np.eye(3))
    assert np.isfinite(theta).all()
    assert np.linalg.eigvalsh(precision).min() > 0


def test_learning_in_two_parts_is_nearly_learning_at_once(make):
    world = FactorWorld()
    train, _ = world.draw(make, 300, seed=1)
    news, _ = world.draw(make, 200, seed=2)
    policy = Factors(**SMALL).fit(train)
    asked = world.draw(make, 50, seed=3)[0].queries
    at_once = copy.deepcopy(policy).partial_fit(news).score(asked)
    policy.partial_fit(news.select(news.query < 90)).partial_fit(news.select(news.query >= 90))
    np.testing.assert_allclose(policy.score(asked).quality, at_once.quality, atol=0.02)
    np.testing.assert_allclose(policy.score(asked).stddev, at_once.stddev, atol=0.02)


def test_repeated_outcomes_count_as_often_as_they_came(make):
    train = make.random(40, 3, width=5)
    twice = train.concatenate(train)
    same = replace(
        twice.select(np.arange(len(twice))), queries=train.queries, query=np.concatenate([train.query, train.query])
    )
    asked = make.random(5, 1, width=5, seed=1).queries
    np.testing.assert_allclose(
        Factors(**SMALL).fit(same).score(asked).quality, Factors(**SMALL).fit(twice).score(asked).quality, atol=5e-3
    )


@pytest.mark.parametrize("parameters", [{}, {"difficulty_penalty": None}, {"kl_weight": 1.0}])
def test_stddev_is_the_error_one_may_expect(parameters):
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(10):
        scores = Factors(**SMALL | parameters).fit(world.experience(120, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_stddev_of_a_probed_endpoint_is_the_error_one_may_expect(make):
    errors = []
    for seed in range(8):
        world = FactorWorld(endpoints=20, difficulty=2.0, seed=seed)
        train, _ = world.draw(make, 500, seed=1)
        probes, _ = world.draw(make, 30, seed=2)
        asked, truth = world.draw(make, 200, seed=3)
        policy = Factors(**SMALL).fit(train.align(train.endpoints[:15])).partial_fit(probes.align(train.endpoints[15:]))
        scores = policy.score(asked.queries)
        errors.append((scores.quality[:, 15:] - truth[:, 15:]) / scores.stddev[:, 15:])
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_an_endpoint_never_seen_is_a_coin_flip_with_doubt_a_half(make):
    nothing = make.experience(np.eye(3), np.full((3, 2), np.nan))
    scores = Factors(**SMALL).fit(nothing).score(make.queries(np.eye(3)))
    assert (scores.quality == 0.5).all()
    assert (scores.stddev == 0.5).all()
    half = Factors(**SMALL).fit(make.random(50, 3).select(make.random(50, 3).endpoint != 1))
    assert half.score(make.queries(np.eye(6))).stddev[:, 1].tolist() == [0.5] * 6


def test_one_endpoint_and_one_query(make):
    alone = Factors(**SMALL).fit(make.random(60, 1)).score(make.random(5, 1, seed=1).queries)
    alone.check(5)
    once = Factors(**SMALL).fit(make.experience([[1, 0]], [[1.0, 0.0]])).score(make.queries([[0, 1]]))
    np.testing.assert_allclose(once.quality, [[0.75, 0.25]], atol=1e-5)


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Factors(**SMALL).fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_a_world_without_kinds_has_no_factors():
    world = steady(seed=1)
    policy = Factors(penalty=15.0).fit(world.experience(400, seed=2))
    assert policy.model_.shared.weights.shape[1] == 1


def test_a_copy_shares_the_model_and_learns_alone(make):
    policy = Factors(**SMALL).fit(make.random(20, 2))
    twin = copy.deepcopy(policy)
    assert twin.model_ is policy.model_
    assert twin.partial_fit(make.random(5, 2, seed=1)).model_ is not policy.model_


def test_a_saved_policy_chooses_the_same_probes(make, tmp_path):
    train = make.random(60, 4)
    policy = Factors(**SMALL).fit(train)
    policy.save(tmp_path)
    loaded = Factors.load(tmp_path)
    np.testing.assert_array_equal(loaded.informative(train.queries, 9), policy.informative(train.queries, 9))
