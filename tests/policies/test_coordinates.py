import numpy as np
import pytest

from policies._coordinates import coordinates


@pytest.fixture
def believed():
    rng = np.random.default_rng(0)
    features, weight = rng.normal(size=(30, 4)), rng.random(3)
    half = rng.normal(size=(4, 4))
    return features, half @ half.T + np.eye(4), weight


@pytest.mark.parametrize("alike", [True, False])
def test_the_loss_bends_alike_in_every_direction(believed, alike):
    features, precision, weight = believed
    each = np.stack([precision * (1.0 if alike else 1.0 + e) for e in range(3)])
    steps = coordinates(features, each, weight)
    for e in range(3):
        turned = np.stack([steps.theta(row)[e] for row in np.eye(12)[4 * e : 4 * e + 4]])
        bend = turned @ (each[e] + weight[e] * features.T @ features) @ turned.T
        np.testing.assert_allclose(bend, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("alike", [True, False])
def test_values_and_gradients_are_those_of_the_steps(believed, alike):
    features, precision, weight = believed
    each = np.stack([precision * (1.0 if alike else 1.0 + e) for e in range(3)])
    steps, rng = coordinates(features, each, weight), np.random.default_rng(1)
    flat, slope = rng.normal(size=12), rng.normal(size=(30, 3))
    theta = steps.theta(flat)
    np.testing.assert_allclose(steps.strength(flat), features @ theta.T, atol=1e-5)  # single precision where shared
    held, held_slope = steps.held(flat)
    assert held == pytest.approx(sum(t @ p @ t for t, p in zip(theta, each, strict=True)) / 2)
    for i in range(12):
        ahead, behind = flat + 1e-6 * np.eye(12)[i], flat - 1e-6 * np.eye(12)[i]
        rise = (steps.held(ahead)[0] - steps.held(behind)[0]) / 2e-6
        assert held_slope[i] == pytest.approx(rise, abs=1e-6)
    assert steps.gathered(slope) @ flat == pytest.approx(np.vdot(slope, steps.strength(flat)), abs=1e-4)
