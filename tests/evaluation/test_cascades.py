from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router_gateway.evaluation.cascades import Cascade, chosen, with_cascades
from router_gateway.evaluation.metrics import oracle_curve, value_at
from router_gateway.evaluation.splits import hash_order

ORDER = ("model-2", "model-0", "model-1")


def last(table):
    return table.quality[:, -1], table.cost_usd[:, -1]


@pytest.fixture
def made(benchmark_of):
    def build(seed=0, rows=300, endpoints=3, **more):
        rng = np.random.default_rng(seed)
        quality = rng.random((rows, endpoints)) < np.linspace(0.4, 0.9, endpoints)
        return benchmark_of(quality, rng.random((rows, endpoints)), **more)

    return build


def test_a_perfect_judge_stops_at_the_first_success_and_pays_for_every_call(made):
    table = made()
    quality, cost = last(with_cascades(table, [Cascade(order=ORDER)]))
    for i in range(len(table)):
        paid = 0.0
        for e in (2, 0, 1):
            paid += table.cost_usd[i, e]
            if table.quality[i, e] >= 1.0:
                break
        assert quality[i] == table.quality[i].max()
        assert cost[i] == pytest.approx(paid)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])  # a builder keeps nothing
@given(seed=st.integers(0, 10_000), error=st.sampled_from([0.0, 0.1, 0.3, 0.5]), bar=st.sampled_from([0.3, 0.7, 1.0]))
def test_an_outcome_is_one_endpoints_answer_at_the_cost_of_the_calls_before_it(seed, error, bar, benchmark_of):
    rng = np.random.default_rng(seed)
    table = benchmark_of(rng.random((40, 3)), rng.random((40, 3)), prompts=[f"{seed} {i}" for i in range(40)])
    quality, cost = last(with_cascades(table, [Cascade(order=ORDER, accept=bar, error=error)]))
    paid = np.cumsum(table.cost_usd[:, [2, 0, 1]], axis=1)
    stops = [
        [j for j in range(3) if np.isclose(cost[i], paid[i, j]) and quality[i] == table.quality[i, [2, 0, 1][j]]]
        for i in range(40)
    ]
    assert all(stops)


def test_no_cascade_lifts_the_oracle(made):
    table = made(seed=3)
    wider = with_cascades(table, [Cascade(order=ORDER, error=e) for e in (0.0, 0.2)])
    own = oracle_curve(table.quality, table.cost_usd)
    np.testing.assert_allclose(value_at(oracle_curve(wider.quality, wider.cost_usd), own.cost_usd), own.quality)


def test_an_error_of_a_half_is_a_coin(made):
    table = made(rows=4000, endpoints=2)
    quality, cost = last(with_cascades(table, [Cascade(order=("model-0", "model-1"), error=0.5)]))
    went_on = ~np.isclose(cost, table.cost_usd[:, 0])
    good = table.quality[:, 0] == 1.0
    assert went_on[good].mean() == pytest.approx(0.5, abs=0.03)
    assert went_on[~good].mean() == pytest.approx(0.5, abs=0.03)
    assert quality.mean() == pytest.approx(table.quality.mean(), abs=0.02)


def test_misreadings_follow_from_prompt_and_endpoint_and_grow_with_the_error(made):
    table = made(rows=2000, endpoints=2)
    perfect, some, many = (
        last(with_cascades(table, [Cascade(order=("model-0", "model-1"), error=e)]))[1] for e in (0.0, 0.1, 0.3)
    )
    assert (perfect != some).mean() == pytest.approx(0.1, abs=0.02)
    assert set(np.flatnonzero(perfect != some)) < set(np.flatnonzero(perfect != many))
    backwards = table.select(np.arange(len(table))[::-1])
    again = last(with_cascades(backwards, [Cascade(order=("model-0", "model-1"), error=0.1)]))[1]
    np.testing.assert_array_equal(again[::-1], some)


def test_free_calls_cost_nothing_and_tokens_and_waiting_add_up(made):
    table = made(rows=50)
    table = replace(
        table, cost_usd=np.zeros((50, 3)), tokens_output=np.ones((50, 3)), latency_ms=np.full((50, 3), 10.0)
    )
    wider = with_cascades(table, [Cascade(order=ORDER)])
    calls = wider.tokens_output[:, -1]
    assert (wider.cost_usd == 0).all()
    assert set(calls) == {1.0, 2.0, 3.0}
    np.testing.assert_array_equal(wider.latency_ms[:, -1], 10 * calls)


def test_what_a_call_would_have_brought_must_be_known(benchmark_of):
    table = benchmark_of([[0, np.nan], [1, np.nan], [np.nan, 1], [0, 1]], [[1, 2], [1, 2], [1, 2], [np.nan, 2]])
    quality, cost = last(with_cascades(table, [Cascade(order=("model-0", "model-1"))]))
    np.testing.assert_array_equal(quality, [np.nan, 1, np.nan, 1])
    np.testing.assert_array_equal(cost, [3, 1, 3, np.nan])


def test_the_answer_handed_out_is_the_last_one(made):
    table = made(rows=20)
    answers = np.array([[f"{i} by {e}" for e in range(3)] for i in range(20)], dtype=object)
    wider = with_cascades(replace(table, responses=answers), [Cascade(order=ORDER)])
    right = [next((e for e in (2, 0, 1) if table.quality[i, e] == 1), 1) for i in range(20)]
    assert wider.responses[:, -1].tolist() == [f"{i} by {e}" for i, e in enumerate(right)]


def test_names_say_order_judge_and_bar():
    assert Cascade(order=("a", "b")).name == "a>b@judge=perfect"
    assert Cascade(order=("a", "b"), error=0.1).name == "a>b@judge=0.1"
    assert Cascade(order=("a", "b"), accept=0.75).name == "a>b@judge=perfect,accept=0.75"
    for order, error in ((("a",), 0.0), (("a", "a"), 0.0), (("a", "b"), 0.6)):
        with pytest.raises(ValueError):
            Cascade(order=order, error=error)


def test_the_choice_sees_learnable_outcomes_alone(made):
    table = made(rows=400, endpoints=4)
    table = replace(table, cost_usd=table.cost_usd * [1, 2, 5, 20])
    learnable = np.zeros((400, 4), dtype=bool)
    learnable[:200] = True
    mine = chosen(table, learnable, count=3, error=0.1)
    others = replace(
        table,
        quality=np.where(learnable, table.quality, 1 - table.quality),
        cost_usd=np.where(learnable, table.cost_usd, 7.0),
    )
    assert mine == chosen(others, learnable, count=3, error=0.1)
    assert 1 <= len(mine) <= 3
    means = table.mean_cost_usd()
    for cascade in mine:
        costs = [means[table.endpoints.index(name)] for name in cascade.order]
        assert costs == sorted(costs)
    assert mine[:1] == chosen(table, learnable, count=1, error=0.1)


def test_a_coin_is_worth_no_cascade_and_one_endpoint_offers_none(made, benchmark_of):
    table = made(rows=3000, endpoints=2)
    table = replace(table, cost_usd=np.tile([1.0, 10.0], (3000, 1)))
    everything = np.ones((3000, 2), dtype=bool)
    assert chosen(table, everything, count=3, error=0.0)
    misread = hash_order(table.prompts, salt="judge model-0") < 0.5
    assert misread.mean() == pytest.approx(0.5, abs=0.03)
    assert not chosen(table, everything, count=3, error=0.5)
    alike = benchmark_of(np.ones((5, 2)), np.ones((5, 2)))
    assert not chosen(alike, np.ones((5, 2), dtype=bool), count=3, error=0.0)
