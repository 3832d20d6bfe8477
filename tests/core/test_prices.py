"""Dated prices: which of them a call meets, in the books, in routing and in what budgets set aside."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from router_gateway.core.ids import uuid7
from router_gateway.core.money import cost_nusd
from router_gateway.core.prices import next_change, periods, priced_at
from router_gateway.core.types import Query, Usage
from router_gateway.dispatch.endpoints import EndpointSettings
from router_gateway.routing import cost as cost_module
from router_gateway.routing.bound import CostBound
from router_gateway.routing.cost import TokenPriceCost

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
JUNE = datetime(2030, 6, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
USAGE = Usage(tokens_input=10, tokens_cached_input=10, tokens_output=10)


def settings(**changes):
    given = {
        "name": "a",
        "model": "openai/a",
        "price_input_usd_per_mtok": 4,
        "price_output_usd_per_mtok": 8,
        "price_cached_input_usd_per_mtok": 1,
        "context_tokens_max": 1000,
        "price_changes": [  # in any order
            {"at": JUNE.isoformat(), "price_input_usd_per_mtok": 1, "price_output_usd_per_mtok": 1},
            {"at": "2030-01-01T00:00:00Z", "price_input_usd_per_mtok": 2, "price_output_usd_per_mtok": 6},
        ],
    }
    return EndpointSettings.model_validate(given | changes)


@pytest.mark.parametrize(
    ("instant", "expected_nusd"),
    [
        (NEW_YEAR - SECOND, 10 * 4_000 + 10 * 1_000 + 10 * 8_000),
        (NEW_YEAR, 20 * 2_000 + 10 * 6_000),  # inclusive; what a change does not name follows its input price
        (JUNE - SECOND, 20 * 2_000 + 10 * 6_000),
        (JUNE, 30 * 1_000),
        (JUNE + 1000 * SECOND, 30 * 1_000),
    ],
)
def test_a_call_costs_what_was_in_force_when_it_started(instant, expected_nusd):
    for built_at in (NEW_YEAR - SECOND, NEW_YEAR, JUNE):  # whenever the pool was built
        endpoint = settings().build(built_at)
        assert cost_nusd(USAGE, priced_at(endpoint, instant)) == expected_nusd


def test_the_pool_is_built_at_the_prices_of_the_moment():
    assert settings().build(JUNE).price_output_usd_per_mtok == 1
    assert settings().build(NEW_YEAR - SECOND).price_cached_input_usd_per_mtok == 1
    assert settings().build(NEW_YEAR).price_cached_input_usd_per_mtok == 2


def test_prices_without_dates_cost_no_look_at_a_table():
    endpoint = settings(price_changes=[]).build()
    assert endpoint.price_changes == ()
    assert priced_at(endpoint, JUNE) is endpoint
    assert next_change([endpoint], NEW_YEAR) is None
    assert periods(endpoint) == [(None, None, endpoint)]


def test_periods_cover_all_of_time():
    found = periods(settings().build(JUNE))
    assert [(since, until) for since, until, _ in found] == [(None, NEW_YEAR), (NEW_YEAR, JUNE), (JUNE, None)]
    assert [endpoint.price_input_usd_per_mtok for _, _, endpoint in found] == [4, 2, 1]


@pytest.mark.parametrize("at", ["2030-01-01T00:00:00", "2030-01-01", "tomorrow"])
def test_an_instant_says_its_timezone(at):
    change = {"at": at, "price_input_usd_per_mtok": 1, "price_output_usd_per_mtok": 1}
    with pytest.raises(ValidationError, match=r"price_changes\.0\.at"):
        settings(price_changes=[change])


def test_two_changes_at_one_instant_are_a_mistake():
    change = {"at": JUNE, "price_input_usd_per_mtok": 1, "price_output_usd_per_mtok": 1}
    with pytest.raises(ValidationError, match="same instant"):
        settings(price_changes=[change, change])


def test_routing_turns_to_the_new_prices_when_they_come(monkeypatch):
    now = [NEW_YEAR - SECOND]
    monkeypatch.setattr(cost_module, "_now", lambda: now[0])
    cost = TokenPriceCost(endpoints=(settings().build(now[0]),), prior_output_tokens=100)
    query = Query(id=uuid7(), text="x", tokens_input=100)
    found = []
    for instant in (NEW_YEAR - SECOND, NEW_YEAR, JUNE - SECOND, JUNE, JUNE + SECOND):
        now[0] = instant
        found.append(float(cost.expected_usd([query])[0, 0]) * 1e6)
    assert found == pytest.approx([1200, 800, 800, 200, 200])


def test_a_budget_sets_aside_the_dearest_price_that_a_call_can_meet():
    rising = settings(
        price_changes=[{"at": JUNE, "price_input_usd_per_mtok": 40, "price_output_usd_per_mtok": 80}], timeout_s=60
    ).build(NEW_YEAR)
    bound = CostBound(endpoints={"a": rising}, prompt_margin=1.0)
    query = Query(id=uuid7(), text="x", tokens_input=10, tokens_output_max=10)
    before, near = (bound.cost_nusd(["a"], query, now=JUNE - after) for after in (61 * SECOND, 60 * SECOND))
    assert before == 10 * 4_000 + 10 * 8_000
    assert near == bound.cost_nusd(["a"], query, now=JUNE) == 10 * before


def test_a_falling_price_sets_aside_the_present_one_until_then():
    bound = CostBound(endpoints={"a": settings().build(NEW_YEAR)}, prompt_margin=1.0)
    query = Query(id=uuid7(), text="x", tokens_input=10, tokens_output_max=10)
    assert bound.cost_nusd(["a"], query, now=JUNE - SECOND) == 10 * 2_000 + 10 * 6_000
    assert bound.cost_nusd(["a"], query, now=JUNE) == 10 * 1_000 + 10 * 1_000
    assert Decimal(2) == settings().build(NEW_YEAR).price_input_usd_per_mtok
