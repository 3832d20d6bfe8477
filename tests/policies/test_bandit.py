import copy
from dataclasses import replace

import numpy as np
import pytest

from policies._forgetting import STALE_MAX, Residuals, effective_outcomes
from policies.bandit import Bandit
from policies.baseline import BestOnAverage
from policies.linear import Linear
from router_gateway.testing import specialists, steady, two_by_two


def only(experience, endpoint):
    return experience.select(experience.endpoint == endpoint)


def after(experience, queries):
    """The outcomes of the queries from this one on."""
    return experience.select(experience.query >= queries)


def test_nothing_forgotten_and_no_prior_is_bayesian_ridge(make):
    first, later = make.random(80, 1, seed=1), make.random(60, 1, seed=2)
    later = replace(later, endpoints=("new",))
    policy = Bandit(gamma=1.0, components=6, drift_penalty=7.0, pooled=False).fit(first).partial_fit(later)
    seen, asked = first.queries.embedding.astype(float), make.random(9, 1, seed=3).queries
    centre = seen.mean(axis=0)
    variance, direction = np.linalg.eigh(np.cov((seen - centre).T, bias=True))

    def features(x):
        return np.column_stack([np.ones(len(x)), (x - centre) @ direction / np.sqrt(variance)])

    z, y = features(later.queries.embedding), later.quality.astype(float)
    precision = z.T @ z + np.diag([1.0] + 6 * [7.0])
    moment = z.T @ y
    moment[0] += 0.5  # one imagined answer, half good and half bad
    theta = np.linalg.solve(precision, moment)
    noise = (0.5 + y @ y - moment @ theta) / (len(y) + 1)
    at = features(asked.embedding)
    doubt = np.sqrt(noise * np.einsum("qd,de,qe->q", at, np.linalg.inv(precision), at))
    scores = policy.score(asked)
    np.testing.assert_allclose(scores.quality[:, 1], np.clip(at @ theta, 0, 1), atol=1e-6)
    np.testing.assert_allclose(scores.stddev[:, 1], np.minimum(doubt, 0.5), atol=1e-5)


def test_large_penalties_give_best_on_average(make):
    train, asked = make.random(50, 3, missing=0.3), make.random(8, 1, seed=1).queries
    held = Bandit(penalty=1e12, drift_penalty=1e12, gamma=1.0, horizon=1e9).fit(train).score(asked)
    average = BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(held.quality, average.quality, atol=1e-5)
    np.testing.assert_allclose(held.stddev, average.stddev, rtol=0.05)


def test_before_anything_new_it_estimates_as_linear_does(make):
    train, asked = make.random(200, 3, width=16, missing=0.3), make.random(20, 1, width=16, seed=1).queries
    np.testing.assert_allclose(
        Bandit(penalty=5.0).fit(train).score(asked).quality, Linear(penalty=5.0).fit(train).score(asked).quality
    )


@pytest.mark.parametrize("gamma", [1.0, 0.97])
@pytest.mark.parametrize("chunk", [1, 13])
def test_row_by_row_equals_one_batch(make, gamma, chunk):
    train, later = make.random(60, 3, seed=3), make.random(60, 3, missing=0.5, seed=4)
    asked = make.random(20, 1, seed=5).queries
    whole, pieces = (Bandit(gamma=gamma).fit(train) for _ in range(2))
    whole.partial_fit(later)
    for start in range(0, len(later), chunk):
        pieces.partial_fit(later.select(np.arange(start, min(start + chunk, len(later)))))
    np.testing.assert_allclose(pieces.score(asked).quality, whole.score(asked).quality, atol=1e-6)
    np.testing.assert_allclose(pieces.score(asked).stddev, whole.score(asked).stddev, atol=1e-6)


def test_forgetting_is_a_weighted_regression():
    rng = np.random.default_rng(7)
    z = np.column_stack([np.ones(90), rng.normal(size=(90, 3))])
    residual, endpoint = rng.normal(size=90), rng.integers(0, 2, 90)
    learned = Residuals.nothing(endpoints=2, features=4, penalty=3.0)
    for part in (slice(0, 40), slice(40, 41), slice(41, 90)):
        learned = learned.learn(z[part], endpoint[part], residual[part], gamma=0.9)
    theta = learned.solved(gamma=0.9).theta
    for e in (0, 1):
        own, left = z[endpoint == e], residual[endpoint == e]
        weight = 0.9 ** np.arange(len(own))[::-1]
        precision = (own * weight[:, None]).T @ own + np.diag([1.0, 3.0, 3.0, 3.0])
        np.testing.assert_allclose(theta[e], np.linalg.solve(precision, own.T @ (weight * left)), atol=1e-12)


def test_the_prior_and_horizon_many_outcomes_have_equal_say():
    assert effective_outcomes(0.997, 500) == pytest.approx(1164, abs=1)
    assert effective_outcomes(1.0, 500) == 500
    assert effective_outcomes(0.5, 1e6) == np.inf
    for gamma, horizon in ((0.9, 12), (0.99, 300)):
        later = (gamma ** np.arange(horizon)).sum()
        assert effective_outcomes(gamma, horizon) * gamma**horizon == pytest.approx(later)
        prior = Residuals.nothing(endpoints=1, features=1, penalty=1.0).confirmed(
            np.ones((10_000, 1)), np.zeros(10_000, int), most=effective_outcomes(gamma, horizon), noise=np.full(1, 0.1)
        )
        learned = prior.learn(np.ones((horizon, 1)), np.zeros(horizon, int), np.ones(horizon), gamma=gamma)
        assert learned.solved(gamma=gamma).theta[0, 0] == pytest.approx(later / (2 * later + 1)), "half of the way"


def test_a_silent_drop_is_followed_and_linear_does_not():
    world = steady(seed=1)
    lower = replace(world, quality=world.quality - np.array([0.0, 0.0, 0.0, 0.18]))
    train, news = world.experience(1500, seed=2), lower.experience(333, seed=3)
    queries, _ = world.queries(200, seed=4)

    def last(policy):
        return float(policy.score(queries).quality[:, 3].mean())

    bandit, linear = Bandit(gamma=0.997).fit(train), Linear().fit(train)
    assert last(bandit) == pytest.approx(0.9, abs=0.03)
    bandit.partial_fit(only(news, 3))
    linear.partial_fit(only(news, 3))
    seen = float(only(news, 3).quality.mean())
    assert last(bandit) - seen < 0.4 * 0.18
    assert last(linear) - seen > 0.7 * 0.18
    bandit.partial_fit(only(lower.experience(1000, seed=5), 3))
    assert last(bandit) == pytest.approx(0.72, abs=0.05)


def test_drift_in_one_kind_of_query_stays_there():
    world = specialists(seed=2)
    changed = world.quality.copy()
    changed[0, 0] = 0.4
    lower = replace(world, quality=changed)
    policy = Bandit().fit(world.experience(2000, seed=3)).partial_fit(only(lower.experience(2000, seed=4), 0))
    queries, cluster = world.queries(400, seed=5)
    moved = (
        policy.score(queries).quality[:, 0] - Bandit().fit(world.experience(2000, seed=3)).score(queries).quality[:, 0]
    )
    assert moved[cluster == 0].mean() < -0.25
    assert abs(moved[cluster != 0].mean()) < 0.1


def test_doubt_grows_in_silence_up_to_a_bound_and_the_estimate_stays(make):
    train, asked = make.random(300, 2, seed=6), make.random(10, 1, seed=7).queries
    policy = Bandit(gamma=0.99, drift_penalty=1e3, pooled=False).fit(train)
    before = policy.score(asked)
    other = only(make.random(100, 2, seed=8), 1)
    once = policy.partial_fit(other).score(asked)
    np.testing.assert_allclose(once.stddev[:, 0], before.stddev[:, 0] / np.sqrt(0.99**100), rtol=0.02)
    np.testing.assert_array_equal(once.quality[:, 0], before.quality[:, 0])
    for _ in range(20):
        policy.partial_fit(other)
    bound = np.minimum(before.stddev[:, 0] * np.sqrt(STALE_MAX), 0.5)
    np.testing.assert_allclose(policy.score(asked).stddev[:, 0], bound, rtol=0.02)


def test_one_kind_of_query_for_ever_does_no_harm_elsewhere(make):
    world = specialists(seed=4)
    policy = Bandit(gamma=0.9).fit(world.experience(500, seed=5))
    queries, cluster = world.queries(300, seed=6)
    before = policy.score(queries)
    monotone = world.experience(3000, seed=7)
    policy.partial_fit(monotone.select(np.isin(monotone.query, np.flatnonzero(world.queries(3000, seed=7)[1] == 0))))
    later = policy.score(queries)
    assert np.isfinite(later.quality).all()
    assert np.abs(later.quality - before.quality)[cluster != 0].mean() < 0.15


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(20):
        policy = Bandit(penalty=5.0).fit(world.experience(120, seed=100 + seed))
        scores = policy.partial_fit(world.experience(80, seed=200 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    learned = world.experience(1000, seed=1)
    queries, cluster = world.queries(500, seed=3)
    for policy in (
        Bandit().fit(learned),
        Bandit().fit(learned.select(learned.query < 100)).partial_fit(after(learned, 100)),
    ):
        value = policy.score(queries).quality - world.cost_usd / 0.01
        assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_it_beats_the_average_where_endpoints_are_specialists():
    world = specialists(seed=5)
    learned = world.experience(600, seed=6, missing=0.5)
    queries, cluster = world.queries(500, seed=7)
    lost = [
        world.regret(cluster, p.fit(learned).score(queries).quality.argmax(axis=1)) for p in (Bandit(), BestOnAverage())
    ]
    assert lost[0] < 0.2 * lost[1]


def test_a_new_endpoint_is_learned_from_its_probes():
    world = specialists(seed=9)
    known = world.endpoints[:3]
    probes = only(world.experience(192, seed=10), 3)
    policy = Bandit().fit(world.experience(800, seed=11).align(known))
    old = policy.score(world.queries(300, seed=12)[0])
    scores = policy.partial_fit(probes).score(world.queries(300, seed=12)[0])
    cluster = world.queries(300, seed=12)[1]
    assert scores.endpoints == world.endpoints
    own, elsewhere = scores.quality[cluster == 3, 3].mean(), scores.quality[cluster != 3, 3].mean()
    assert own > 0.65
    assert own - elsewhere > 0.15
    np.testing.assert_allclose(scores.quality[:, :3], old.quality, atol=1e-3)  # what all have in common moved a little


def test_an_endpoint_never_seen_is_a_coin_flip_with_doubt_a_half(make):
    nothing = make.experience(np.eye(3), np.full((3, 2), np.nan))
    scores = Bandit().fit(nothing).score(make.queries(np.eye(3)))
    assert (scores.quality == 0.5).all()
    assert (scores.stddev == 0.5).all()


def test_one_query_and_one_endpoint_are_enough(make):
    scores = Bandit().fit(make.experience([[1, 0]], [[1.0]])).score(make.queries([[1, 0], [0, 1]]))
    np.testing.assert_allclose(scores.quality, 0.75, atol=0.01)  # one answer and one imagined


def test_a_copy_shares_matrices_and_learns_alone(make):
    policy = Bandit().fit(make.random(20, 2))
    twin = copy.deepcopy(policy)
    assert twin.model_ is policy.model_
    assert twin.partial_fit(make.random(5, 2, seed=1)).model_ is not policy.model_


def test_an_endpoint_of_which_nothing_is_known_is_taken_for_one_like_the_others():
    world = steady(seed=3)
    three = world.experience(400, seed=4)
    scores = Bandit().fit(three.select(three.endpoint < 3)).score(world.queries(200, seed=5)[0])
    assert scores.endpoints == world.endpoints
    assert scores.quality[:, 3].mean() == pytest.approx(scores.quality[:, :3].mean(), abs=0.02)
    assert scores.stddev[:, 3].mean() > 3 * scores.stddev[:, :3].mean()


def test_a_newcomer_begins_between_the_others_and_its_first_answer():
    world = steady(seed=3)
    policy = Bandit().fit(world.experience(400, seed=4).align(world.endpoints[:3]))
    first = only(world.experience(1, seed=6), 3)
    scores = policy.partial_fit(first).score(first.queries)
    assert scores.quality[0, 3] == pytest.approx((scores.quality[0, :3].mean() + first.quality[0]) / 2, abs=0.1)


def test_from_a_cold_start_few_outcomes_of_some_tell_of_all(make):
    world, nothing = steady(seed=7), make.experience(np.eye(32), np.full((32, 4), np.nan))
    told = only(world.experience(30, seed=8), 3)  # nine of ten are good
    told = replace(told, endpoints=nothing.endpoints, queries=replace(told.queries, space=nothing.queries.space))
    asked = nothing.queries
    own, shared = (Bandit(pooled=pooled).fit(nothing).partial_fit(told).score(asked) for pooled in (False, True))
    assert own.quality[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert shared.quality[:, 0].mean() == pytest.approx(told.quality.mean(), abs=0.1)
    assert shared.stddev[:, 0].mean() < own.stddev[:, 0].mean()


@pytest.mark.parametrize("drop", [0.3, 0.6])
def test_a_drop_is_found_and_followed_at_once(drop):
    world = steady(seed=1)
    lower = replace(world, quality=world.quality - np.array([0.0, 0.0, 0.0, drop]))
    train, after = world.experience(1500, seed=2), only(lower.experience(120, seed=3), 3)
    queries, _ = world.queries(200, seed=4)
    watching, blind = Bandit().fit(train), Bandit(alarm_outcomes=0).fit(train)
    doubt = watching.score(queries).stddev[:, 3].mean()
    for t in range(len(after)):
        for policy in (watching, blind):
            policy.partial_fit(after.select(np.array([t])))
    assert watching.changes() == {"endpoint-0": 0, "endpoint-1": 0, "endpoint-2": 0, "endpoint-3": 1}
    assert sum(blind.changes().values()) == 0
    truth = 0.9 - drop
    late = [abs(float(p.score(queries).quality[:, 3].mean()) - truth) for p in (watching, blind)]
    assert late[0] < 0.5 * late[1]
    assert watching.score(queries).stddev[:, 3].mean() > doubt


def test_doubt_is_widest_right_after_a_change_was_found():
    world = steady(seed=1)
    lower = replace(world, quality=world.quality - np.array([0.0, 0.0, 0.0, 0.6]))
    policy = Bandit().fit(world.experience(1500, seed=2))
    queries, _ = world.queries(50, seed=4)
    before, news = policy.score(queries).stddev[:, 3].mean(), only(lower.experience(200, seed=3), 3)
    t = 0
    while not policy.changes()["endpoint-3"]:
        policy.partial_fit(news.select(np.array([t])))
        t += 1
    assert t < 60
    assert policy.score(queries).stddev[:, 3].mean() > 2 * before


def test_false_alarms_of_a_change_are_as_rare_as_was_asked():
    world, found = steady(seed=9), 0
    for seed in range(10):
        policy = Bandit(alarm_outcomes=500).fit(world.experience(300, seed=100 + seed))
        policy.partial_fit(world.experience(500, seed=200 + seed))
        found += sum(policy.changes().values())
    assert found <= 10 * 4 * 500 / 500  # runs, endpoints, outcomes of each


def test_what_was_found_survives_a_restart(tmp_path):
    world = steady(seed=1)
    lower = replace(world, quality=world.quality - np.array([0.0, 0.0, 0.0, 0.6]))
    policy = Bandit().fit(world.experience(500, seed=2)).partial_fit(lower.experience(100, seed=3))
    policy.save(tmp_path)
    assert Bandit.load(tmp_path).changes() == policy.changes()
    assert policy.changes()["endpoint-3"] >= 1


def test_prompts_alone_tell_in_which_directions_to_learn(make):
    train, later, asked = make.random(60, 2, seed=1), make.random(40, 2, seed=2), make.random(8, 2, seed=3).queries
    nobody_asked = replace(train.select(train.query < 0), queries=train.queries)
    assert len(nobody_asked) == 0
    taught = Bandit(components=3).fit(nobody_asked).partial_fit(later)
    model = taught.model_
    assert model is not None
    assert model.whitening.shape == (train.queries.embedding.shape[1], 3)
    assert np.ptp(taught.score(asked).quality[:, 0]) > 1e-4, "answers to some prompts are told from those to others"
    constant = Bandit(components=0).fit(nobody_asked).partial_fit(later)
    assert np.ptp(constant.score(asked).quality[:, 0]) < 1e-6
