import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Decision
from router_gateway.routing.pacing import BudgetPacer
from router_gateway.routing.plans import PerRequest
from router_gateway.routing.rules import Greedy, InverseGap

NAMES = ("small", "middle", "large")
COST = np.array([0.001, 0.01, 0.1])


def decided(pacer: BudgetPacer, quality, cost_usd, t: int, eligible=(True, True, True)) -> Decision:
    """What a router with a greedy rule would decide at the pacer's dial."""
    pacer.catch_up()
    value = np.where(eligible, np.asarray(quality) - np.asarray(cost_usd) / pacer.worth_usd, -np.inf)
    return Decision(
        query_id=UUID(int=t),
        at=datetime(2000, 1, 1, tzinfo=UTC),
        endpoint=NAMES[int(value.argmax())],
        order=NAMES,
        propensity=1.0,
        endpoints=NAMES,
        quality=tuple(quality),
        stddev=(0.0, 0.0, 0.0),
        cost_usd=tuple(cost_usd),
        eligible=tuple(eligible),
        worth_usd=pacer.worth_usd,
        reason="scored",
    )


def traffic(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    quality = np.clip(rng.normal([0.5, 0.7, 0.8], 0.15, (count, 3)), 0, 1)
    return quality, COST * rng.lognormal(0.0, 0.5, (count, 3))


def run(pacer: BudgetPacer, count: int = 2_000, *, factor: float = 1.0, seed: int = 0):
    """Spend and quality per request when true costs are `factor` times those expected, with noise."""
    quality, cost = traffic(count, seed)
    noise = np.random.default_rng(seed + 1).lognormal(-0.125, 0.5, count)
    spent, earned = np.zeros(count), np.zeros(count)
    for t in range(count):
        decision = decided(pacer, quality[t], cost[t], t)
        chosen = NAMES.index(decision.endpoint)
        spent[t], earned[t] = cost[t, chosen] * factor * noise[t], quality[t, chosen]
        pacer.decided(decision)
        pacer.settled(decision, spent[t])
    return spent, earned


@pytest.mark.parametrize("usd", [0.004, 0.01, 0.03])
@pytest.mark.parametrize("factor", [1.0, 1.8, 0.6])
def test_spend_meets_the_budget_even_where_costs_are_misjudged(usd: float, factor: float):
    spent, _ = run(BudgetPacer(plan=PerRequest(usd=usd)), factor=factor)
    assert spent[200:].mean() == pytest.approx(usd, rel=0.03)


def test_a_larger_budget_buys_a_larger_dial_and_better_answers():
    pacers = [BudgetPacer(plan=PerRequest(usd=usd)) for usd in (0.003, 0.01, 0.03, 0.06)]
    earned = [run(pacer)[1].mean() for pacer in pacers]
    assert np.all(np.diff([pacer.worth_usd for pacer in pacers]) > 0)
    assert np.all(np.diff(earned) > 0)


def test_better_than_the_coin_flip_of_the_zero_router():
    usd = 0.02
    _, earned = run(BudgetPacer(plan=PerRequest(usd=usd)))
    quality, cost = traffic(2_000)
    share = (usd - cost[:, 1].mean()) / (cost[:, 2].mean() - cost[:, 1].mean())
    assert earned.mean() > (1 - share) * quality[:, 1].mean() + share * quality[:, 2].mean() + 0.02


def test_where_all_queries_are_alike_it_is_the_zero_router():
    pacer, picks, spent = BudgetPacer(plan=PerRequest(usd=0.05)), [], 0.0
    for t in range(3_000):
        decision = decided(pacer, [0.5, 0.7, 0.8], COST, t)
        picks.append(decision.endpoint)
        pacer.decided(decision)
        pacer.settled(decision, decision.cost_usd[NAMES.index(decision.endpoint)])
        spent += decision.cost_usd[NAMES.index(decision.endpoint)]
    assert spent / 3_000 == pytest.approx(0.05, rel=0.05)
    assert set(picks[300:]) == {"middle", "large"}  # the two ends of the hull's segment


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e3), st.floats(0, 1e6)), min_size=1, max_size=30),
    st.floats(1e-6, 1e3),
)
def test_the_dial_never_leaves_its_bounds(told, usd: float):
    pacer = BudgetPacer(plan=PerRequest(usd=usd), worth_usd=1.0, worth_low_usd=0.1, worth_high_usd=10.0)
    for t, (quality, cost, came_to) in enumerate(told):
        decision = decided(pacer, [quality, 0.5, 0.6], [cost, cost / 2, 0.0], t)
        pacer.decided(decision)
        pacer.settled(decision, came_to)
        assert 0.1 <= pacer.worth_usd <= 10.0
        assert 0.25 <= pacer.bias <= 4.0


@pytest.mark.parametrize("rule", [Greedy(), InverseGap(gamma=50)])
def test_more_worth_never_costs_less(rule):
    pacer = BudgetPacer(plan=PerRequest(usd=0.01), rule=rule)
    quality, cost = traffic(100)
    for t in range(100):
        pacer.decided(decided(pacer, quality[t], cost[t], t))
    spends = [pacer.spend_usd(worth) for worth in np.geomspace(1e-3, 1e2, 40)]
    if isinstance(rule, Greedy):
        assert np.all(np.diff(spends) >= 0)
    assert spends[0] < spends[-1]


def test_endpoints_that_were_not_eligible_count_for_nothing():
    pacer = BudgetPacer(plan=PerRequest(usd=0.05))
    for t in range(50):
        pacer.decided(decided(pacer, [0.5, 0.7, 0.99], COST, t, eligible=(True, True, False)))
    assert pacer.spend_usd(1e3) == pytest.approx(COST[1])


def test_past_requests_teach_the_traffic_and_cost_the_plan_nothing():
    pacer, fresh = BudgetPacer(plan=PerRequest(usd=0.01)), BudgetPacer(plan=PerRequest(usd=0.01))
    quality, cost = traffic(100)
    for t in range(100):
        decision = decided(pacer, quality[t], cost[t], t)
        pacer.decided(decision)
        fresh.recall(decision, 2.0 * decision.cost_usd[NAMES.index(decision.endpoint)])
    fresh.look()
    assert fresh.plan.account_usd(at_s=0.0) == (0.0, 0.0)
    assert fresh.bias == pytest.approx(1.9, abs=0.1)
    assert fresh.spend_usd(0.1) == pytest.approx(fresh.bias * pacer.spend_usd(0.1))


def doubtful(pacer: BudgetPacer, count: int, doubt: float, seed: int = 0) -> list[str]:
    """Picks where nobody has asked the large one, so that its doubt stays; a greedy rule with the pacer's optimism."""
    picks, rng = [], np.random.default_rng(seed)
    for t in range(count):
        quality = np.array([0.5, 0.8, 0.75]) + rng.normal(0.0, 0.002, 3)
        pacer.catch_up()
        stddev, steering = np.array([0.01, 0.01, doubt]), pacer.steering
        value = quality + steering.optimism * stddev - COST / steering.worth_usd
        decision = replace(
            decided(pacer, quality, COST, t),
            endpoint=NAMES[int(value.argmax())],
            quality=tuple(quality),
            stddev=tuple(stddev),
        )
        picks.append(decision.endpoint)
        pacer.decided(decision)
        pacer.settled(decision, COST[NAMES.index(decision.endpoint)])
    return picks


def test_money_that_buys_no_better_answer_buys_knowledge():
    plain = BudgetPacer(plan=PerRequest(usd=0.05), optimism=1.0)
    bold = BudgetPacer(plan=PerRequest(usd=0.05), optimism=1.0, optimism_max=4.0)
    doubt = 0.03  # a unit of optimism is not enough for the large one, four are
    assert doubtful(plain, 500, doubt).count("large") == 0
    share = doubtful(bold, 500, doubt).count("large") / 500
    assert share == pytest.approx((0.05 - 0.01) / (0.1 - 0.01), abs=0.1)


def test_a_restart_goes_on_as_if_nothing_had_happened():
    before, after = (BudgetPacer(plan=PerRequest(usd=0.01)) for _ in range(2))
    run(before, 300)
    after.restore(json.loads(json.dumps(before.state())))
    first, second = run(before, 100, seed=5), run(after, 100, seed=5)
    np.testing.assert_array_equal(first, second)
    assert before.worth_usd == after.worth_usd


def test_what_is_not_a_state_is_refused_and_changes_nothing():
    pacer = BudgetPacer(plan=PerRequest(usd=0.01))
    run(pacer, 50)
    kept = pacer.state()
    for broken in ({}, kept | {"worth_usd": -1.0}, kept | {"rows": [[[1.0], [1.0, 2.0], [1.0]]]}, kept | {"plan": {}}):
        with pytest.raises(SnapshotMismatch):
            pacer.restore(broken)
    assert pacer.state() == kept


def test_memory_is_bounded():
    pacer = BudgetPacer(plan=PerRequest(usd=0.01), window=32)
    run(pacer, 200)
    assert len(pacer.state()["rows"]) == 32


def test_settings_that_make_no_sense_are_named():
    with pytest.raises(ValueError, match="worth_low_usd"):
        BudgetPacer(plan=PerRequest(usd=1.0), worth_low_usd=2.0, worth_high_usd=1.0)
    with pytest.raises(ValueError, match="window"):
        BudgetPacer(plan=PerRequest(usd=1.0), window=0)
