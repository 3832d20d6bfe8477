import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.money import cost_nusd, usd_to_nusd
from router_gateway.core.types import Attempt, Usage
from router_gateway.routing.cost import TokenPriceCost


@pytest.fixture(scope="session")
def pool(bench):
    return (
        bench.endpoint("a", price_input_usd_per_mtok=Decimal("0.15"), price_output_usd_per_mtok=Decimal("0.60")),
        bench.endpoint("b", price_input_usd_per_mtok=Decimal("3"), price_output_usd_per_mtok=Decimal("15")),
    )


def attempt(endpoint: str, usage: Usage | None, error: str | None = None) -> Attempt:
    return Attempt(
        query_id=UUID(int=0),
        number=1,
        at=datetime(2000, 1, 1, tzinfo=UTC),
        endpoint=endpoint,
        status=200,
        usage=usage,
        latency_ms=1.0,
        error=error,
    )


def test_by_hand(bench, pool):
    cost = TokenPriceCost(endpoints=pool, prior_output_tokens=300)
    expected = cost.expected_usd([bench.query(tokens_input=1_000), bench.query(tokens_input=0)])
    np.testing.assert_allclose(
        expected, [[1_000 * 0.15e-6 + 300 * 0.60e-6, 1_000 * 3e-6 + 300 * 15e-6], [300 * 0.60e-6, 300 * 15e-6]]
    )


def test_an_answer_cannot_outgrow_the_clients_limit(bench, pool):
    cost = TokenPriceCost(endpoints=pool, prior_output_tokens=300)
    limits = [100, 300, 5_000, None]
    expected = cost.expected_usd([bench.query(tokens_input=0, tokens_output_max=limit) for limit in limits])
    np.testing.assert_allclose(expected[:, 1], np.array([100, 300, 300, 300]) * 15e-6)


@given(st.lists(st.integers(0, 4_000), max_size=30), st.floats(0.5, 50))
def test_the_mean_is_the_priors_and_the_observations(bench, pool, observed, weight: float):
    cost = TokenPriceCost(endpoints=pool, prior_output_tokens=300, prior_weight=weight)
    for tokens in observed:
        cost.observe_output("b", tokens)
    expected = (weight * 300 + sum(observed)) / (weight + len(observed))
    assert cost.output_tokens.tolist() == pytest.approx([300, expected])


def test_many_calls_at_once_count_as_many(pool):
    one_by_one, at_once = TokenPriceCost(endpoints=pool), TokenPriceCost(endpoints=pool)
    for _ in range(40):
        one_by_one.observe_output("a", 50)
    at_once.observe_output("a", 50, calls=40)
    assert at_once.output_tokens == pytest.approx(one_by_one.output_tokens)


def test_past_the_bound_the_old_counts_less_and_less(pool):
    cost = TokenPriceCost(endpoints=pool, prior_output_tokens=100, prior_weight=1, observations_max=10)
    for _ in range(1_000):
        cost.observe_output("a", 100)
    cost.observe_output("a", 200)
    assert cost.output_tokens[0] == pytest.approx(110), "one call weighs a tenth however many went before"
    for _ in range(60):
        cost.observe_output("a", 200)
    assert cost.output_tokens[0] == pytest.approx(200, abs=1)


@given(st.lists(st.tuples(st.floats(0, 10_000), st.floats(0.1, 100_000)), max_size=20))
def test_the_mean_stays_among_what_was_seen(pool, observations):
    cost = TokenPriceCost(endpoints=pool, prior_output_tokens=300, observations_max=50)
    for tokens, calls in observations:
        cost.observe_output("a", tokens, calls=calls)
    seen = [300.0, *(tokens for tokens, _ in observations)]
    assert min(seen) - 1e-6 <= cost.output_tokens[0] <= max(seen) + 1e-6


def test_only_answered_calls_with_usage_teach(pool):
    cost = TokenPriceCost(endpoints=pool)
    cost.observe([attempt("a", None), attempt("a", Usage(tokens_output=9_000), error="upstream_timeout")])
    cost.observe([attempt("gone", Usage(tokens_output=9_000))])
    cost.observe_output("a", 9_000, calls=0)
    assert cost.output_tokens.tolist() == [300, 300]
    cost.observe([attempt("a", Usage(tokens_output=300, tokens_reasoning=600))])
    assert cost.output_tokens.tolist() == pytest.approx([400, 300]), "reasoning is output: (5·300 + 900) / 6"


def test_what_was_learned_survives_a_restart(bench, pool):
    cost = TokenPriceCost(endpoints=pool)
    cost.observe_output("b", 1_000, calls=7)
    state = json.loads(json.dumps(cost.state()))
    grown = TokenPriceCost(endpoints=(bench.endpoint("new"), *reversed(pool)))
    grown.restore({**state, "gone": [3.0, 5.0]})
    assert grown.output_tokens.tolist() == [300, cost.output_tokens[1], cost.output_tokens[0]]
    cost.observe_output("b", 10)
    grown.observe_output("b", 10)
    assert grown.output_tokens[1] == cost.output_tokens[1], "the count came along with the mean"


@given(st.integers(0, 100_000), st.integers(1, 10_000))
def test_the_expectation_is_what_such_a_call_is_billed(bench, pool, sent: int, answered: int):
    cost = TokenPriceCost(endpoints=pool, prior_output_tokens=answered)
    billed = [cost_nusd(Usage(tokens_input=sent, tokens_output=answered), endpoint) for endpoint in pool]
    expected = cost.expected_usd([bench.query(tokens_input=sent)])[0]
    assert [usd_to_nusd(usd) for usd in expected] == pytest.approx(billed, abs=1)


def test_no_queries(pool):
    assert TokenPriceCost(endpoints=pool).expected_usd([]).shape == (0, 2)
