import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from policies._bradley_terry import Comparisons
from policies.baseline import BestOnAverage
from policies.preference import Preference
from router_gateway.core.protocols import PredictsWins
from router_gateway.testing import specialists, two_by_two


def battles(make, rows, *, seed=0, strength=(1.0, 0.0, -0.5), tilt=0.0, width=4):
    """Comparisons of random pairs, one a query, won by strengths that `tilt` along the query's first axis."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, width))
    queries = make.queries(vectors)
    count = len(strength)
    true = np.array(strength) + tilt * queries.embedding[:, :1] * np.arange(count)
    pair = np.argsort(rng.random((rows, count)), axis=1)[:, :2]
    first, second = np.take_along_axis(true, pair, axis=1).T
    won = rng.random(rows) < expit(first - second)
    ordered = np.where(won[:, None], pair, pair[:, ::-1])
    nothing = make.experience(vectors, np.full((rows, count), np.nan))
    return replace(nothing, comparisons=np.concatenate([np.arange(rows)[:, None], ordered], axis=1)), true


def plain_strengths(comparisons, count, precision=0.1):
    """Bradley-Terry strengths without a query, each believed to be near 0."""
    better, worse = comparisons[:, 1], comparisons[:, 2]

    def loss(s):
        return np.logaddexp(0, s[worse] - s[better]).sum() + 0.5 * precision * s @ s

    return minimize(loss, np.zeros(count), tol=1e-12).x


def test_a_penalty_beyond_measure_gives_plain_bradley_terry(make):
    train, _ = battles(make, 300, tilt=2.0)
    policy, asked = Preference(penalty=1e12).fit(train), make.random(5, 1, width=4, seed=1).queries
    expected = plain_strengths(train.comparisons, 3)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        chance = policy.win_probability(asked, f"e{a}", f"e{b}")
        np.testing.assert_allclose(chance, expit(expected[a] - expected[b]), atol=1e-3)


def test_two_endpoints_and_three_battles_by_hand(make):
    train = make.experience(np.eye(3), np.full((3, 2), np.nan))
    train = replace(train, comparisons=np.array([[0, 0, 1], [1, 0, 1], [2, 1, 0]]))
    chance = Preference(penalty=1e12).fit(train).win_probability(train.queries, "e0", "e1")
    # By symmetry s_0 = -s_1 = s, and 2 sigmoid(-2s) - sigmoid(2s) = 0.1 s.
    s = 0.5 * np.log(chance[0] / (1 - chance[0]))
    assert 2 * expit(-2 * s) - expit(2 * s) == pytest.approx(0.1 * s, abs=1e-4)
    assert 0.6 < chance[0] < 2 / 3


def test_who_wins_by_the_query_is_learned(make):
    train, _ = battles(make, 3000, tilt=6.0)
    _, true = battles(make, 300, seed=1, tilt=6.0)
    asked = battles(make, 300, seed=1, tilt=6.0)[0].queries
    chance = Preference(penalty=0.1).fit(train).win_probability(asked, "e2", "e0")
    assert np.abs(chance - expit(true[:, 2] - true[:, 0])).mean() < 0.06


def test_equals_imply_nothing_and_a_query_is_worth_its_endpoints_less_one(make):
    train = make.experience(np.eye(3), [[0.9, 0.1, 0.5], [1.0, np.nan, 0.0], [0.5, 0.5, np.nan]])
    implied = Comparisons.of(train)
    found = sorted(zip(implied.rows.tolist(), implied.weight.tolist(), strict=True))
    assert found == [([0, 0, 1], 2 / 3), ([0, 0, 2], 2 / 3), ([0, 2, 1], 2 / 3), ([1, 0, 2], 1.0)]


def test_what_was_said_goes_before_what_outcomes_imply(make):
    train = make.experience(np.eye(2), [[0.9, 0.1], [0.9, 0.1]])
    said = Comparisons.of(replace(train, comparisons=np.array([[0, 1, 0]])))
    assert said.rows.tolist() == [[0, 1, 0], [1, 0, 1]]


def test_too_many_comparisons_are_thinned_and_weigh_alike(make, monkeypatch):
    monkeypatch.setattr("policies._bradley_terry.COMPARISONS_MAX", 100)
    train, _ = battles(make, 400)
    thinned = Comparisons.of(train)
    assert len(thinned) == 100
    assert thinned.weight.sum() == pytest.approx(400)


def test_without_outcomes_the_scale_is_the_chance_to_win(make):
    train, _ = battles(make, 400)
    lonely = train.align((*train.endpoints, "never"))
    scores = Preference().fit(lonely).score(make.random(6, 1, width=4, seed=1).queries)
    assert scores.quality[:, 0].min() > scores.quality[:, 1].max() > scores.quality[:, 2].max()
    assert (scores.quality[:, 3] == 0.5).all()
    assert (scores.stddev[:, 3] == 0.5).all()
    assert (scores.stddev[:, :3] < 0.2).all()


def test_each_kind_of_query_has_its_own_best_endpoint():
    world = specialists(seed=1)
    train = world.experience(800, seed=2)
    queries, cluster = world.queries(300, seed=3)
    quality = Preference(penalty=1.0).fit(train).score(queries).quality
    average = BestOnAverage().fit(train).score(queries).quality
    assert world.regret(cluster, quality.argmax(axis=1)) < 0.1 * world.regret(cluster, average.argmax(axis=1))
    assert np.abs(quality - world.quality[cluster]).mean() < 0.1


def test_comparisons_and_no_outcome_find_the_best_endpoint_too():
    world = specialists(seed=1)
    train = world.experience(2000, seed=2)
    queries, cluster = world.queries(300, seed=3)
    compared = train.select(np.zeros(len(train), dtype=bool))
    scores = Preference(penalty=1.0).fit(compared).score(queries)
    assert world.regret(cluster, scores.quality.argmax(axis=1)) < 0.02


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Preference().fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(12):
        scores = Preference(penalty=1.0, scale_penalty=1.0).fit(world.experience(300, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_a_new_endpoint_is_placed_along_what_told_the_known_apart():
    world = specialists(seed=4)
    fitted = Preference(penalty=1.0).fit(world.experience(800, seed=5))
    queries, cluster = world.queries(300, seed=7)
    before = fitted.score(queries)
    probes = replace(world.experience(192, seed=6).align(world.endpoints[:1]), endpoints=("like the first",))
    after = fitted.partial_fit(replace(probes, comparisons=np.zeros((0, 3), dtype=np.int64))).score(queries)
    np.testing.assert_array_equal(after.quality[:, :-1], before.quality)
    new = after.quality[:, -1]
    assert new[cluster == 0].mean() > new[cluster != 0].mean() + 0.3
    assert after.stddev[:, -1].mean() > before.stddev[:, 0].mean(), "192 outcomes say less than 800"


def test_later_comparisons_move_the_chance_to_win(make):
    train, _ = battles(make, 300)
    upset = replace(train, comparisons=train.comparisons[:, [0, 2, 1]])
    asked = make.random(5, 1, width=4, seed=1).queries
    policy = Preference(penalty=1e12).fit(train)
    before = policy.win_probability(asked, "e0", "e2")
    after = policy.partial_fit(upset).win_probability(asked, "e0", "e2")
    assert before.min() > 0.7
    np.testing.assert_allclose(after, 0.5, atol=0.05)  # all was said and then its contrary


def test_a_belief_carried_over_is_nearly_a_refit(make):
    train, _ = battles(make, 2000, tilt=4.0)
    rows = train.comparisons[:, 0] < 1000
    early, late = (replace(train, comparisons=train.comparisons[part]) for part in (rows, ~rows))
    asked = make.random(50, 1, width=4, seed=1).queries
    carried = Preference(penalty=1.0).fit(early).partial_fit(late).win_probability(asked, "e0", "e2")
    refit = Preference(penalty=1.0).fit(train).win_probability(asked, "e0", "e2")
    np.testing.assert_allclose(carried, refit, atol=0.05)


@pytest.mark.parametrize("shape", [(1, 3), (20, 1), (1, 1)])
def test_one_query_and_one_endpoint_are_enough(make, shape):
    scores = Preference().fit(make.random(*shape)).score(make.random(4, 1, seed=1).queries)
    assert scores.quality.shape == (4, shape[1])
    scores.check(4)


def test_strangers_are_as_strong_as_the_average_is_believed(make):
    policy, asked = Preference().fit(battles(make, 50)[0]), make.random(5, 1, width=4).queries
    np.testing.assert_array_equal(policy.win_probability(asked, "x", "y"), np.full(5, 0.5))


def test_a_copy_shares_matrices_and_learns_alone(make):
    policy = Preference().fit(make.random(20, 2))
    twin = copy.deepcopy(policy)
    assert twin.model_ is policy.model_
    assert twin.partial_fit(make.random(5, 2, seed=1)).model_ is not policy.model_


def test_the_strongest_is_the_one_that_wins_on_the_mean_query(make):
    train, true = battles(make, 2000, tilt=3.0)
    policy = Preference(penalty=0.3).fit(train)
    strengths = policy.strengths()
    assert isinstance(policy, PredictsWins)
    by_strength = sorted(strengths, key=strengths.__getitem__)
    assert by_strength == [f"e{column}" for column in np.argsort(true.mean(axis=0))]
    mean = train.queries.embedding.mean(axis=0, keepdims=True)
    chance = policy.win_probability(replace(train.queries.take(slice(1)), embedding=mean), "e0", "e2")
    assert expit(strengths["e0"] - strengths["e2"]) == pytest.approx(chance[0], abs=1e-6)


def test_strengths_survive_a_save(make, tmp_path):
    policy = Preference().fit(battles(make, 100)[0])
    policy.save(tmp_path)
    assert Preference.load(tmp_path).strengths() == policy.strengths()
