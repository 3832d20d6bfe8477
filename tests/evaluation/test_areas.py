import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.evaluation.areas import (
    aiq_routerbench_code,
    area,
    area50,
    audc,
    best_single,
    cost_to_reach,
    pareto,
    peak,
    qnc,
    swept,
)
from router_gateway.evaluation.metrics import Curve, hull, value_at

levels = st.integers(0, 20)
costs = st.integers(1, 20)
points = st.lists(st.tuples(costs, levels), min_size=1, max_size=10)


def curve(pairs) -> Curve:
    cost, quality = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Curve(cost_usd=cost, quality=quality / 20)


def pairs_of(found: Curve) -> list[tuple[float, float]]:
    return list(zip(found.cost_usd.tolist(), found.quality.tolist(), strict=True))


def test_swept_and_pareto_by_hand():
    given_points = [(3, 8), (1, 4), (1, 6), (2, 5), (4, 12), (5, 12)]
    assert pairs_of(swept(curve(given_points))) == [(1, 0.3), (2, 0.25), (3, 0.4), (4, 0.6), (5, 0.6)]
    assert pairs_of(pareto(curve(given_points))) == [(1, 0.3), (3, 0.4), (4, 0.6)]
    nan = Curve(cost_usd=np.array([1.0, np.nan]), quality=np.array([np.nan, 0.5]))
    for needs_a_point in (swept, pareto, peak, best_single):
        with pytest.raises(ValueError, match="at least one point"):
            needs_a_point(nan)


@settings(deadline=None)
@given(points)
def test_pareto_points_are_those_that_nothing_beats(pairs):
    kept = pairs_of(pareto(curve(pairs)))
    every = pairs_of(curve(pairs))
    expected = {p for p in every if not any(o != p and o[0] <= p[0] and o[1] >= p[1] for o in every)}
    assert set(kept) == expected
    assert kept == sorted(kept)


def test_aiq_of_routerbenchs_code_by_hand():
    # X = 5. First router: from .4 to .8 on [1, 3] is 2 * .6, then .8 on [3, 5] is 2 * .8; nothing on [0, 1].
    # Second: a single point at X has no width.
    found = aiq_routerbench_code({"first": curve([(1, 8), (3, 16)]), "second": curve([(5, 18)])})
    assert found["first"] == pytest.approx((2 * 0.6 + 2 * 0.8) / 5)
    assert found["second"] == 0
    # Alone the first has X = 3: the value depends on the company.
    assert aiq_routerbench_code({"first": curve([(1, 8), (3, 16)])})["first"] == pytest.approx(2 * 0.6 / 3)
    # A dear point that gains nothing is not on the hull and does not move X.
    assert aiq_routerbench_code({"first": curve([(1, 8), (3, 16), (9, 16)])})["first"] == pytest.approx(2 * 0.6 / 3)
    assert np.isnan(aiq_routerbench_code({"free": curve([(0, 8)])})["free"])
    assert aiq_routerbench_code({}) == {}


@settings(deadline=None)
@given(points, points)
def test_aiq_of_routerbenchs_code_is_invariant_to_repeats_and_bounded(first, second):
    once = aiq_routerbench_code({"a": curve(first), "b": curve(second)})
    again = aiq_routerbench_code({"a": curve(first * 2), "b": curve(second[::-1])})
    assert again == pytest.approx(once)
    assert 0 <= once["a"] <= max(q for _, q in first) / 20 + 1e-12


def test_area_by_hand():
    endpoints = curve([(2, 4), (10, 16)])
    router = curve([(2, 8), (4, 12), (5, 6)])  # the last is beaten
    # u = .2 and .4: .4 before, rising to .6, then flat: .2 * .4 + .2 * .5 + .6 * .6
    assert area(router, endpoints) == pytest.approx(0.08 + 0.1 + 0.36)
    assert area50(router, endpoints) == pytest.approx(0.08 + 0.1 + 0.1 * 0.6)
    assert area(router, endpoints, share=0.3) == pytest.approx(0.08 + 0.1 * 0.45)
    assert np.isnan(area(router, curve([(0, 4)])))
    with pytest.raises(ValueError, match="share"):
        area(router, endpoints, share=0.0)


@settings(deadline=None)
@given(points, points)
def test_area_is_monotone_bounded_and_adds_up(router, endpoints):
    whole, half = area(curve(router), curve(endpoints)), area50(curve(router), curve(endpoints))
    worst, best = (f(q for _, q in router) / 20 for f in (min, max))
    assert 0.5 * worst - 1e-12 <= half <= 0.5 * best + 1e-12
    assert half - 1e-12 <= whole - half  # the dearer half is never worse
    more = area(curve([*router, (3, 20)]), curve(endpoints))
    assert more >= whole - 1e-12


def test_qnc_by_hand():
    endpoints = curve([(1, 8), (10, 16)])  # the best: .8 for 10
    assert qnc(curve([(2, 12), (6, 20)]), endpoints) == pytest.approx(4 / 10)  # .6 to 1 over 2..6: .8 at 4
    assert qnc(curve([(2, 18)]), endpoints) == pytest.approx(0.2)
    assert qnc(curve([(2, 15)]), endpoints) == np.inf
    assert qnc(endpoints, endpoints) == pytest.approx(1)
    assert np.isnan(qnc(curve([(2, 15)]), curve([(0, 8)])))
    # two endpoints equally good: the cheaper is the reference
    assert best_single(curve([(9, 16), (4, 16), (1, 2)])) == (0.8, 4)


@settings(deadline=None)
@given(points, points)
def test_qnc_is_positive_and_at_most_one_with_the_best_endpoint_among_the_points(router, endpoints):
    alone = qnc(curve(router), curve(endpoints))
    assert alone > 0
    assert np.isinf(alone) == (max(q for _, q in router) < max(q for _, q in endpoints))
    assert qnc(curve(router + endpoints), curve(endpoints)) <= 1 + 1e-12
    assert qnc(hull(curve(router)), curve(endpoints)) <= alone + 1e-12


def test_sums_in_another_order_still_reach_the_quality():
    best = curve([(4, 14)])
    nearly = Curve(cost_usd=best.cost_usd, quality=best.quality - 1e-12)
    assert qnc(nearly, best) == 1
    assert cost_to_reach(nearly, 0.71) == np.inf


def test_audc_by_hand():
    # Costs 1, 3, 5. The first: .2, .4, then its last point .4. The second, at 5 only: .9 everywhere.
    found = audc({"first": curve([(1, 4), (3, 8)]), "second": curve([(5, 18)])}, grid=3)
    assert found["first"] == pytest.approx((0.5 * 0.2 + 0.4 + 0.5 * 0.4) / 2)
    assert found["second"] == pytest.approx(0.9)
    # no hull: the dip at 3 counts
    assert audc({"dip": curve([(1, 8), (3, 4), (5, 16)])}, grid=3)["dip"] == pytest.approx((0.2 + 0.2 + 0.4) / 2)
    assert audc({"point": curve([(2, 4), (2, 6)])})["point"] == pytest.approx(0.3)
    assert audc({}) == {}
    with pytest.raises(ValueError, match="grid"):
        audc({"a": curve([(1, 1)])}, grid=1)


@settings(deadline=None)
@given(points, points, st.integers(2, 30))
def test_audc_is_the_trapezoid_on_the_common_grid(first, second, grid):
    found = audc({"a": curve(first), "b": curve(second)}, grid=grid)
    low, high = (f(c for c, _ in first + second) for f in (min, max))
    own = swept(curve(first))
    values = [float(value_at(own, c)) for c in np.linspace(low, high, grid)]
    mean_of_cells = np.mean([(a + b) / 2 for a, b in itertools.pairwise(values)])
    assert found["a"] == pytest.approx(values[0] if low == high else mean_of_cells)
    assert min(q for _, q in first) / 20 - 1e-12 <= found["a"] <= max(q for _, q in first) / 20 + 1e-12


def test_peak_by_hand():
    assert peak(curve([(1, 4), (7, 18), (5, 18), (9, 10)])) == (0.9, 5)
