import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.evaluation.gains import (
    arena_score,
    cost_at_equal_quality,
    cost_save,
    endpoints_used,
    gain_over,
    gap_to_oracle,
    normalised_gain,
    perf_gain,
    quality_at_equal_cost,
    selection_entropy_bits,
    selection_shares,
)
from router_gateway.evaluation.metrics import Curve

NAN = np.nan
unit = st.floats(0, 1)
costs = st.floats(0, 1)
points = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=10)


def curve(pairs) -> Curve:
    cost, quality = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Curve(cost_usd=cost, quality=quality / 20)


def test_gains_over_a_reference_by_hand():
    # tasks: .6 over .5 is +20 %, .4 over .5 is -20 %, .9 over .6 is +50 %
    assert gain_over([0.6, 0.4, 0.9], [0.5, 0.5, 0.6]) == pytest.approx((0.2 - 0.2 + 0.5) / 3)
    # not the gain of the means: 1.9 / 1.6
    assert gain_over([0.6, 0.4, 0.9], [0.5, 0.5, 0.6]) != pytest.approx(1.9 / 1.6 - 1)
    assert gap_to_oracle([0.6, 0.9], [0.8, 0.9]) == pytest.approx((0.25 + 0) / 2)


def test_tasks_without_a_reference_are_left_out():
    assert gain_over([0.6, 0.4, NAN, 0.2], [0.5, 0.0, 0.5, NAN]) == pytest.approx(0.2)
    assert np.isnan(gain_over([0.6], [0.0]))
    assert np.isnan(gain_over([], []))
    with pytest.raises(ValueError, match="alike"):
        gain_over([0.6, 0.5], [0.5])


def test_normalised_gain_by_hand():
    # (.6 - .5) / (.9 - .5) is 25, (.8 - .4) / (.8 - .4) is 100; the third task's oracle is no better than random
    assert normalised_gain([0.6, 0.8, 0.3], [0.5, 0.4, 0.3], [0.9, 0.8, 0.3]) == pytest.approx(62.5)


@settings(deadline=None)
@given(st.lists(st.tuples(unit, unit, unit), min_size=1, max_size=6))
def test_normalised_gain_is_0_for_random_and_100_for_the_oracle(tasks):
    random, _, oracle = np.sort(np.array(tasks), axis=1).T
    oracle = oracle + 0.25
    assert normalised_gain(random, random, oracle) == pytest.approx(0)
    assert normalised_gain(oracle, random, oracle) == pytest.approx(100)


def test_perf_gain_and_cost_save_by_hand():
    router, best = curve([(1, 10), (4, 16), (9, 18)]), (0.8, 10.0)
    assert perf_gain(router, best) == pytest.approx(0.9 / 0.8 - 1)
    assert cost_save(router, best) == pytest.approx(0.6)
    # no mixture counts: .84 is reached at 9 as swept
    assert cost_save(router, (0.84, 10.0)) == pytest.approx(0.1)
    assert cost_save(router, (0.9, 6.0)) == pytest.approx(-0.5)
    assert np.isnan(cost_save(router, (0.95, 10.0)))
    assert perf_gain(router, (1.0, 10.0)) == pytest.approx(-0.1)
    assert np.isnan(perf_gain(router, (0.0, 10.0)))
    assert np.isnan(cost_save(router, (0.8, 0.0)))


def test_quality_at_equal_cost_and_cost_at_equal_quality_by_hand():
    router = curve([(1, 10), (5, 18), (3, 2)])
    assert quality_at_equal_cost(router, 3) == pytest.approx(0.7)
    assert quality_at_equal_cost(router, 50) == pytest.approx(0.9)
    assert np.isnan(quality_at_equal_cost(router, 0.5))
    assert cost_at_equal_quality(router, 0.8) == pytest.approx(4)
    assert cost_at_equal_quality(router, 0.2) == pytest.approx(1)
    assert cost_at_equal_quality(router, 0.91) == np.inf


@settings(deadline=None)
@given(points, st.integers(1, 20))
def test_cost_and_quality_undo_each_other_on_the_hull(pairs, level):
    router = curve(pairs)
    cost = cost_at_equal_quality(router, level / 20)
    if np.isfinite(cost):
        assert quality_at_equal_cost(router, cost + 1e-9) >= level / 20 - 1e-6
        saved = cost_save(router, (level / 20, 7.0))
        assert cost / 7.0 <= 1 - saved + 1e-9  # mixtures are never dearer
    else:
        assert level / 20 > max(q for _, q in pairs) / 20


def test_arena_score_by_hand():
    # C = 0.0044 USD per 1,000: C' = 1, S = 1.1 * .8 / (.08 + 1)
    assert arena_score(0.8, 0.0000044) == pytest.approx(0.88 / 1.08)
    # half way on the log scale: C = sqrt(200 * .0044), C' = .5, S = 1.1 * .8 * .5 / (.08 + .5)
    assert arena_score(0.8, np.sqrt(200 * 0.0044) / 1000) == pytest.approx(0.44 / 0.58)
    # out of range is the end of the range; both zero is zero
    assert arena_score(0.8, 0.0) == arena_score(0.8, 0.0000044)
    assert arena_score(np.array([0.8, 0.0]), np.array([9.0, 9.0])).tolist() == [0, 0]
    assert np.isnan(arena_score(NAN, 1e-4))
    assert np.isnan(arena_score(0.5, NAN))


@settings(deadline=None)
@given(unit, unit, costs, costs)
def test_arena_score_rises_with_quality_and_falls_with_cost(a, b, cheap, dear):
    worse, better = sorted((a, b))
    cheap, dear = sorted((cheap, dear))
    assert arena_score(worse, dear) <= arena_score(better, dear) + 1e-12
    assert arena_score(better, dear) <= arena_score(better, cheap) + 1e-12
    assert 0 <= arena_score(worse, cheap) <= 1 + 1e-12


def test_selection_by_hand():
    shares = selection_shares(np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], dtype=np.float32))
    assert shares.tolist() == [0.625, 0.375, 0]
    assert selection_entropy_bits(np.array([0.5, 0.25, 0.25, 0])) == pytest.approx(0.5 + 0.5 + 0.5)
    assert selection_entropy_bits(np.array([1.0, 0.0])) == 0
    assert endpoints_used(shares) == 2
    assert endpoints_used(shares, at_least=0.5) == 1
    with pytest.raises(ValueError, match="at least one query"):
        selection_shares(np.zeros((0, 3)))


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_entropy_lies_between_0_and_the_log_of_the_endpoints_used(counts):
    shares = np.array(counts) / sum(counts)
    entropy, used = selection_entropy_bits(shares), endpoints_used(shares)
    assert 0 <= entropy <= np.log2(used) + 1e-12
    assert (entropy == 0) == (used == 1)
    assert selection_entropy_bits(np.full(used, 1 / used)) == pytest.approx(np.log2(used))
