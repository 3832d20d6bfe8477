import io
import json

import numpy as np
import pytest
from rich.console import Console

from router_gateway.evaluation.comparison import compare, table

NAMES = ["routed", "best_single", "cheapest", "random", "zero_router", "oracle"]


@pytest.fixture
def world(benchmark_of):
    """Half the queries are easy: the small model answers those as well as the large one, at a tenth of the cost."""
    rng = np.random.default_rng(0)
    count = 600
    easy = rng.random(count) < 0.5
    small = np.where(easy, rng.random(count) < 0.9, rng.random(count) < 0.2)
    large = rng.random(count) < 0.85
    cost = np.column_stack([rng.uniform(0.5, 1.5, count), rng.uniform(5, 15, count)]) / 1000
    return benchmark_of(np.column_stack([small, large]), cost, endpoints=("small", "large")), easy


def test_values_by_hand(benchmark_of):
    benchmark = benchmark_of([[1, 1], [0, 1], [0, 0], [1, 0]], [[1, 5], [1, 5], [1, 5], [1, 5]], endpoints=("s", "l"))
    found = compare(benchmark, [0, 1, 0, 0], best_single="l", resamples=50)
    rows = found.rows
    assert list(rows) == NAMES
    assert (rows["routed"].quality, rows["routed"].cost_usd) == (0.75, 2)
    assert (rows["best_single"].quality, rows["best_single"].cost_usd) == (0.5, 5)
    assert rows["best_single"].endpoint == "l"
    assert (rows["cheapest"].quality, rows["cheapest"].cost_usd, rows["cheapest"].endpoint) == (0.5, 1, "s")
    assert (rows["random"].quality, rows["random"].cost_usd) == (0.5, 3)
    # the dear endpoint is no better, so the zero router never buys it
    assert (rows["zero_router"].quality, rows["zero_router"].cost_usd) == (0.5, 1)
    assert (rows["oracle"].quality, rows["oracle"].cost_usd) == (0.75, 2)
    assert found.gain.value == 0.25
    assert found.cost_saved.value == pytest.approx(0.6)
    assert found.shares == (("s", 0.75), ("l", 0.25))


def test_zero_router_stands_at_the_routings_cost(benchmark_of):
    benchmark = benchmark_of([[0, 1], [0, 1]], [[1, 3], [1, 3]])
    found = compare(benchmark, [1, 0], best_single="model-1", resamples=20)
    assert found.rows["zero_router"].cost_usd == 2
    assert found.rows["zero_router"].quality == pytest.approx(0.5)
    assert found.gain.value == pytest.approx(0)


def test_a_router_that_knows_gains_and_the_interval_says_so(world):
    benchmark, easy = world
    found = compare(benchmark, np.where(easy, 0, 1), best_single="large")
    assert found.gain.low > 0
    assert found.gain.low < found.gain.value < found.gain.high
    assert found.cost_saved.low > 0.3
    for row in found.rows.values():
        assert row.quality_low <= row.quality <= row.quality_high
        assert row.cost_usd_low <= row.cost_usd <= row.cost_usd_high
    assert found.rows["oracle"].quality >= found.rows["routed"].quality


def test_a_coin_is_not_told_apart_from_the_zero_router(world):
    benchmark, _ = world
    coin = np.random.default_rng(5).integers(0, 2, len(benchmark))
    found = compare(benchmark, coin, best_single="large")
    assert found.gain.low < 0 < found.gain.high


def test_the_gain_is_paired(world):
    """Its interval is far narrower than that of two independent means."""
    benchmark, _ = world
    always = np.ones(len(benchmark), dtype=int)
    found = compare(benchmark, always, best_single="large")
    assert (found.quality_over_best_single.low, found.quality_over_best_single.high) == (0, 0)
    assert found.rows["routed"].quality_high > found.rows["routed"].quality_low
    assert found.gain.high - found.gain.low < 1e-9


def test_same_seed_same_numbers(world):
    benchmark, easy = world
    chosen = np.where(easy, 0, 1)
    once = compare(benchmark, chosen, best_single="large", resamples=100, seed=1)
    assert once == compare(benchmark, chosen, best_single="large", resamples=100, seed=1)
    assert once != compare(benchmark, chosen, best_single="large", resamples=100, seed=2)


def test_json_and_table(world):
    benchmark, easy = world
    found = compare(benchmark, np.where(easy, 0, 1), best_single="large", resamples=100)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(plain)[:6] == NAMES
    keys = {"quality", "quality_low", "quality_high", "cost_usd", "cost_usd_low", "cost_usd_high"}
    assert all(keys <= plain[name].keys() for name in NAMES)
    assert sum(plain["shares"].values()) == pytest.approx(1)
    console = Console(file=io.StringIO(), width=120)
    console.print(table(found, title="made up"))
    text = console.file.getvalue()
    assert "best single (large)" in text
    assert f"{found.rows['routed'].quality:.4f}" in text


@pytest.mark.parametrize(
    ("chosen", "best_single", "problem"),
    [
        ([0], "model-0", "do not fit"),
        ([0, 2], "model-0", "positions among 2"),
        ([0, -1], "model-0", "positions among 2"),
        ([0.0, 1.0], "model-0", "positions among 2"),
        ([0, 1], "nobody", "no endpoint 'nobody'"),
    ],
)
def test_choices_that_do_not_fit_are_refused(benchmark_of, chosen, best_single, problem):
    with pytest.raises(ValueError, match=problem):
        compare(benchmark_of(np.ones((2, 2)), np.ones((2, 2))), chosen, best_single=best_single)


def test_unknown_cells_are_refused_with_the_remedy(benchmark_of):
    benchmark = benchmark_of([[1, 1], [1, np.nan]], np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"1 queries lack .*benchmark\.complete"):
        compare(benchmark, [0, 0], best_single="model-0")
