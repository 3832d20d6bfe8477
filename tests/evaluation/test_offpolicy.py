"""Estimates from simulated logs whose truth is known: coverage, bias, and when there must be no figure."""

import numpy as np
import pytest

from router_gateway.evaluation.offpolicy import Log, estimate, overlap

ENDPOINTS = 3
TRUTH = np.array([[0.9, 0.6, 0.2], [0.3, 0.5, 0.8]])  # expected reward by kind of query and endpoint
BELIEVED = np.array([[0.8, 0.7, 0.1], [0.2, 0.7, 0.7]])  # an outcome model that is wrong
TARGET = np.array([[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]])


def softmax_mixed(truth, *, epsilon=0.3, sharpness=4.0):
    """A logger that mostly prefers good endpoints and now and then anything."""
    strength = np.exp(sharpness * truth)
    return (1 - epsilon) * strength / strength.sum(axis=1, keepdims=True) + epsilon / truth.shape[1]


def simulated(seed, *, clusters=400, size=2, rule=None, resamples=500):
    """(log, target, reward, model): binary rewards; the queries of one session are of one kind."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), size)
    kind = np.repeat(rng.integers(0, 2, clusters), size)
    probability = (softmax_mixed(TRUTH) if rule is None else rule)[kind]
    action = (rng.random((len(kind), 1)) > probability.cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(len(kind)) < TRUTH[kind, action]).astype(float)
    propensity = probability[np.arange(len(kind)), action]
    log = Log(
        action=action, propensity=propensity, probability=probability, cluster=cluster, resamples=resamples, seed=seed
    )
    return log, TARGET[kind], reward, BELIEVED[kind]


VALUE = float((TARGET * TRUTH).sum(axis=1).mean())


@pytest.fixture(scope="module")
def found():
    """Estimates of 600 logs: the share of intervals that cover then has a standard error below 1 %."""
    return [estimate(*simulated(seed)) for seed in range(600)]


@pytest.mark.parametrize("name", ["snips", "dr", "switch"])
def test_intervals_cover_the_truth(found, name):
    covered = np.mean([one[name].low <= VALUE <= one[name].high for one in found])
    assert covered >= 0.93


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "switch"])
def test_there_is_no_bias_to_be_seen(found, name):
    values = np.array([one[name].value for one in found])
    assert abs(values.mean() - VALUE) < 3 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize("bad", [0.0, 0.01, 0.03, 0.08])
def test_intervals_cover_where_rewards_are_nearly_all_alike(bad):
    """A rarely drawn endpoint that is almost always good: the bootstrap alone covers a third to four fifths of it."""

    def once(seed):
        rng = np.random.default_rng(seed)
        probability = np.tile([0.8, 0.2], (300, 1))
        action = (rng.random(300) < 0.2).astype(int)
        log = Log(
            action=action,
            propensity=probability[np.arange(300), action],
            probability=probability,
            cluster=np.arange(300),
            resamples=200,
            seed=seed,
        )
        reward = (rng.random(300) < np.where(action == 1, 1 - bad, 0.5)).astype(float)
        return log, np.tile([0.0, 1.0], (300, 1)), reward, np.tile([0.5, reward[action == 1].mean()], (300, 1))

    logs = [once(seed) for seed in range(300)]
    found = [estimate(*each, bounds=(0.0, 1.0)) for each in logs]
    for name in ("snips", "dr", "switch"):
        assert np.mean([one[name].low <= 1 - bad <= one[name].high for one in found]) >= 0.93
        assert min(one[name].high - one[name].low for one in found) > 0.02
    if bad == 0.01:
        alone = [estimate(*each)["snips"] for each in logs]
        assert np.mean([one.low <= 1 - bad <= one.high for one in alone]) < 0.6


def test_bounds_change_next_to_nothing_where_rewards_differ():
    log, target, reward, model = simulated(0)
    alone, bounded = estimate(log, target, reward, model), estimate(log, target, reward, model, bounds=(0.0, 1.0))
    for name, one in bounded.items():
        assert one.value == alone[name].value
        assert one.low <= alone[name].low < alone[name].high <= one.high
        assert one.high - one.low < 1.1 * (alone[name].high - alone[name].low)


def test_a_model_even_a_wrong_one_makes_the_interval_shorter(found):
    width = {name: np.mean([one[name].high - one[name].low for one in found]) for name in ("ips", "dr")}
    assert width["dr"] < 0.8 * width["ips"]


def test_sessions_are_resampled_whole():
    """Decisions that repeat each other carry no more information than one of them."""
    log, target, reward, model = simulated(0, size=1)
    copied = Log(
        action=np.repeat(log.action, 9),
        propensity=np.repeat(log.propensity, 9),
        probability=np.repeat(log.probability, 9, axis=0),
        cluster=np.repeat(log.cluster, 9),
        resamples=log.resamples,
    )
    once = estimate(log, target, reward, model)["dr"]
    often = estimate(copied, np.repeat(target, 9, 0), np.repeat(reward, 9), np.repeat(model, 9, 0))["dr"]
    assert often.value == pytest.approx(once.value)
    assert (often.high - often.low) == pytest.approx(once.high - once.low)
    assert overlap(copied, np.repeat(target, 9, 0)).ess == pytest.approx(overlap(log, target).ess)


def test_the_formulas_by_hand():
    """Two decisions, two endpoints: every figure on paper."""
    log = Log(
        action=np.array([0, 1]),
        propensity=np.array([0.5, 0.25]),
        probability=np.array([[0.5, 0.5], [0.75, 0.25]]),
        cluster=np.array([0, 1]),
        resamples=10,
    )
    target = np.array([[1.0, 0.0], [0.5, 0.5]])
    reward, model = np.array([1.0, 0.0]), np.array([[0.5, 0.2], [0.4, 0.6]])
    found = estimate(log, target, reward, model)  # weights 2 and 2
    assert found["ips"].value == pytest.approx((2 * 1 + 2 * 0) / 2)
    assert found["snips"].value == pytest.approx(0.5)
    assert found["dr"].value == pytest.approx(((0.5 + 2 * 0.5) + (0.5 + 2 * -0.6)) / 2)
    seen = overlap(log, target)
    assert (seen.ess, seen.weight_max, seen.weight_mean, seen.unsupported, seen.random) == (2, 2, 2, 0, 1)


def test_the_loggers_own_value_is_the_mean_of_what_happened():
    log, _, reward, model = simulated(1)
    own = estimate(log, log.probability, reward, model)
    assert own["ips"].value == pytest.approx(reward.mean())
    assert own["snips"].value == pytest.approx(reward.mean())
    assert overlap(log, log.probability).weight_mean == pytest.approx(1)


def test_switch_ignores_the_rare_huge_weight():
    rare = np.array([[0.002, 0.499, 0.499], [0.499, 0.499, 0.002]])
    logs = [simulated(seed, rule=rare, clusters=300, size=1, resamples=2) for seed in range(60)]
    found = [estimate(*each) for each in logs]
    error = {name: np.mean([(one[name].value - VALUE) ** 2 for one in found]) for name in ("dr", "switch")}
    assert error["switch"] < 0.5 * error["dr"]


def test_a_deterministic_logger_is_refused():
    always = np.eye(ENDPOINTS)[[0, 2]]
    log, target, _, _ = simulated(0, rule=always)
    assert overlap(log, target).refusal == "not identifiable: the logger was deterministic"
    assert overlap(log, log.probability).refusal == "not identifiable: the logger was deterministic"


def test_choices_that_were_never_logged_are_refused():
    without = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    log, target, _, _ = simulated(0, rule=without)
    seen = overlap(log, target)
    assert seen.unsupported == pytest.approx(target[:, 2].mean())
    assert "hardly ever or never logged" in seen.refusal
    assert seen.warning == "", "what was never logged is missing from the weights, not wrong with them"
    only_logged = np.tile([0.3, 0.7, 0.0], (len(log), 1))
    assert overlap(log, only_logged).refusal == ""


def test_a_handful_of_decisions_is_refused():
    log, target, _, _ = simulated(0, clusters=20, size=1)
    assert "fewer than 30" in overlap(log, target).refusal


def test_propensities_that_are_not_those_of_the_draws_are_told():
    log, target, reward, model = simulated(0)
    assert overlap(log, target).warning == ""
    corrupted = Log(
        action=log.action,
        propensity=np.full(len(log), 1 / ENDPOINTS),
        probability=np.full(log.probability.shape, 1 / ENDPOINTS),
        cluster=log.cluster,
        resamples=300,
    )
    assert estimate(corrupted, target, reward, model)["ips"].low > VALUE, "the harm is real"
    assert "mean weight" in overlap(corrupted, target).warning


def test_the_weights_of_good_logs_are_not_suspected():
    assert [overlap(*simulated(seed, resamples=1)[:2]).warning for seed in range(200)] == [""] * 200


def test_a_log_without_draws_is_no_log():
    with pytest.raises(ValueError, match="positive propensity"):
        Log(action=np.array([0]), propensity=np.array([0.0]), probability=np.array([[1.0, 0.0]]), cluster=np.array([0]))
