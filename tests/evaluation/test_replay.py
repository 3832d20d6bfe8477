from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pytest

from router_gateway.core.body import Body
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Endpoint, NamedPolicy, Queries, Scores
from router_gateway.dispatch.usage import count_request_tokens
from router_gateway.evaluation import replay
from router_gateway.evaluation.replay import query_ids, query_of, route_offline
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.router import Router
from router_gateway.routing.rules import Greedy, InverseGap

NAMES = ("small", "large")


@dataclass
class FirstComponent:
    """Believes in `large` as far as the embedding's first component says; remembers the batch sizes it saw."""

    seen: list

    def score(self, queries: Queries) -> Scores:
        self.seen.append((len(queries), queries.tokens_input.tolist()))
        wish = np.clip(queries.embedding[:, 0], 0, 1)
        quality = np.column_stack([1 - wish, wish]).astype(np.float32)
        return Scores(endpoints=NAMES, quality=quality, stddev=np.zeros_like(quality))


def endpoint(name: str) -> Endpoint:
    price = Decimal(1)
    return Endpoint(
        name=name,
        model=name,
        price_input_usd_per_mtok=price,
        price_output_usd_per_mtok=price,
        price_cached_input_usd_per_mtok=price,
        price_cache_write_usd_per_mtok=price,
        context_tokens_max=100_000,
    )


@pytest.fixture
def policy():
    return FirstComponent(seen=[])


@pytest.fixture
def router_with(policy):
    def build(rule) -> Router:
        endpoints = tuple(endpoint(name) for name in NAMES)
        return Router(
            endpoints=endpoints,
            default_endpoint="small",
            live=lambda: NamedPolicy(name="first", version=1, policy=policy),
            cost=TokenPriceCost(endpoints=endpoints),
            rule=rule,
            space="test",
            worth_usd=1.0,
        )

    return build


@pytest.fixture
def embedding():
    return np.random.default_rng(0).random((40, 3)).astype(np.float32)


@pytest.fixture
def benchmark(benchmark_of):
    # the columns stand in another order than the router's endpoints
    return benchmark_of(np.ones((40, 2)), np.ones((40, 2)), endpoints=("large", "small"))


def test_chosen_are_positions_in_the_benchmarks_own_order(router_with, benchmark, embedding):
    found = route_offline(router_with(Greedy()), benchmark, embedding)
    assert np.array_equal(found.chosen, np.where(embedding[:, 0] > 0.5, 0, 1))
    assert [d.endpoint for d in found.decisions] == [benchmark.endpoints[i] for i in found.chosen]


def test_batches_do_not_matter_and_a_replay_can_be_repeated(router_with, benchmark, embedding, policy, monkeypatch):
    router = router_with(InverseGap(gamma=2))
    whole = route_offline(router, benchmark, embedding).chosen
    monkeypatch.setattr(replay, "_BATCH", 7)
    policy.seen.clear()
    assert np.array_equal(route_offline(router, benchmark, embedding).chosen, whole)
    assert [count for count, _ in policy.seen] == [7] * 5 + [5]
    other = route_offline(router, benchmark, embedding, ids=query_ids(benchmark, seed=1)).chosen
    assert not np.array_equal(other, whole)


def test_given_ids_reach_the_decisions(router_with, benchmark, embedding):
    ids = query_ids(benchmark, seed=9)
    assert (
        tuple(d.query_id for d in route_offline(router_with(Greedy()), benchmark, embedding, ids=ids).decisions) == ids
    )
    assert len(set(ids)) == 40
    assert {(i.version, i.variant) for i in ids} == {(8, "specified in RFC 4122")}
    assert not set(ids) & set(query_ids(benchmark))


def test_a_prompt_is_read_as_the_api_reads_it(router_with, benchmark_of, policy):
    prompts = ("How far is the moon?", "<system-reminder>long\0</system-reminder> and\ud800 now?")
    benchmark = benchmark_of(np.ones((2, 2)), np.ones((2, 2)), endpoints=NAMES, prompts=prompts)
    route_offline(router_with(Greedy()), benchmark, np.ones((2, 3), dtype=np.float32))
    bodies = [Body.of({"model": "auto", "messages": [{"role": "user", "content": prompt}]}) for prompt in prompts]
    assert policy.seen == [(2, [count_request_tokens(body) for body in bodies])]
    assert query_of(prompts[1], uuid7()).text == "and\ufffd now?"


def test_what_does_not_fit_is_refused(router_with, benchmark, embedding):
    router = router_with(Greedy())
    with pytest.raises(ValueError, match="39 embeddings"):
        route_offline(router, benchmark, embedding[:39])
    with pytest.raises(ValueError, match="no outcomes of small"):
        route_offline(router, benchmark.endpoints_subset(["large"]), embedding)
