import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.evaluation.metrics import (
    Curve,
    aiq,
    endpoint_points,
    gap_closed,
    hull,
    oracle,
    oracle_curve,
    random_point,
    realised,
    value_at,
    zero_router,
)

# a grid keeps ties and collinear points common, and the arithmetic of the checks clean
levels = st.integers(0, 20)
points = st.lists(st.tuples(levels, levels), min_size=1, max_size=12)


def curve(pairs) -> Curve:
    cost, quality = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Curve(cost_usd=cost, quality=quality / 20)


def test_hull_by_hand():
    # (2, .5) lies under the segment from (1, .4) to (3, .8); (4, .7) is dearer and worse; (1, .2) costs the same
    found = hull(curve([(3, 16), (1, 8), (2, 10), (4, 14), (1, 4)]))
    assert found.cost_usd.tolist() == [1, 3]
    assert found.quality.tolist() == [0.4, 0.8]


def test_hull_of_one_point_and_of_none():
    assert hull(curve([(5, 10)])).cost_usd.tolist() == [5]
    nan = np.array([np.nan])
    with pytest.raises(ValueError, match="at least one point"):
        hull(Curve(cost_usd=nan, quality=nan))


def test_hull_passes_over_unknown_points():
    found = hull(Curve(cost_usd=np.array([1, np.nan, 2]), quality=np.array([0.5, 1.0, np.nan])))
    assert found.quality.tolist() == [0.5]


@settings(deadline=None)
@given(points)
def test_hull_is_increasing_concave_and_above_every_point(pairs):
    given_points, found = curve(pairs), hull(curve(pairs))
    assert (np.diff(found.cost_usd) > 0).all()
    assert (np.diff(found.quality) > 0).all()
    slopes = np.diff(found.quality) / np.diff(found.cost_usd)
    assert (np.diff(slopes) < 0).all()
    assert (value_at(found, given_points.cost_usd) >= given_points.quality - 1e-12).all()


@settings(deadline=None)
@given(points)
def test_hull_is_made_of_the_points_and_is_its_own_hull(pairs):
    found = hull(curve(pairs))
    given_points = set(zip(curve(pairs).cost_usd.tolist(), curve(pairs).quality.tolist(), strict=True))
    assert set(zip(found.cost_usd.tolist(), found.quality.tolist(), strict=True)) <= given_points
    again = hull(found)
    assert again.cost_usd.tolist() == found.cost_usd.tolist()


@settings(deadline=None)
@given(points)
def test_the_zero_router_is_at_least_as_good_as_every_single_endpoint(pairs):
    endpoints = curve(pairs)
    zero = zero_router(endpoints)
    assert (value_at(zero, endpoints.cost_usd) >= endpoints.quality - 1e-12).all()
    assert zero.quality[-1] == endpoints.quality.max()


def test_value_at_by_hand():
    found = value_at(curve([(1, 8), (3, 16)]), np.array([0.0, 1.0, 2.0, 3.0, 9.0]))
    assert found.tolist() == pytest.approx([0.4, 0.4, 0.6, 0.8, 0.8])
    assert np.isnan(value_at(curve([(1, 8)]), 0.5, left=np.nan))


def test_aiq_by_hand():
    endpoints = curve([(0, 8), (4, 16)])  # the zero router rises from .4 to .8
    assert aiq(endpoints, endpoints) == pytest.approx(0.6)
    # a single point at cost 1 of quality .8: .4 to .5 on [0, 1], then .8 on [1, 4]
    assert aiq(curve([(1, 16)]), endpoints) == pytest.approx((0.45 + 3 * 0.8) / 4)
    # dearer than every endpoint: nothing but the zero router inside the range
    assert aiq(curve([(9, 20)]), endpoints) == pytest.approx(0.6)
    # cheaper than every endpoint: flat at its quality
    assert aiq(curve([(0, 16)]), curve([(1, 8), (5, 16)])) == pytest.approx(0.8)


def test_aiq_of_endpoints_that_cost_the_same():
    endpoints = curve([(2, 8), (2, 12)])
    assert aiq(endpoints, endpoints) == pytest.approx(0.6)
    assert aiq(curve([(2, 18)]), endpoints) == pytest.approx(0.9)
    assert aiq(curve([(3, 18)]), endpoints) == pytest.approx(0.6)


@settings(deadline=None)
@given(points, points)
def test_aiq_does_not_change_when_points_are_repeated_or_shuffled(router, endpoints):
    once = aiq(curve(router), curve(endpoints))
    assert aiq(curve(router[::-1] * 2), curve(endpoints + endpoints[:1])) == pytest.approx(once)


@settings(deadline=None)
@given(points, points, st.tuples(levels, levels))
def test_aiq_stays_in_range(router, endpoints, another):
    value = aiq(curve(router), curve(endpoints))
    best = max(q for _, q in router + endpoints) / 20
    assert 0 <= value <= best + 1e-12


@settings(deadline=None)
@given(points)
def test_a_router_that_offers_the_endpoints_themselves_has_the_zero_routers_aiq(pairs):
    endpoints = curve(pairs)
    zero = zero_router(endpoints)
    grid = np.linspace(zero.cost_usd[0], zero.cost_usd[-1], 4001)
    expected = value_at(zero, grid).mean() if len(zero) > 1 else zero.quality[0]
    assert aiq(endpoints, endpoints) == pytest.approx(expected, abs=1e-3)


def test_endpoint_points_use_the_rows_where_both_are_known():
    nan = np.nan
    found = endpoint_points(np.array([[1, 0.5, nan], [0, nan, 1]]), np.array([[2.0, 4.0, 1.0], [4.0, 8.0, nan]]))
    assert found.cost_usd[:2].tolist() == [3, 4]
    assert found.quality[:2].tolist() == [0.5, 0.5]
    assert np.isnan(found.cost_usd[2])


def test_oracle_takes_the_best_then_the_cheapest_then_the_first():
    nan = np.nan
    quality = np.array([[1, 1, 0.5], [0, 0, 0], [nan, 0.2, 0.1], [0.7, 0.7, 0.7], [1, 1, 0]])
    cost = np.array([[3, 2, 1], [3, 2, 1], [0, 9, 1], [1, 1, 1], [nan, nan, 0]])
    assert oracle(quality, cost).tolist() == [1, 2, 1, 0, 0]
    with pytest.raises(ValueError, match="every row"):
        oracle(np.array([[nan, nan]]), np.array([[1.0, 1.0]]))


# outcomes of 1 to 3 queries on 1 to 3 endpoints, costs with many ties, a free endpoint among them
outcomes = st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
    lambda shape: st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


def tables(cells):
    table = np.array(cells, dtype=np.float64)
    return table[..., 0] / 4, table[..., 1]


@settings(deadline=None)
@given(outcomes)
def test_the_oracles_curve_is_the_hull_of_every_possible_choice(cells):
    quality, cost = tables(cells)
    choices = itertools.product(range(quality.shape[1]), repeat=len(quality))
    every = [realised(quality, cost, np.array(chosen)) for chosen in choices]
    expected = hull(
        Curve(
            cost_usd=np.array([c.cost_usd.mean() for c in every]), quality=np.array([c.quality.mean() for c in every])
        )
    )
    found = oracle_curve(quality, cost)
    at = np.concatenate([expected.cost_usd, found.cost_usd])
    assert value_at(found, at) == pytest.approx(value_at(expected, at))
    assert found.cost_usd[[0, -1]] == pytest.approx(expected.cost_usd[[0, -1]])


@settings(deadline=None)
@given(outcomes)
def test_the_oracles_curve_ends_at_the_oracle_and_closes_the_whole_gap(cells):
    quality, cost = tables(cells)
    found, best = oracle_curve(quality, cost), realised(quality, cost, oracle(quality, cost))
    assert found.quality[-1] == pytest.approx(best.quality.mean())
    assert found.cost_usd[-1] == pytest.approx(best.cost_usd.mean())
    singles = endpoint_points(quality, cost)
    one_point = Curve(cost_usd=best.cost_usd.mean()[None], quality=best.quality.mean()[None])
    assert aiq(found, singles) >= max(aiq(one_point, singles), aiq(singles, singles)) - 1e-12


def test_the_oracles_curve_by_hand():
    # Query 1: free 0, then .5 for 1 USD, then 1 for 4 USD more; query 2: .2 for 1 USD, 1 for 2 USD.
    quality, cost = np.array([[0.0, 0.5, 1.0], [0.2, 1.0, 0.9]]), np.array([[0.0, 1.0, 5.0], [1.0, 2.0, 8.0]])
    found = oracle_curve(quality, cost)
    # Start (0, 0) and (1, .2), mean (.5, .1). Steps by quality per USD: query 2 gains .8 for 1, query 1 gains
    # .5 for 1, then .5 for 4; each moves the mean by half.
    assert found.cost_usd == pytest.approx([0.5, 1.0, 1.5, 3.5])
    assert found.quality == pytest.approx([0.1, 0.5, 0.75, 1.0])


def test_the_oracles_curve_passes_over_unknown_cells():
    nan = np.nan
    found = oracle_curve(np.array([[0.5, 1.0, nan]]), np.array([[1.0, nan, 0.0]]))
    assert (found.cost_usd.tolist(), found.quality.tolist()) == ([1.0], [0.5])
    with pytest.raises(ValueError, match="every query"):
        oracle_curve(np.array([[0.5], [nan]]), np.ones((2, 1)))
    with pytest.raises(ValueError, match="at least one"):
        oracle_curve(np.zeros((0, 2)), np.zeros((0, 2)))


@settings(deadline=None)
@given(points, points, points)
def test_aiq_is_not_moved_by_points_below_the_hull(router, endpoints, below):
    own = curve(router)
    under = curve(below)
    under = Curve(cost_usd=under.cost_usd, quality=np.minimum(under.quality, value_at(hull(own), under.cost_usd)))
    under = Curve(cost_usd=np.maximum(under.cost_usd, own.cost_usd.min()), quality=under.quality)
    more = Curve(
        cost_usd=np.concatenate([own.cost_usd, under.cost_usd]), quality=np.concatenate([own.quality, under.quality])
    )
    assert aiq(more, curve(endpoints)) == pytest.approx(aiq(own, curve(endpoints)))


def test_gap_closed_by_hand():
    assert gap_closed(0.83, 0.81, 0.96) == pytest.approx(0.02 / 0.15)
    assert gap_closed(0.80, 0.81, 0.96) < 0
    assert np.isnan(gap_closed(0.9, 0.9, 0.9))


def test_realised_and_random_points():
    quality, cost = np.array([[1, 0], [0, 1]]), np.array([[1.0, 5.0], [2.0, 6.0]])
    found = realised(quality, cost, np.array([1, 0]))
    assert found.quality.tolist() == [0, 0]
    assert found.cost_usd.tolist() == [5, 2]
    middle = random_point(endpoint_points(quality, cost))
    assert (middle.quality[0], middle.cost_usd[0]) == (0.5, 3.5)


def test_curves_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="alike"):
        Curve(cost_usd=np.zeros(2), quality=np.zeros(3))


@pytest.mark.parametrize("queries", [3, 7, 49, 1000, 6170])
def test_the_oracle_of_equal_costs_is_above_the_best_single_however_the_costs_were_summed(queries):
    generator = np.random.default_rng(queries)
    quality = generator.random((queries, 7)).astype(np.float32)
    cost = np.full((queries, 7), 0.1)
    swept = oracle_curve(quality, cost)
    assert aiq(swept, endpoint_points(quality, cost)) == pytest.approx(quality.max(axis=1).mean(), abs=1e-6)
