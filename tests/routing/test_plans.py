import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.routing.plans import PerPeriod, PerRequest

usd = st.floats(1e-6, 1e3)
spending = st.lists(st.tuples(usd, st.floats(-1e3, 1e3)), max_size=60)


def plans(budget_usd: float):
    return [PerRequest(usd=budget_usd, horizon=20), PerPeriod(usd=budget_usd, period_s=100, requests=50, bins=5)]


@given(usd, spending)
def test_an_allowance_stays_near_the_plans_own_rate(budget_usd: float, spent):
    plan = PerRequest(usd=budget_usd, horizon=20)
    for expected, difference in spent:
        plan.routed(expected, at_s=0.0)
        plan.settled(difference, at_s=0.0)
        assert budget_usd / 1.21 <= plan.allowance_usd(at_s=0.0) <= 1.21 * budget_usd


def test_what_was_saved_may_be_spent_and_what_was_overspent_is_made_good():
    thrifty, lavish = PerRequest(usd=1.0), PerRequest(usd=1.0)
    for _ in range(5):
        thrifty.routed(0.5, at_s=0.0)
        lavish.routed(0.5, at_s=0.0)
        lavish.settled(1.0, at_s=0.0)
    assert thrifty.allowance_usd(at_s=0.0) > 1.0 > lavish.allowance_usd(at_s=0.0)


def test_whoever_spends_the_allowance_meets_the_budget():
    plan, spent = PerRequest(usd=1.0), 0.0
    noise = np.random.default_rng(0).lognormal(sigma=1.5, size=5_000) / np.exp(1.5**2 / 2)
    for factor in noise:
        allowed = plan.allowance_usd(at_s=0.0)
        plan.routed(allowed, at_s=0.0)
        plan.settled(allowed * (factor - 1.0), at_s=0.0)
        spent += allowed * factor
    assert spent / len(noise) == pytest.approx(1.0, abs=0.02)


def test_a_year_of_thrift_is_no_licence_for_a_spree():
    plan = PerRequest(usd=1.0, horizon=10)
    for _ in range(100_000):
        plan.routed(0.0, at_s=0.0)
    allowances = []
    for _ in range(200):
        allowances.append(plan.allowance_usd(at_s=0.0))
        plan.routed(allowances[-1] * 2.0, at_s=0.0)
    assert allowances[-1] < 1.0


def diurnal(days: int, per_day: int, seed: int = 0) -> np.ndarray:
    """Arrival times in days: nothing at night, most at noon."""
    rng = np.random.default_rng(seed)
    return np.concatenate([d + np.sort(0.3 + 0.5 * rng.beta(2, 2, rng.poisson(per_day))) for d in range(days)])


def test_a_daily_budget_is_met_once_the_hours_are_known():
    plan, spent = PerPeriod(usd=10.0, period_s=1.0, requests=300), np.zeros(20)
    for at in diurnal(20, 500):
        allowed = plan.allowance_usd(at_s=at)
        plan.routed(allowed, at_s=at)
        spent[int(at)] += allowed
    np.testing.assert_allclose(spent[5:], 10.0, rtol=0.15)
    assert spent[5:].mean() == pytest.approx(10.0, rel=0.02)


def test_the_hours_of_the_day_are_learned():
    plan = PerPeriod(usd=10.0, period_s=1.0, requests=500)
    for at in diurnal(5, 500):
        plan.routed(0.0, at_s=at)
    assert plan.expected_requests(at_s=5.01) == pytest.approx(500, rel=0.15)
    assert plan.expected_requests(at_s=5.95) < 25


def test_a_period_that_nobody_used_is_forgotten():
    plan = PerPeriod(usd=10.0, period_s=1.0, requests=100, carry=0.1)
    plan.routed(0.0, at_s=0.5)
    plan.allowance_usd(at_s=1_000.5)
    assert plan.state()["left_usd"] == 10.0


@pytest.mark.parametrize("which", [0, 1])
def test_a_restart_changes_nothing(which: int):
    before, after = plans(1.0)[which], plans(1.0)[which]
    for i in range(130):
        before.routed(0.02 * (i % 7), at_s=i * 1.0)
    after.restore(json.loads(json.dumps(before.state())))
    for i in range(130, 260):
        assert after.allowance_usd(at_s=i * 1.0) == before.allowance_usd(at_s=i * 1.0)
        for plan in (before, after):
            plan.routed(0.03, at_s=i * 1.0)


@pytest.mark.parametrize("build", [lambda: PerRequest(usd=0.0), lambda: PerRequest(usd=1.0, horizon=0.5)])
def test_impossible_plans_are_refused_by_field(build):
    with pytest.raises(ValueError, match=r"usd|horizon"):
        build()


def test_periods_name_what_is_wrong():
    with pytest.raises(ValueError, match="period_s"):
        PerPeriod(usd=1.0, period_s=0.0)
    with pytest.raises(ValueError, match="carry"):
        PerPeriod(usd=1.0, carry=2.0)


def test_a_state_of_other_bins_is_refused():
    with pytest.raises(ValueError, match="bins"):
        PerPeriod(usd=1.0, bins=24).restore(PerPeriod(usd=1.0, bins=12).state())


def test_a_period_goes_on_where_a_ledger_says_that_it_stands():
    day, noon = np.array([0.0, 100.0, 300.0, 0.0]), 400 * 100.0 + 50.0
    plan = PerPeriod(usd=40.0, period_s=100.0, requests=7, bins=4)
    plan.resume(at_s=noon, past=[day, day], counts=np.array([0, 100, 0, 0]), spent_usd=15.0, spent_before_usd=41.0)
    assert plan.expected_requests(at_s=noon) == pytest.approx(300.0, rel=0.01)
    spent, planned = plan.account_usd(at_s=noon)
    assert spent == pytest.approx(15.0)
    assert planned == pytest.approx(39.0 / 4, rel=0.01), "the dollar overspent yesterday is taken off"
    assert plan.allowance_usd(at_s=noon) == pytest.approx(24.0 / 300.0, rel=0.01)


def test_what_other_processes_did_counts():
    plan = PerPeriod(usd=10.0, period_s=100.0, requests=100, bins=10)
    plan.resume(at_s=1e6, past=(), counts=np.zeros(10), spent_usd=0.0, spent_before_usd=None)
    before = plan.allowance_usd(at_s=1e6 + 50)
    plan.recount(at_s=1e6 + 50, counts=np.r_[np.full(5, 10.0), np.zeros(5)], spent_usd=8.0)
    assert plan.allowance_usd(at_s=1e6 + 50) < before
    assert plan.account_usd(at_s=1e6 + 50) == pytest.approx((8.0, 5.0))


def test_a_first_period_that_was_seen_in_part_is_taken_for_even_before():
    plan = PerPeriod(usd=10.0, period_s=100.0, requests=5, bins=10)
    plan.resume(at_s=1e6 + 50, past=(), counts=np.zeros(10), spent_usd=0.0, spent_before_usd=None)
    for second in range(50, 100):
        plan.routed(0.0, at_s=1e6 + second)
    assert plan.expected_requests(at_s=1e6 + 100) == pytest.approx(100.0, rel=0.1)


@given(usd, spending)
def test_a_plan_keeps_books(budget_usd: float, spent):
    plan = PerRequest(usd=budget_usd)
    for expected, difference in spent:
        plan.routed(expected, at_s=0.0)
        plan.settled(difference, at_s=0.0)
    total = sum(expected + difference for expected, difference in spent)
    assert plan.account_usd(at_s=0.0) == pytest.approx((total, budget_usd * len(spent)), abs=1e-6)
