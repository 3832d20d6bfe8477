"""Prediction-powered means: what holds exactly, and what holds in 95 of 100 repetitions of a made-up world."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from router_gateway.evaluation.prediction_powered import best_power, mean

UNIT = st.floats(0, 1)


def columns(n, more):
    return st.tuples(*(st.lists(UNIT, min_size=k, max_size=k).map(np.array) for k in (n, n, more)))


@settings(max_examples=60, deadline=None)
@given(columns(7, 9))
def test_without_power_it_is_the_mean_of_the_labels(given_columns):
    truth, predicted, unlabelled = given_columns
    found = mean(truth, predicted, unlabelled, power=0.0)
    assert found.value == pytest.approx(truth.mean())
    plain = truth.std(ddof=1) / np.sqrt(len(truth))
    assert found.stderr >= plain - 1e-12
    assert found.low <= found.value <= found.high


@settings(max_examples=60, deadline=None)
@given(columns(7, 9), st.floats(-0.5, 0.5), st.floats(0, 1))
def test_a_constant_bias_of_the_predictions_changes_nothing(given_columns, bias, power):
    truth, predicted, unlabelled = given_columns
    straight = mean(truth, predicted, unlabelled, power=power)
    biased = mean(truth, predicted + bias, unlabelled + bias, power=power)
    assert biased.value == pytest.approx(straight.value, abs=1e-9)
    assert biased.stderr == pytest.approx(straight.stderr, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(columns(12, 9))
def test_the_tuned_power_is_a_share_and_the_interval_holds_the_value(given_columns):
    found = mean(*given_columns)
    assert 0.0 <= found.power <= 1.0
    assert 0.0 <= found.low <= max(found.value, 0.0)
    assert min(found.value, 1.0) <= found.high <= 1.0 or found.value > 1.0


def test_predictions_that_say_nothing_get_no_power():
    truth = np.array([0.0, 1.0] * 20)
    assert best_power(truth, np.full(40, 0.8), more=100) == 0.0
    assert best_power(truth, 1.0 - truth, more=100) == 0.0
    assert best_power(truth, truth, more=0) == 0.0
    assert best_power(truth, truth, more=10_000) == pytest.approx(1.0, abs=0.01)
    assert best_power(truth[:4], truth[:4], more=100) == 0.0  # too few to tell


def test_too_few_labels_make_no_estimate():
    assert mean(np.ones(1), np.ones(1), np.ones(50)) is None


def test_labels_that_agree_leave_doubt():
    found = mean(np.ones(20), np.ones(20), np.ones(500))
    assert found.value == 1.0
    assert found.low < 0.95
    assert found.high == 1.0


def test_a_difference_has_the_variances_of_both():
    rng = np.random.default_rng(1)
    one, other = (mean(rng.random(30), rng.random(30), rng.random(100), power=0.5) for _ in range(2))
    apart = one.minus(other)
    assert apart.value == pytest.approx(one.value - other.value)
    assert apart.stderr == pytest.approx(np.hypot(one.stderr, other.stderr))
    assert apart.high - apart.value == pytest.approx(t.ppf(0.975, apart.dof) * apart.stderr)
    assert (apart.labels, apart.predictions, apart.power) == (60, 200, None)


def world(rng, n, more, quality, *, noise):
    """Labels of 0 or 1, and a judge that is generous: it never goes below 0.3."""
    truth = (rng.random(n + more) < quality).astype(np.float64)
    judged = np.clip(0.3 + 0.6 * truth + rng.normal(0, noise, n + more), 0, 1)
    return truth[:n], judged[:n], judged[n:]


@pytest.mark.parametrize(("quality", "noise"), [(0.5, 0.1), (0.8, 0.3), (0.9, 0.1), (0.7, 2.0)])
def test_intervals_cover_and_are_narrower_where_the_judge_knows_something(quality, noise):
    covered, biases, widths, labels_widths = [], [], [], []
    for seed in range(400):
        drawn = world(np.random.default_rng((7, seed)), 40, 800, quality, noise=noise)
        found, alone = mean(*drawn), mean(*drawn, power=0.0)
        covered.append(found.low <= quality <= found.high)
        biases.append(found.value - quality)
        widths.append(found.high - found.low)
        labels_widths.append(alone.high - alone.low)
    # 92 % of 400 is 2.75 standard deviations below 95 %
    assert np.mean(covered) >= 0.92
    assert abs(np.mean(biases)) < 4 * np.std(biases) / np.sqrt(len(biases))
    ratio = np.mean(widths) / np.mean(labels_widths)
    assert ratio < (0.75 if noise < 0.2 else 0.9 if noise < 1 else 1.01)


def test_the_judges_alone_would_be_wrong():
    drawn = world(np.random.default_rng(3), 40, 4_000, 0.5, noise=0.1)
    assert drawn[2].mean() > 0.58  # where the truth is 1/2
    found = mean(*drawn)
    assert abs(found.value - 0.5) < 0.1
