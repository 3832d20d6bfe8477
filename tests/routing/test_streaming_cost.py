import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Attempt, Usage
from router_gateway.routing.streaming_cost import StreamingLengthCost

LONG, SHORT = "Write an essay about the sea.", "Answer in one word: capital of France?"


@pytest.fixture(scope="module")
def pool(bench):
    return (
        bench.endpoint("a", price_input_usd_per_mtok=Decimal("0.5"), price_output_usd_per_mtok=Decimal("1")),
        bench.endpoint("b", price_input_usd_per_mtok=Decimal("1"), price_output_usd_per_mtok=Decimal("10")),
    )


def asked(bench, text: str, number: int):
    return replace(bench.query(tokens_input=10), text=text, id=UUID(int=number))


def answered(number: int, endpoint: str, tokens: int, error: str | None = None) -> Attempt:
    return Attempt(
        query_id=UUID(int=number),
        number=1,
        at=datetime(2000, 1, 1, tzinfo=UTC),
        endpoint=endpoint,
        status=200,
        usage=Usage(tokens_input=10, tokens_output=tokens),
        latency_ms=1.0,
        error=error,
    )


def taught(bench, pool, *, calls: int = 200, endpoint: str = "a", **settings) -> StreamingLengthCost:
    """Essays take 1,000 tokens, single words 10; only `endpoint` is ever asked."""
    cost = StreamingLengthCost(endpoints=pool, **settings)
    for n in range(calls):
        cost.expected_usd([asked(bench, LONG if n % 2 else SHORT, n)])
        cost.observe([answered(n, endpoint, 1_000 if n % 2 else 10)])
    return cost


def prices(bench, cost) -> np.ndarray:
    return cost.expected_usd([asked(bench, LONG, 10_001), asked(bench, SHORT, 10_002)])


def test_before_any_call_every_answer_is_the_prior(bench, pool):
    cost = StreamingLengthCost(endpoints=pool, prior_output_tokens=300)
    np.testing.assert_allclose(prices(bench, cost), [[10 * 0.5e-6 + 300e-6, 10e-6 + 3_000e-6]] * 2)


def test_long_answers_are_told_from_short_ones(bench, pool):
    long, short = prices(bench, taught(bench, pool))[:, 0]
    assert long == pytest.approx(1_000e-6, rel=0.25)
    assert short == pytest.approx(15e-6, rel=0.4)


def test_an_endpoint_nobody_asked_borrows_the_shape(bench, pool):
    long, short = prices(bench, taught(bench, pool))[:, 1]
    assert long > 10 * short


def test_what_changed_is_followed(bench, pool):
    cost = taught(bench, pool)
    for n in range(1_000, 2_500):
        cost.expected_usd([asked(bench, LONG, n)])
        cost.observe([answered(n, "a", 2_000)])
    assert prices(bench, cost)[0, 0] == pytest.approx(2_000e-6, rel=0.1)


def test_failed_calls_and_unknown_queries_teach_nothing(bench, pool):
    cost = taught(bench, pool, calls=20)
    before = json.dumps(cost.state())
    cost.observe([answered(999_999, "a", 5), answered(3, "nobody", 5), answered(3, "a", 5, error="timeout")])
    assert json.dumps(cost.state()) == before


def test_new_prices_keep_what_was_learned(bench, pool):
    cost = taught(bench, pool)
    before = prices(bench, cost)
    half = tuple(
        replace(
            e,
            price_input_usd_per_mtok=e.price_input_usd_per_mtok / 2,
            price_output_usd_per_mtok=e.price_output_usd_per_mtok / 2,
        )
        for e in pool
    )
    cost.reprice(half)
    np.testing.assert_allclose(prices(bench, cost), before / 2)
    with pytest.raises(ValueError, match="same endpoints"):
        cost.reprice(half[::-1])


def test_the_clients_limit_bounds_the_answer(bench, pool):
    query = replace(asked(bench, LONG, 1), tokens_output_max=50)
    assert taught(bench, pool).expected_usd([query])[0, 0] == pytest.approx(10 * 0.5e-6 + 50e-6)


def test_a_batch_prices_as_its_rows(bench, pool):
    cost = taught(bench, pool)
    batch = prices(bench, cost)
    rows = [cost.expected_usd([asked(bench, text, n)])[0] for n, text in ((10_001, LONG), (10_002, SHORT))]
    np.testing.assert_array_equal(batch, rows)


def test_a_restart_changes_nothing(bench, pool):
    cost, again = taught(bench, pool), StreamingLengthCost(endpoints=pool)
    again.restore(json.loads(json.dumps(cost.state())))
    np.testing.assert_array_equal(prices(bench, again), prices(bench, cost))


def test_what_is_not_a_state_is_refused(bench, pool):
    cost = StreamingLengthCost(endpoints=pool)
    cost.restore({})  # of a process that had learned nothing
    for broken in ({"endpoints": {}}, {"features": ["other"], "endpoints": {}}):
        with pytest.raises(SnapshotMismatch):
            cost.restore(broken)


def test_memory_is_bounded(bench, pool):
    cost = taught(bench, pool, calls=50, remembered_max=10)
    before = json.dumps(cost.state())
    cost.observe([answered(0, "a", 5)])  # forgotten by now
    assert json.dumps(cost.state()) == before
