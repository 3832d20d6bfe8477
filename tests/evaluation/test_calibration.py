import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.evaluation.calibration import (
    brier,
    coverage,
    nominal_coverage,
    reliability,
    single_answer_variance,
)

NAN = np.nan
cells = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


def columns(pairs):
    predicted, observed = np.array(pairs, dtype=np.float64).T
    return predicted, observed


def test_bins_of_equal_width_by_hand():
    predicted = np.array([[0.1, 0.2, 0.9], [1.0, 0.25, NAN]])
    observed = np.array([[0.0, 1.0, 1.0], [0.5, NAN, 1.0]])
    found = reliability(predicted, observed, bins=4)
    # [0, .25): .1 and .2 with outcomes 0 and 1; [.75, 1]: .9 and 1 with outcomes 1 and .5
    assert found.count.tolist() == [2, 2]
    assert found.predicted.tolist() == pytest.approx([0.15, 0.95])
    assert found.observed.tolist() == pytest.approx([0.5, 0.75])
    assert (found.low.tolist(), found.high.tolist()) == ([0.1, 0.9], [0.2, 1.0])
    assert found.ece == pytest.approx(0.5 * 0.35 + 0.5 * 0.2)
    assert brier(predicted, observed) == pytest.approx((0.1**2 + 0.8**2 + 0.1**2 + 0.5**2) / 4)


def test_bins_of_equal_mass_by_hand():
    predicted, observed = np.array([0.9, 0.1, 0.2, 0.3]), np.array([1.0, 0.0, 0.0, 1.0])
    found = reliability(predicted, observed, bins=2, by="mass")
    assert found.count.tolist() == [2, 2]
    assert found.predicted.tolist() == pytest.approx([0.15, 0.6])
    assert found.observed.tolist() == [0, 1]
    assert found.ece == pytest.approx(0.5 * 0.15 + 0.5 * 0.4)


@settings(deadline=None)
@given(cells, st.integers(1, 20), st.sampled_from(["width", "mass"]))
def test_bins_hold_every_cell_once_and_keep_the_means(pairs, bins, by):
    predicted, observed = columns(pairs)
    found = reliability(predicted, observed, bins=bins, by=by)
    assert found.count.sum() == len(pairs)
    assert len(found.count) <= bins
    assert (found.count @ found.predicted) / len(pairs) == pytest.approx(predicted.mean())
    assert (found.count @ found.observed) / len(pairs) == pytest.approx(observed.mean())
    assert (found.low <= found.predicted + 1e-12).all()
    assert (found.predicted <= found.high + 1e-12).all()
    assert (found.high[:-1] <= found.low[1:]).all()
    if by == "mass":
        assert found.count.max() - found.count.min() <= 1
    # at least the error of the whole, at most the mean error of the cells
    assert abs(predicted.mean() - observed.mean()) - 1e-12 <= found.ece <= np.abs(predicted - observed).mean() + 1e-12


@settings(deadline=None)
@given(cells)
def test_predicting_the_outcome_itself_is_perfect(pairs):
    _, observed = columns(pairs)
    assert reliability(observed, observed).ece == pytest.approx(0)
    assert brier(observed, observed) == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_no_constant_beats_the_mean_in_brier_score(outcomes, constant):
    observed = np.array(outcomes)
    assert (
        brier(np.full_like(observed, observed.mean()), observed)
        <= brier(np.full_like(observed, constant), observed) + 1e-12
    )


def test_a_calibrated_forecast_has_a_small_error_and_a_shifted_one_its_shift():
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.2, 0.7, 20_000)
    outcome = (rng.random(20_000) < expected).astype(float)
    assert reliability(expected, outcome, by="mass").ece < 0.02
    assert reliability(expected + 0.2, outcome, by="mass").ece == pytest.approx(0.2, abs=0.02)


def test_coverage_by_hand():
    predicted, stddev = np.array([0.5, 0.5, 0.5, NAN]), np.array([0.1, 0.1, 0.2, 0.1])
    observed = np.array([0.65, 0.71, 0.1, 0.5])  # 1.5, 2.1 and 2.0 standard deviations away
    assert coverage(predicted, stddev, observed, z=2.05) == pytest.approx(2 / 3)
    assert coverage(predicted, stddev, observed, z=1) == 0
    # .1² + .0125 is .15²: 1.5 → 1.0, 2.1 → 1.4; .2² + .0125 is .229²: 2.0 → 1.75
    assert coverage(predicted, stddev, observed, z=1.5, answer_variance=0.0125) == pytest.approx(2 / 3)
    assert single_answer_variance(np.array([0.5, 0.1, 1.0])).tolist() == pytest.approx([0.25, 0.09, 0.0])


def test_normal_doubt_covers_its_nominal_share():
    rng = np.random.default_rng(0)
    expected, stddev = rng.uniform(0.3, 0.7, 20_000), rng.uniform(0.01, 0.05, 20_000)
    predicted = expected + stddev * rng.normal(size=20_000)
    for z in (0.5, 1.0, 1.96):
        assert coverage(predicted, stddev, expected, z=z) == pytest.approx(nominal_coverage(z), abs=0.015)
    assert nominal_coverage(1.959963984540054) == pytest.approx(0.95)


@settings(deadline=None)
@given(cells, st.floats(0, 1), st.floats(0, 3), st.floats(0, 3))
def test_coverage_grows_with_z(pairs, doubt, first, second):
    predicted, observed = columns(pairs)
    stddev = np.full_like(predicted, doubt)
    low, high = sorted((first, second))
    assert coverage(predicted, stddev, observed, z=low) <= coverage(predicted, stddev, observed, z=high)


def test_nothing_known_is_nan():
    nothing = np.array([NAN])
    assert np.isnan(reliability(nothing, nothing).ece)
    assert np.isnan(brier(nothing, nothing))
    assert np.isnan(coverage(nothing, nothing, nothing))
    assert len(reliability(nothing, nothing, by="mass").count) == 0


def test_what_cannot_be_a_prediction_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        brier(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        reliability(np.array([1.2]), np.array([1.0]))
    with pytest.raises(ValueError, match="at least one bin"):
        reliability(np.array([0.2]), np.array([1.0]), bins=0)
