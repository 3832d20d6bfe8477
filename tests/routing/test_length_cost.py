import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Attempt, Usage
from router_gateway.routing.cost import TokenLengthCost, TokenPriceCost

TEXTS = ("Answer with the letter of the right option.", "Solve it step by step.")
LENGTH = (2, 400)  # tokens that endpoint "a" answers to each; "b" says twice as much


@pytest.fixture(scope="session")
def pool(bench):
    return (
        bench.endpoint("a", price_input_usd_per_mtok=Decimal("0.15"), price_output_usd_per_mtok=Decimal("0.60")),
        bench.endpoint("b", price_input_usd_per_mtok=Decimal("3"), price_output_usd_per_mtok=Decimal("15")),
    )


@pytest.fixture(scope="session")
def recorded(bench):
    """200 requests of two kinds with their answers' lengths (200, 2), spread by a quarter."""
    kind = np.arange(200) % 2
    queries = [bench.query(row, text=TEXTS[k], tokens_input=50 + row) for row, k in enumerate(kind)]
    noise = np.random.default_rng(0).normal(0, 0.25, (200, 2))
    return queries, np.array(LENGTH)[kind][:, None] * np.array([1.0, 2.0]) * np.exp(noise)


def attempt(row, endpoint, tokens, **changes):
    made = Attempt(
        query_id=UUID(int=row),
        number=1,
        at=datetime(2000, 1, 1, tzinfo=UTC),
        endpoint=endpoint,
        status=200,
        usage=Usage(tokens_output=tokens),
        latency_ms=1.0,
    )
    return replace(made, **changes)


def test_unfitted_it_is_the_constant_model(bench, pool):
    queries = [bench.query(tokens_input=1_000), bench.query(tokens_input=10, tokens_output_max=50)]
    constant, learned = TokenPriceCost(endpoints=pool), TokenLengthCost(endpoints=pool)
    np.testing.assert_allclose(learned.expected_usd(queries), constant.expected_usd(queries))
    assert learned.expected_usd([]).shape == (0, 2)


def test_a_request_is_priced_by_what_it_asks_for(bench, pool, recorded):
    cost = TokenLengthCost(endpoints=pool).fit(*recorded)
    expected = cost.expected_usd([bench.query(text=text, tokens_input=150) for text in TEXTS])
    tokens = (expected - 150 * np.array([0.15e-6, 3e-6])) / np.array([0.60e-6, 15e-6])
    np.testing.assert_allclose(tokens, [[2, 4], [400, 800]], rtol=0.2)


def test_its_mean_is_the_mean_of_what_was_recorded(pool, recorded):
    queries, tokens = recorded
    expected = TokenLengthCost(endpoints=pool).fit(queries, tokens).expected_usd(queries)
    sent = np.array([query.tokens_input for query in queries])[:, None] * np.array([0.15e-6, 3e-6])
    predicted = (expected - sent) / np.array([0.60e-6, 15e-6])
    np.testing.assert_allclose(predicted.mean(axis=0), tokens.mean(axis=0), rtol=0.05)


@given(
    text=st.text(max_size=100),
    tokens_input=st.integers(0, 10**6),
    limits=st.lists(st.integers(1, 5_000), min_size=2, max_size=6),
)
def test_a_price_is_positive_and_grows_with_the_limit(bench, pool, recorded, text, tokens_input, limits):
    cost = TokenLengthCost(endpoints=pool).fit(*recorded)
    ordered = [*sorted(limits), None]
    queries = [bench.query(text=text, tokens_input=tokens_input, tokens_output_max=limit) for limit in ordered]
    expected = cost.expected_usd(queries)
    assert (expected > 0).all()
    assert (np.diff(expected, axis=0) >= 0).all()
    assert (np.diff(cost.expected_usd([bench.query(tokens_input=n) for n in (10, 10_000)])[:, 1]) > 0).all()


def test_calls_correct_their_own_endpoint(bench, pool, recorded):
    queries, tokens = recorded
    cost = TokenLengthCost(endpoints=pool).fit(queries, tokens)
    before = cost.expected_usd(queries)
    for _ in range(30):
        cost.expected_usd(queries)
        cost.observe([attempt(row, "b", int(3 * tokens[row, 1])) for row in range(200)])
    assert cost.correction[0] == 1
    assert cost.correction[1] == pytest.approx(3, rel=0.1), "b has become three times as long-winded"
    np.testing.assert_array_equal(cost.expected_usd(queries)[:, 0], before[:, 0])


def test_other_traffic_than_in_training_needs_no_correction(bench, pool, recorded):
    """Short answers to requests for short answers are no news, though the mean falls."""
    queries, tokens = recorded
    cost, constant = TokenLengthCost(endpoints=pool).fit(queries, tokens), TokenPriceCost(endpoints=pool)
    short = range(0, 200, 2)
    for _ in range(10):
        cost.expected_usd(queries)
        calls = [attempt(row, "b", round(tokens[row, 1])) for row in short]
        cost.observe(calls)
        constant.observe(calls)
    assert cost.correction[1] == pytest.approx(1, abs=0.1)
    assert constant.output_tokens[1] < 10


def test_only_calls_it_priced_and_that_answered_teach(bench, pool, recorded):
    cost = TokenLengthCost(endpoints=pool).fit(*recorded)
    cost.expected_usd([bench.query(1), bench.query(2)])
    cost.observe(
        [
            attempt(1, "a", 9_000, usage=None),
            attempt(1, "a", 9_000, error="upstream_timeout"),
            attempt(1, "gone", 9_000),
            attempt(77, "a", 9_000),
        ]
    )
    assert cost.correction.tolist() == [1, 1]
    cost.observe([attempt(1, "a", 9_000)])
    assert cost.correction[0] > 1


def test_an_answer_cut_off_by_its_limit_is_not_taken_for_a_short_one(bench, pool, recorded):
    cost = TokenLengthCost(endpoints=pool).fit(*recorded)
    for _ in range(500):
        cost.expected_usd([bench.query(1, text=TEXTS[1], tokens_output_max=10)])
        cost.observe([attempt(1, "a", 10)])
    assert cost.correction[0] == pytest.approx(1)


def test_what_it_remembers_is_bounded(bench, pool):
    cost = TokenLengthCost(endpoints=pool, remembered_max=3)
    cost.expected_usd([bench.query(row) for row in range(10)])
    cost.observe([attempt(row, "a", 9_000) for row in range(7)])
    assert cost.correction[0] == 1, "forgotten calls teach nothing"
    cost.observe([attempt(9, "a", 9_000)])
    assert cost.correction[0] > 1


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_the_correction_stays_positive_and_finite(bench, pool, answered):
    cost = TokenLengthCost(endpoints=pool, observations_max=25)
    query = bench.query(1, tokens_output_max=0)
    for tokens in answered:
        cost.expected_usd([query])
        cost.observe([attempt(1, "a", tokens)])
    assert np.isfinite(cost.correction).all()
    assert (cost.correction > 0).all()


def test_what_was_learned_survives_a_restart(bench, pool, recorded):
    queries, tokens = recorded
    cost = TokenLengthCost(endpoints=pool).fit(queries, tokens)
    cost.expected_usd(queries)
    cost.observe([attempt(row, "b", 900) for row in range(50)])
    state = json.loads(json.dumps(cost.state()))
    grown = TokenLengthCost(endpoints=(*reversed(pool), bench.endpoint("new")))
    grown.restore(state)
    np.testing.assert_array_equal(grown.expected_usd(queries)[:, 1::-1], cost.expected_usd(queries))
    assert (grown.expected_usd(queries)[:, 2] > 0).all()
    assert grown.correction[2] == 1
    for model in (cost, grown):
        model.observe([attempt(3, "a", 70)])
    assert grown.correction[1] == cost.correction[0], "the counts came along"


@pytest.mark.parametrize("broken", [{}, {"lengths": {}, "seen": {}}, {"seen": {"a": [1]}}, {"seen": {"a": [1, 2, -3]}}])
def test_a_foreign_state_is_refused_and_changes_nothing(bench, pool, recorded, broken):
    queries, tokens = recorded
    cost = TokenLengthCost(endpoints=pool).fit(queries, tokens)
    before = cost.expected_usd(queries)
    with pytest.raises(SnapshotMismatch):
        cost.restore({**cost.state(), **broken} if "lengths" not in broken and broken else broken)
    np.testing.assert_array_equal(cost.expected_usd(queries), before)


def test_cells_nobody_recorded_are_left_out(pool, recorded):
    queries, tokens = recorded
    holes = tokens.copy()
    holes[50:, 1] = np.nan
    full, masked = (
        TokenLengthCost(endpoints=pool).fit(queries, table).expected_usd(queries) for table in (tokens, holes)
    )
    np.testing.assert_allclose(masked, full, rtol=0.3)
