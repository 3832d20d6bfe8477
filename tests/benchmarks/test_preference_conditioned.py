"""The pure parts of the preference-conditioned comparison: its costs, its target, its losses, its sums."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch

from tests.benchmarks.conftest import BENCHMARKS


@pytest.fixture
def experiment(monkeypatch):
    """The module that trains the router: benchmarks/ is on the path only where it is asked for."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("preference_router")


@pytest.fixture
def comparison(experiment):
    """The module that compares it."""
    return importlib.import_module("preference_conditioned")


def test_costs_run_from_zero_to_one_and_are_zero_where_equal(experiment):
    assert experiment.unit_costs(np.array([3e-3, 1e-3, 2e-3])).tolist() == pytest.approx([1.0, 0.0, 0.5])
    assert experiment.unit_costs(np.array([2e-3, 2e-3])).tolist() == [0.0, 0.0]


def test_the_target_weighs_shares_of_the_best(experiment):
    """Cheap has 0.3 of 0.4, a share of 3/4: the dear one is worth w up to 1/4, not up to the difference of 0.1."""
    quality, cost = torch.tensor([[0.3, 0.4]]).repeat(4, 1), torch.tensor([0.0, 1.0])
    picked = experiment.imitated(quality, cost, torch.tensor([0.0, 0.2, 0.3, 2.0]))
    assert picked.tolist() == [1, 1, 0, 0]


def test_the_target_of_a_pool_without_quality_is_finite(experiment):
    assert experiment.imitated(torch.zeros(1, 2), torch.tensor([1.0, 0.0]), torch.tensor([1.0])).tolist() == [1]


def test_preferences_stay_within_bounds_and_log_ones_are_mostly_small(experiment):
    even, small = experiment.uniform(10_000), experiment.log_uniform(10_000)
    for drawn in (even, small):
        assert 0.0 <= drawn.min() <= drawn.max() <= experiment.PREFERENCE_MAX
    assert (even < 0.02).float().mean() < 0.03
    assert (small < 0.02).float().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("advantage", "pulled"), [(1.0, False), (-1.0, True)])
def test_a_choice_already_made_likelier_by_more_than_the_clip_is_pulled_back_only(experiment, advantage, pulled):
    now = torch.tensor([math.log(1.5)], requires_grad=True)
    experiment.clipped_loss(now, torch.zeros(1), torch.tensor([advantage])).backward()
    assert (now.grad.item() != 0.0) is pulled


def test_the_surrogate_is_the_policy_gradient_where_nothing_has_moved(experiment):
    now = torch.zeros(2, requires_grad=True)
    experiment.clipped_loss(now, torch.zeros(2), torch.tensor([1.0, -3.0])).backward()
    assert now.grad.tolist() == pytest.approx([-0.5, 1.5])


def test_divergence_is_that_of_normal_distributions(experiment):
    assert experiment.divergence(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0.0
    mean, log_sd = torch.tensor([0.7]), torch.tensor([-0.4])
    own = torch.distributions.Normal(mean, log_sd.exp())
    expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0))
    assert experiment.divergence(mean, log_sd).item() == pytest.approx(expected.item())


def test_the_order_of_the_endpoints_changes_nothing(experiment):
    torch.manual_seed(0)
    policy, order = experiment.Conditioned(8), torch.tensor([2, 0, 1])
    asked = experiment.Asked(
        embedding=torch.randn(5, 8),
        phat=torch.rand(5, 3),
        identity=torch.randn(3, experiment.IDENTITY),
        cost=torch.rand(3),
    )
    moved = experiment.Asked(
        embedding=asked.embedding, phat=asked.phat[:, order], identity=asked.identity[order], cost=asked.cost[order]
    )
    rows, preference = torch.arange(5), torch.rand(5)
    with torch.no_grad():
        found, again = (a.logits(policy, rows, preference) for a in (asked, moved))
    torch.testing.assert_close(again, found[:, order])


def test_tuning_learns_from_outcomes_what_the_estimate_does_not_say(experiment, monkeypatch):
    """Two endpoints equally dear and, to the estimate, equally good; in truth the sign of a coordinate decides."""
    monkeypatch.setattr(experiment, "BATCH", 128)
    monkeypatch.setattr(experiment, "ROLLOUTS", 40)
    monkeypatch.setattr(experiment, "TUNING_RATE", 1e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        embedding = torch.randn(400, 4)
        first = (embedding[:, 0] > 0).float()
        quality = torch.stack([first, 1 - first], dim=1)
        asked = experiment.Asked(
            embedding=embedding,
            phat=torch.full((400, 2), 0.5),
            identity=torch.randn(2, experiment.IDENTITY),
            cost=torch.zeros(2),
        )
        policy = experiment.Conditioned(4)
        unknown = torch.rand(400, 2) < 0.2
        unknown &= ~unknown.all(dim=1, keepdim=True)
        experiment.tune(policy, asked, torch.where(unknown, torch.nan, quality), experiment.uniform)
        [picked] = experiment.choose(policy, asked, np.array([1.0]))
    finally:
        torch.set_num_threads(threads)
    assert quality.numpy()[np.arange(400), picked].mean() > 0.9


def test_paired_differences_are_of_the_same_seed(comparison):
    seeds = [
        {name: {f: x + (0.1 if name == "tuned" else 0.0) for f in comparison.FIGURES} for name in comparison.ROUTERS}
        for x in (0.1, 0.5, 0.9)
    ]
    found = comparison.summed(seeds)
    assert found["routers"]["rule"]["gap_closed"]["sd"] == pytest.approx(0.4)
    difference = found["paired"]["tuned - rule"]["gap_closed"]
    assert difference["mean"] == pytest.approx(0.1)
    assert difference["sd"] == pytest.approx(0.0, abs=1e-9)
    assert difference["low"] == pytest.approx(difference["high"])
