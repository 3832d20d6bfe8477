"""Confidence sequences: by hand, and that they hold at every look at once."""

from math import exp, log, log1p, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.lifecycle.sequential import asymptotic, bounded, mixture

RUNS = 400
ALPHA = 0.05
MISSES_MAX = 34
"""Of 400 runs at 5 %: more than this has a chance below 0.1 %."""


def test_the_first_steps_of_a_bounded_sequence_by_hand():
    # L = 0.01, x = 1, 0. First: m_0 = 1/2, s²_0 = 1/4, w = sqrt(0.02 / (0.25 log 2)), psi = -log(1 - w) - w.
    first = sqrt(0.02 / (0.25 * log(2)))
    noise = 0.25 * (-log1p(-first) - first)
    # Second: m_1 = (1/2 + 1) / 2, s²_1 = (1/4 + (1 - 3/4)²) / 2
    second = sqrt(0.02 / ((0.25 + 0.0625) / 2 * 2 * log(3)))
    noise_after = noise + 0.75**2 * (-log1p(-second) - second)
    found = bounded(np.array([1.0, 0.0]), low=0, high=1, alpha=exp(-0.01))
    assert found.lower[0] == pytest.approx(1 - (0.01 + noise) / first)
    assert found.lower[0] == pytest.approx(0.9151, abs=1e-4)
    assert found.upper[0] == 1.0
    centre = first / (first + second)
    assert found.upper[1] == pytest.approx(min(1.0, centre + (0.01 + noise_after) / (first + second)))
    assert found.lower[1] == found.lower[0], "what was known is not unlearned"


def test_an_asymptotic_sequence_by_hand():
    # alpha = 0.05, best at 4: rho² 4 = -2 log 0.1 + log(-2 log 0.1) + 1
    spread = -2 * log(0.1)
    assert mixture(0.05) == pytest.approx(spread + log(spread) + 1)
    r = 4 / (spread + log(spread) + 1)
    found = asymptotic(np.array([3.0, 1.0, 2.0, 2.0]), alpha=0.05, first=4, best_at=4)
    radius = sqrt(2 * (2 / 3) * (4 + r) * log(1 + sqrt((4 + r) / r) / 0.1)) / 4  # sample variance 2/3
    assert (found.lower[3], found.upper[3]) == (pytest.approx(2 - radius), pytest.approx(2 + radius))
    assert np.isneginf(found.lower[:3]).all()
    assert np.isposinf(found.upper[:3]).all()


def draws(kind: str, rng: np.random.Generator, size: int) -> tuple[np.ndarray, float]:
    """Observations and their mean."""
    if kind == "coin":
        return (rng.random(size) < 0.3).astype(float), 0.3
    if kind == "rare":
        return (rng.random(size) < 0.01).astype(float), 0.01
    if kind == "beta":
        return rng.beta(0.3, 0.9, size), 0.25
    return np.ones(size), 1.0


@pytest.mark.parametrize("kind", ["coin", "rare", "beta", "constant"])
def test_a_bounded_sequence_is_left_at_any_look_in_no_more_runs_than_promised(kind):
    rng = np.random.default_rng(1)
    above = below = 0
    for _ in range(RUNS):
        values, mean = draws(kind, rng, 600)
        found = bounded(values, low=0, high=1, alpha=ALPHA)
        above += bool((found.lower > mean).any())
        below += bool((found.upper < mean).any())
    assert max(above, below) <= MISSES_MAX


@pytest.mark.parametrize("kind", ["normal", "exponential", "coin"])
def test_an_asymptotic_sequence_is_left_in_no_more_runs_than_promised(kind):
    rng = np.random.default_rng(2)
    above = below = 0
    for _ in range(RUNS):
        values = {"normal": rng.normal, "exponential": rng.standard_exponential}.get(kind, lambda size: None)(size=1500)
        if values is None:
            values = draws("coin", rng, 1500)[0]
        mean = {"normal": 0.0, "exponential": 1.0, "coin": 0.3}[kind]
        found = asymptotic(1e6 + values, alpha=ALPHA, first=50, best_at=500)
        above += bool((found.lower > 1e6 + mean).any())
        below += bool((found.upper < 1e6 + mean).any())
    assert max(above, below) <= MISSES_MAX


def test_an_ordinary_interval_looked_at_every_time_would_not_hold():
    """Otherwise the tests above could not fail."""
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(RUNS):
        values = draws("coin", rng, 600)[0]
        t = np.arange(1, 601)
        mean = np.cumsum(values) / t
        missed += bool((mean - 1.645 * np.sqrt(0.21 / t) > 0.3)[50:].any())
    assert missed > 2 * MISSES_MAX


@given(st.lists(st.floats(-1, 1), max_size=60), st.floats(1e-4, 0.4))
def test_bounds_only_narrow_and_stay_in_range(values, alpha):
    for found in (
        bounded(np.array(values), low=-1, high=1, alpha=alpha),
        asymptotic(np.array(values), alpha=alpha, first=5, best_at=20),
    ):
        assert len(found) == len(values)
        assert (np.diff(found.lower[4:]) >= 0).all()
        assert (np.diff(found.upper[4:]) <= 0).all()
    exact = bounded(np.array(values), low=-1, high=1, alpha=alpha)
    assert ((exact.lower >= -1) & (exact.upper <= 1)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.5, 20), st.floats(-5, 5))
def test_a_change_of_scale_changes_the_scale_alone(values, scale, shift):
    plain = bounded(np.array(values), low=0, high=1, alpha=0.1)
    moved = bounded(shift + scale * np.array(values), low=shift, high=shift + scale, alpha=0.1)
    np.testing.assert_allclose(moved.lower, shift + scale * plain.lower, atol=1e-6 * max(1, scale))
    np.testing.assert_allclose(moved.upper, shift + scale * plain.upper, atol=1e-6 * max(1, scale))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_mirror_image_has_mirrored_bounds(values):
    plain = bounded(np.array(values), low=0, high=1, alpha=0.1)
    mirrored = bounded(1 - np.array(values), low=0, high=1, alpha=0.1)
    np.testing.assert_allclose(mirrored.lower, 1 - plain.upper, atol=1e-9)


def test_less_error_allowed_means_wider_bounds():
    values = np.random.default_rng(4).random(200)
    strict, loose = (bounded(values, low=0, high=1, alpha=alpha) for alpha in (0.001, 0.1))
    assert (strict.lower <= loose.lower + 1e-12).all()
    assert strict.upper[-1] - strict.lower[-1] > loose.upper[-1] - loose.lower[-1]


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"low": 1.0}, {"high": 0.5}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"alpha must lie|outside"):
        bounded(np.array([0.7]), **{"low": 0.0, "high": 1.0, "alpha": 0.1, **wrong})


def test_an_empty_sequence_says_nothing():
    assert len(bounded(np.array([]), low=0, high=1, alpha=0.1)) == 0
    assert len(asymptotic(np.array([]), alpha=0.1, first=5, best_at=10)) == 0
