from dataclasses import replace

import numpy as np
import pytest

from router_gateway.core.types import Decision
from router_gateway.routing.floor import Floor, zero_router
from router_gateway.routing.pacing import BudgetPacer
from router_gateway.routing.plans import PerRequest
from router_gateway.routing.steering import COIN_RULE
from router_gateway.routing.window import Mean
from tests.routing.test_pacing import COST, NAMES, decided

TRUTH = np.array([0.5, 0.8, 0.9])
MEANS = {name: Mean(q, 0.01, c) for name, q, c in zip(NAMES, TRUTH, COST, strict=True)}


def test_the_zero_router_spends_the_allowance_on_the_hull():
    pool = {"a": (0.0, 0.2), "b": (0.01, 0.7), "worse": (0.02, 0.6), "c": (0.1, 0.9)}
    assert zero_router(pool, 0.055) == pytest.approx({"b": 0.5, "c": 0.5})
    assert zero_router(pool, 0.005) == pytest.approx({"a": 0.5, "b": 0.5})
    assert zero_router(pool, 1.0) == {"c": 1.0}
    assert zero_router({"a": (0.1, 0.5), "b": (0.2, 0.9)}, 0.01) == {"a": 1.0}
    assert zero_router({}, 1.0) == {}


def play(floor: Floor | None, noise: float, count: int = 4_000, usd: float = 0.03) -> tuple[float, list[str]]:
    """Mean quality where the router believes noise about endpoints that answer every request alike."""
    rng, earned, rules = np.random.default_rng(3), [], []
    pacer = BudgetPacer(plan=PerRequest(usd=usd), floor=floor)
    for t in range(count):
        believed = TRUTH + noise * rng.normal(size=3)
        decision, coin = decided(pacer, believed, COST, t), pacer.steering.coin
        if coin is not None:
            value = np.array([float(name == decision.endpoint) for name in NAMES])
            chances = coin.mixed(NAMES, value, np.ones(3, dtype=bool))
            chosen = int(rng.choice(3, p=chances))
            decision = replace(decision, endpoint=NAMES[chosen], propensity=float(chances[chosen]), rule=COIN_RULE)
        chosen, quality = NAMES.index(decision.endpoint), 0.0
        pacer.decided(decision)
        pacer.settled(decision, COST[chosen])
        quality = float(rng.random() < TRUTH[chosen])
        pacer.rated(decision, quality)
        earned.append(quality)
        rules.append(decision.rule)
    return float(np.mean(earned)), rules


def test_where_the_router_believes_noise_the_coin_takes_over_and_brings_more():
    without, _ = play(None, noise=0.6)
    floor = Floor(alarm_outcomes=500.0)
    with_it, rules = play(floor, noise=0.6)
    zero = sum(
        chance * TRUTH[NAMES.index(n)]
        for n, chance in zero_router({n: (m[2], m[0]) for n, m in MEANS.items()}, 0.03).items()
    )
    assert without < zero - 0.05, "the winner's curse"
    assert floor.taken >= 1
    assert rules.count(COIN_RULE) > 1_500
    assert with_it > without + 0.02


def test_a_router_that_is_as_good_as_the_coin_keeps_its_say():
    floor = Floor(alarm_outcomes=50_000.0)
    _, rules = play(floor, noise=0.0)
    assert floor.taken == 0
    assert COIN_RULE not in rules


def scored(t: int) -> Decision:
    return decided(BudgetPacer(plan=PerRequest(usd=0.03)), TRUTH, COST, t)


def test_each_time_the_coin_stays_twice_as_long_and_the_router_is_tried_again():
    floor = Floor(alarm_outcomes=50.0, hold=10, hold_max=25)
    floor.traffic(MEANS, 0.03)
    stays = []
    for _ in range(3):
        t = 0
        while floor.coin is None:
            floor.rated(scored(t), 0.0)
            t += 1
        stay = 0
        while floor.coin is not None:
            floor.rated(scored(0), 0.0)  # says nothing of the router
            floor.decided()
            stay += 1
        stays.append(stay)
    assert stays == [10, 20, 25]


def test_endpoints_of_which_little_is_known_are_not_flipped_for():
    floor = Floor(alarm_outcomes=10.0)
    floor.traffic({name: mean._replace(stddev=0.3) for name, mean in MEANS.items()}, 0.03)
    for t in range(200):
        floor.rated(scored(t), 0.0)
    assert floor.coin is None


def test_its_state_survives():
    floor, other = Floor(alarm_outcomes=1e9), Floor(alarm_outcomes=1e9)
    floor.traffic(MEANS, 0.03)
    for t in range(20):
        floor.rated(scored(t), 0.3)
    other.restore(floor.state())
    assert other.state() == floor.state()
    with pytest.raises(ValueError, match="out of range"):
        other.restore(floor.state() | {"left": -1})
