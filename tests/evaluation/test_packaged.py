import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import ConfigError, DataError
from router_gateway.core.money import usd_to_nusd
from router_gateway.evaluation.packaged import read_paretobandit, tokens_for_cost

# nano-dollars per token: input, output
LIST_PRICES = {"llama-3.1-8b-instruct": (100, 100), "mistral-large-2512": (500, 1500), "gemini-2.5-pro": (1250, 10000)}
counts = st.integers(0, 100_000)
prices = st.integers(0, 20_000)


def _absent() -> bool:
    return importlib.util.find_spec("pareto_bandit") is None


@pytest.mark.skipif(_absent(), reason="needs the demo extra")
@pytest.mark.parametrize(("part", "queries"), [("val", 1785), ("test_holdout", 1824)])
def test_reads_the_installed_package_without_importing_it(part, queries):
    imported_before = "pareto_bandit" in sys.modules
    benchmark = read_paretobandit(part)
    assert ("pareto_bandit" in sys.modules) == imported_before
    assert len(benchmark) == queries
    assert set(benchmark.endpoints) == set(LIST_PRICES)
    assert benchmark.complete().all()
    assert set(benchmark.splits) == {part}
    cheap, middle, dear = (benchmark.endpoints.index(name) for name in LIST_PRICES)
    cost = benchmark.mean_cost_usd()
    assert cost[cheap] < cost[middle] < cost[dear]


@pytest.mark.skipif(_absent(), reason="needs the demo extra")
@pytest.mark.parametrize("part", ["val", "test_holdout"])
def test_every_recorded_cost_is_exact_at_list_prices(part):
    benchmark = read_paretobandit(part)
    for column, name in enumerate(benchmark.endpoints):
        price_input, price_output = LIST_PRICES[name]
        for prompt, cost_usd in zip(benchmark.prompts, benchmark.cost_usd[:, column], strict=True):
            cost_nusd = usd_to_nusd(cost_usd)
            tokens = tokens_for_cost(cost_nusd, price_input, price_output, len(prompt) // 4)
            assert tokens.exact
            assert tokens.tokens_input * price_input + tokens.tokens_output * price_output == cost_nusd


def test_an_absent_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="paretobandit") as caught:
        read_paretobandit("val")
    assert caught.value.hint == "pip install 'router-gateway[demo]'"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """An installed package of the same layout, with lines of our own."""
    folder = tmp_path / "pareto_bandit" / "data" / "examples"
    folder.mkdir(parents=True)
    spec = ModuleSpec("pareto_bandit", None)
    spec.submodule_search_locations = [str(tmp_path / "pareto_bandit")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    def write(*rows):
        (folder / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def test_names_are_shortened_and_repeated_prompts_dropped(package):
    arms = {"a/b/tiny": {"reward": 1.0, "cost": 0.5}, "big": {"reward": 0.25, "cost": 2}}
    package({"prompt": "p", "source": "s", "arms": arms}, {"prompt": "p", "source": "s", "arms": arms})
    benchmark = read_paretobandit("val")
    assert benchmark.endpoints == ("tiny", "big")
    assert benchmark.quality.tolist() == [[1.0, 0.25]]
    np.testing.assert_array_equal(benchmark.cost_usd, [[0.5, 2]])
    assert benchmark.sample_ids == ("val-00001",)
    assert "dropped 1 of 2" in benchmark.notes[0]


def test_bad_lines_are_reported_together(package):
    package({"prompt": "p", "source": "s", "arms": {"m": {"reward": 7, "cost": -1}}}, {"prompt": "p", "arms": 3})
    with pytest.raises(DataError) as caught:
        read_paretobandit("val")
    assert caught.value.problems == (
        "val.jsonl:1: score: 7.0 is above 1",
        "val.jsonl:1: cost_usd: -1.0 is below 0",
        "val.jsonl:2: arms: must be an object of objects",
    )


@given(tokens_input=counts, tokens_output=counts, price_input=prices, price_output=prices, guess=counts)
def test_a_price_made_of_tokens_is_always_explained(tokens_input, tokens_output, price_input, price_output, guess):
    cost_nusd = tokens_input * price_input + tokens_output * price_output
    found = tokens_for_cost(cost_nusd, price_input, price_output, guess)
    assert found.exact
    assert found.tokens_input >= 0
    assert found.tokens_output >= 0
    assert found.tokens_input * price_input + found.tokens_output * price_output == cost_nusd
    if price_input and price_output:
        assert abs(found.tokens_input - guess) <= abs(tokens_input - guess)


@given(cost=st.integers(0, 400), price_input=st.integers(1, 30), price_output=st.integers(1, 30), guess=counts)
def test_other_prices_get_the_nearest_counts_and_say_so(cost, price_input, price_output, guess):
    found = tokens_for_cost(cost, price_input, price_output, guess)
    error = abs(found.tokens_input * price_input + found.tokens_output * price_output - cost)
    least = min(abs(i * price_input + o * price_output - cost) for i in range(432) for o in range(432 // price_output))
    assert error == least
    assert found.exact == (error == 0)


def test_hand_computed_counts():
    # 1250 i + 10000 o = 32500 nUSD: i is 2 modulo 8, so 10 is the nearest to 12
    found = tokens_for_cost(32_500, 1_250, 10_000, 12)
    assert (found.tokens_input, found.tokens_output, found.exact) == (10, 2, True)
    free = tokens_for_cost(0, 0, 0, 9)
    assert (free.tokens_input, free.tokens_output, free.exact) == (9, 0, True)
    with pytest.raises(ValueError, match="negative"):
        tokens_for_cost(-1, 1, 1, 1)
