import sqlite3
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.money import NUSD_PER_USD, cost_nusd, nusd_to_usd, usd_to_nusd
from router_gateway.core.types import Endpoint, Usage

prices = st.decimals(min_value=0, max_value=10_000, places=6)
counts = st.integers(0, 10**9)
usages = st.builds(
    Usage,
    tokens_input=counts,
    tokens_cached_input=counts,
    tokens_cache_write=counts,
    tokens_output=counts,
    tokens_reasoning=counts,
)


def priced(sent: str | Decimal, answered: str | Decimal, cached: str | Decimal = "0", written: str | Decimal = "0"):
    return Endpoint(
        name="e",
        model="e",
        price_input_usd_per_mtok=Decimal(sent),
        price_output_usd_per_mtok=Decimal(answered),
        price_cached_input_usd_per_mtok=Decimal(cached),
        price_cache_write_usd_per_mtok=Decimal(written),
        context_tokens_max=1_000,
    )


def half_up(exact: Fraction) -> int:
    return int(exact + Fraction(1, 2))


@given(usages, prices, prices, prices, prices)
def test_cost_is_the_exact_sum_rounded_half_up_once(usage: Usage, sent, answered, cached, written):
    exact_usd = (
        usage.tokens_input * Fraction(sent)
        + usage.tokens_cached_input * Fraction(cached)
        + usage.tokens_cache_write * Fraction(written)
        + (usage.tokens_output + usage.tokens_reasoning) * Fraction(answered)
    ) / 1_000_000
    assert cost_nusd(usage, priced(sent, answered, cached, written)) == half_up(exact_usd * NUSD_PER_USD)


def test_by_hand():
    usage = Usage(
        tokens_input=1_000, tokens_cached_input=200, tokens_cache_write=50, tokens_output=30, tokens_reasoning=20
    )
    endpoint = priced("2.50", "10", "0.25", "3.125")
    # 0.0025 + 0.00005 + 0.00015625 + 0.0005 USD
    assert cost_nusd(usage, endpoint) == 3_206_250


def test_rounding_happens_after_summing():
    third_of_a_nanodollar = "0.0003"
    assert cost_nusd(Usage(tokens_input=1), priced(third_of_a_nanodollar, "0")) == 0
    assert cost_nusd(Usage(tokens_input=1, tokens_output=1), priced(third_of_a_nanodollar, third_of_a_nanodollar)) == 1


@pytest.mark.parametrize(("price", "cost"), [("0.0005", 1), ("0.0004999", 0), ("0.0015", 2), ("0.0025", 3)])
def test_halves_go_up_not_to_even(price: str, cost: int):
    assert cost_nusd(Usage(tokens_input=1), priced(price, "0")) == cost


def test_the_cheapest_token_on_the_market_still_counts():
    assert cost_nusd(Usage(tokens_input=1), priced("0.01", "0")) == 10


@given(st.lists(st.integers(0, 10**12), max_size=50), st.randoms(use_true_random=False))
def test_a_database_sums_rows_as_we_do_in_any_order(rows: list[int], shuffler):
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    database = sqlite3.connect(":memory:")
    try:
        database.execute("CREATE TABLE calls (cost_nusd BIGINT)")
        database.executemany("INSERT INTO calls VALUES (?)", [(cost,) for cost in shuffled])
        assert database.execute("SELECT coalesce(sum(cost_nusd), 0) FROM calls").fetchone() == (sum(rows),)
    finally:
        database.close()


@given(st.decimals(min_value=-1_000_000, max_value=1_000_000, places=9))
def test_dollars_with_nine_decimals_convert_exactly(usd: Decimal):
    assert usd_to_nusd(usd) == Fraction(usd) * NUSD_PER_USD


@pytest.mark.parametrize(
    ("usd", "nusd"),
    [(0.1, 100_000_000), (0.3, 300_000_000), (5, 5_000_000_000), (1e-9, 1), (5e-10, 1), (4.9e-10, 0), (-5e-10, -1)],
)
def test_a_float_is_read_as_it_is_written(usd: float, nusd: int):
    assert usd_to_nusd(usd) == nusd


@given(st.integers(-(10**15), 10**15))
def test_a_million_dollars_survive_the_way_to_a_float_and_back(nusd: int):
    assert usd_to_nusd(nusd_to_usd(nusd)) == nusd
