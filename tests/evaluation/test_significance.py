import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.evaluation.metrics import Curve, hull, value_at
from router_gateway.evaluation.significance import at_cost, dial_within, mcnemar, sign_test

NAN = np.nan
answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def test_sign_test_by_hand():
    # 5 ahead, 1 behind: 2 * (1 + 6) / 64; ties and unknown ones do not count
    found = sign_test(np.array([0.1, 0.2, 0.3, 0.1, 0.5, -0.1, 0.0, NAN]))
    assert (found.ahead, found.behind) == (5, 1)
    assert found.p_value == pytest.approx(14 / 64)
    assert sign_test(np.full(10, -1.0)).p_value == pytest.approx(2 / 1024)
    assert sign_test(np.array([1.0, -1.0])).p_value == 1
    assert sign_test(np.array([0.0, NAN])).p_value == 1


@settings(deadline=None)
@given(st.integers(0, 80), st.integers(0, 80))
def test_the_p_value_is_the_exact_binomial_one(ahead, behind):
    found = sign_test(np.concatenate([np.ones(ahead), -np.ones(behind)]))
    trials = ahead + behind
    tail = sum(Fraction(math.comb(trials, k), 2**trials) for k in range(min(ahead, behind) + 1))
    assert found.p_value == pytest.approx(float(min(1, 2 * tail)), rel=1e-9)


def test_large_samples_neither_overflow_nor_vanish():
    found = sign_test(np.concatenate([np.ones(50_400), -np.ones(49_600)]))
    z = (400 - 0.5) / np.sqrt(25_000)  # 400 above the mean of Binomial(100,000, 1/2), continuity corrected
    assert found.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert sign_test(np.ones(100_000)).p_value < 1e-300


def test_mcnemar_by_hand():
    first = np.array([1, 1, 1, 1, 0, 0, 1], dtype=bool)
    second = np.array([0, 0, 0, 1, 1, 0, 1], dtype=bool)
    found = mcnemar(first, second)  # 3 to 1: 2 * (1 + 4) / 16
    assert (found.ahead, found.behind) == (3, 1)
    assert found.p_value == pytest.approx(10 / 16)
    with pytest.raises(ValueError, match="same queries"):
        mcnemar(first, second[:-1])


@settings(deadline=None)
@given(answers)
def test_mcnemar_is_symmetric_and_blind_to_what_both_share(pairs):
    first, second = np.array(pairs).T
    found, turned = mcnemar(first, second), mcnemar(second, first)
    assert (found.ahead, found.behind) == (turned.behind, turned.ahead)
    assert found.p_value == turned.p_value
    assert 0 < found.p_value <= 1
    differ = first != second
    assert mcnemar(first[differ], second[differ]) == found
    assert mcnemar(first, first).p_value == 1


def test_mcnemar_seldom_rejects_equals_and_finds_a_difference():
    rng = np.random.default_rng(0)
    right = rng.random((400, 2, 200)) < 0.7
    rejected = np.mean([mcnemar(*pair).p_value < 0.05 for pair in right])
    assert rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert mcnemar(rng.random(1000) < 0.8, rng.random(1000) < 0.7).p_value < 0.01


def test_at_cost_by_hand():
    # settings of mean (1, .25), (2, .25) and (4, 1): the middle one is not on the hull
    quality = np.array([[0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=np.float64)
    cost = np.array([[1, 1, 1, 1], [2, 2, 2, 2], [4, 4, 4, 4]], dtype=np.float64)
    assert at_cost(quality, cost, 1.0).tolist() == [0, 0, 0, 1]
    assert at_cost(quality, cost, 4.0).tolist() == [1, 1, 1, 1]
    assert at_cost(quality, cost, 99.0).tolist() == [1, 1, 1, 1]
    between = at_cost(quality, cost, 2.5, seed=3)  # half way: each of the first three draws 0 or 1
    assert between[3] == 1
    assert set(between.tolist()) <= {0, 1}
    assert at_cost(quality, cost, 2.5, seed=3).tolist() == between.tolist()
    with pytest.raises(ValueError, match="cheapest setting"):
        at_cost(quality, cost, 0.5)


def test_at_cost_has_the_hulls_quality_on_average():
    rng = np.random.default_rng(1)
    quality = (rng.random((5, 4000)) < np.array([[0.3], [0.5], [0.45], [0.7], [0.72]])).astype(np.float32)
    cost = rng.random((5, 4000)).astype(np.float32) * np.array([[1], [2], [3], [5], [9]], dtype=np.float32)
    means = Curve(cost_usd=cost.mean(axis=1), quality=quality.mean(axis=1))
    for usd in np.linspace(means.cost_usd.min() + 0.01, means.cost_usd.max(), 9):
        assert at_cost(quality, cost, usd).mean() == pytest.approx(float(value_at(hull(means), usd)), abs=0.03)


def test_a_router_does_not_differ_from_itself_at_matched_cost():
    rng = np.random.default_rng(2)
    quality, cost = rng.integers(0, 2, (4, 200)).astype(float), rng.random((4, 200)) * [[1], [2], [3], [4]]
    usd = float(np.median(cost.mean(axis=1)))
    same = [at_cost(table, money, usd) >= 0.5 for table, money in ((quality, cost), (quality.copy(), cost.copy()))]
    assert mcnemar(*same).p_value == 1


def test_the_dial_within_a_budget_is_the_dearest_and_of_those_the_best():
    curve = Curve(cost_usd=np.array([4.0, 2.0, 2.0, 1.0]), quality=np.array([0.9, 0.6, 0.7, 0.8]))
    assert dial_within(curve, 3.9) == 2
    assert dial_within(curve, 4.0 - 1e-12) == 0, "equal but for the last bits"
    assert dial_within(curve, 100.0) == 0
    assert dial_within(curve, 0.9) is None
