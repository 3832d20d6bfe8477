"""Recorded outcomes as the gateway takes them up: texts as live ones, counts from costs."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from router_gateway import registry
from router_gateway.core.ids import uuid7
from router_gateway.core.money import cost_nusd, usd_to_nusd
from router_gateway.core.types import Endpoint, Usage
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.evaluation.fitting import embed_all, experience_of, with_texts, with_tokens
from router_gateway.evaluation.replay import query_of


def endpoint(price_input: str, price_output: str) -> Endpoint:
    return Endpoint(
        name="small",
        model="small",
        price_input_usd_per_mtok=Decimal(price_input),
        price_output_usd_per_mtok=Decimal(price_output),
        price_cached_input_usd_per_mtok=Decimal(price_input),
        price_cache_write_usd_per_mtok=Decimal(price_input),
        context_tokens_max=8_000,
    )


@pytest.fixture
def table_costing(benchmark_of):
    def table(cost_usd):
        made = replace(benchmark_of([[1.0]], [[cost_usd]]), endpoints=("small",))
        nothing = np.full((1, 1), np.nan)
        return replace(made, tokens_input=nothing, tokens_output=nothing)

    return table


@pytest.mark.parametrize(
    ("price_input", "price_output"),
    [("0.10", "0.10"), ("1.25", "10"), ("0.0375", "0.15"), ("0.0375", "0.0625"), ("0.0004", "0.0012"), ("0", "0.0005")],
)
@pytest.mark.parametrize(("sent", "said"), [(1, 0), (7, 333), (4_999, 1_001), (12, 2)])
def test_the_counts_found_price_to_the_cost_recorded(table_costing, price_input, price_output, sent, said):
    priced = endpoint(price_input, price_output)
    recorded_nusd = cost_nusd(Usage(tokens_input=sent, tokens_output=said), priced)
    found = with_tokens(table_costing(recorded_nusd / 1e9), [priced])
    usage = Usage(tokens_input=int(found.tokens_input.item()), tokens_output=int(found.tokens_output.item()))
    assert cost_nusd(usage, priced) == recorded_nusd == usd_to_nusd(recorded_nusd / 1e9)


def test_recorded_counts_are_kept(table_costing):
    counts = {"tokens_input": np.array([[3.0]]), "tokens_output": np.array([[4.0]])}
    found = with_tokens(replace(table_costing(0.5), **counts), [endpoint("1", "1")])
    assert (found.tokens_input.item(), found.tokens_output.item()) == (3, 4)


def test_what_is_learned_from_is_read_as_what_is_asked(benchmark_of):
    prompts = ("<system-reminder>noise</system-reminder>What is 2 + 2?", "word " * 2_000 + "and the question?")
    table = benchmark_of(np.ones((2, 1)), np.ones((2, 1)), prompts=prompts)
    embedder = HashingEmbedder()
    experience = experience_of(table, embed_all(embedder, table.prompts), embedder.space)
    live = [query_of(prompt, uuid7()) for prompt in prompts]
    assert experience.queries.text == tuple(query.text for query in live)
    assert experience.queries.tokens_input.tolist() == [query.tokens_input for query in live]
    np.testing.assert_array_equal(experience.queries.embedding, embedder.embed([query.text for query in live]))
    assert live[0].text == "What is 2 + 2?"


def test_texts_of_a_policy_are_read_as_queries_are():
    said = "<system-reminder>noise</system-reminder>What is 2 + 2?"
    route = {"name": "sums", "description": "arithmetic", "examples": [said]}
    policy = with_texts(registry.create("routes", {"routes": [route]}), HashingEmbedder)
    assert policy.texts_.text == ("arithmetic", said)
    np.testing.assert_array_equal(policy.texts_.embedding, HashingEmbedder().embed(["arithmetic", "What is 2 + 2?"]))


@pytest.mark.parametrize("name", ["routes", "knn"])
def test_no_embedder_is_asked_for_where_there_is_no_text(name):
    def embedder():
        raise AssertionError("loading an encoder takes seconds")

    with_texts(registry.create(name), embedder)
