from decimal import Decimal

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError, DataError
from router_gateway.core.types import Endpoint
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.prepared import EQUAL_COST_USD, load_tables, prepare
from router_gateway.routing.eligibility import candidates, eligible_endpoints

HASHING = Encoder(kind="hashing")


def endpoint(name: str, price_input: str = "1", price_output: str = "2", **more) -> Endpoint:
    fields = {
        "name": name,
        "model": name,
        "price_input_usd_per_mtok": Decimal(price_input),
        "price_output_usd_per_mtok": Decimal(price_output),
        "price_cached_input_usd_per_mtok": Decimal(0),
        "price_cache_write_usd_per_mtok": Decimal(0),
        "context_tokens_max": 100_000,
    }
    return Endpoint(**(fields | more))


def made_ready(benchmark, tmp_path, **more):
    return prepare("made", benchmark, encoder=HASHING, cache=tmp_path, **more)


def test_queries_and_vectors_are_those_of_the_gateway(benchmark_of, tmp_path):
    prepared = made_ready(benchmark_of([[0, 1]] * 4, [[1, 2]] * 4), tmp_path)
    assert [query.text for query in prepared.queries] == list(prepared.table.prompts)
    np.testing.assert_array_equal(prepared.embedding, HashingEmbedder().embed(prepared.table.prompts))
    assert prepared.space == HashingEmbedder().space
    assert prepared.priced
    assert [e.name for e in prepared.endpoints] == ["model-0", "model-1"]


def test_prompts_that_the_gateway_reads_alike_are_one_query(benchmark_of, tmp_path):
    prompts = ["same text", "same text", "  same text\n", "b", "c", "d"]
    prepared = made_ready(benchmark_of([[0, 1]] * 6, [[1, 2]] * 6, prompts=prompts), tmp_path)
    assert [query.text for query in prepared.queries] == ["same text", "b", "c", "d"]
    assert len(prepared.table.notes) == 2


def test_without_any_cost_all_calls_cost_the_same(benchmark_of, tmp_path):
    prepared = made_ready(benchmark_of([[0, 1], [1, np.nan], [1, 1], [0, 0]], np.full((4, 2), np.nan)), tmp_path)
    assert not prepared.priced
    np.testing.assert_array_equal(
        prepared.table.cost_usd, np.where(np.isfinite(prepared.table.quality), EQUAL_COST_USD, np.nan)
    )
    assert "no costs are recorded" in prepared.table.notes[0]


def test_equal_costs_are_known_for_what_they_are(benchmark_of, tmp_path):
    prepared = made_ready(benchmark_of([[0, 1]] * 4, np.full((4, 2), 0.0017)), tmp_path)
    assert not prepared.priced
    assert "all recorded costs are equal" in prepared.table.notes[0]


def test_a_missing_cost_is_the_endpoints_mean(benchmark_of, tmp_path):
    cost = [[1.0, 5.0], [3.0, np.nan], [np.nan, 7.0], [2.0, 6.0]]
    prepared = made_ready(benchmark_of([[0, 1]] * 4, cost), tmp_path)
    np.testing.assert_allclose(prepared.table.cost_usd, [[1, 5], [3, 6], [2, 7], [2, 6]])
    assert prepared.table.notes == ("2 calls without a cost are taken at their endpoint's mean",)


def test_an_endpoint_without_any_cost_is_left_out_beside_priced_ones(benchmark_of, tmp_path):
    cost = [[1.0, np.nan, 2.0]] * 4
    prepared = made_ready(benchmark_of([[0, 1, 1]] * 4, cost), tmp_path)
    assert prepared.table.endpoints == ("model-0", "model-2")
    assert "model-1" in prepared.table.notes[0]


def test_own_prices_are_tokens_times_price(benchmark_of, tmp_path):
    quality, cost = [[0, 1, 1]] * 4, [[9.0, 9.0, 9.0]] * 4
    tokens = {"tokens_input": np.full((4, 3), 1000.0), "tokens_output": np.full((4, 3), 500.0)}
    tokens["tokens_output"][:, 1] = np.nan
    pool = (endpoint("mine", model="model-2"), endpoint("model-1"), endpoint("elsewhere"))
    prepared = made_ready(benchmark_of(quality, cost, **tokens), tmp_path, pool=pool)
    assert prepared.table.endpoints == ("mine", "model-1")
    assert [e.name for e in prepared.endpoints] == ["mine", "model-1"]
    # 1,000 tokens at 1 USD and 500 at 2 USD per million; the other keeps what was recorded
    np.testing.assert_allclose(prepared.table.cost_usd, [[0.002, 9.0]] * 4)
    assert prepared.table.notes == ("costs as recorded, because no tokens are: model-1",)


def test_a_pool_that_shares_nothing_is_told_what_there_is(benchmark_of, tmp_path):
    with pytest.raises(DataError, match="none of the configured endpoints"):
        made_ready(benchmark_of([[0, 1]] * 4, [[1, 2]] * 4), tmp_path, pool=(endpoint("elsewhere"),))


@pytest.mark.parametrize("shape", [(4, 1), (3, 2)])
def test_less_than_two_endpoints_or_four_queries_is_too_little(benchmark_of, tmp_path, shape):
    with pytest.raises(DataError, match="endpoints"):
        made_ready(benchmark_of(np.zeros(shape), np.ones(shape)), tmp_path)


def test_a_query_may_only_go_where_an_answer_is_known(benchmark_of, tmp_path):
    quality = [[0, np.nan, 1], [0, 1, 1], [np.nan, np.nan, 1], [1, 1, np.nan]]
    names = ["a", "b*", "b"]  # a name may look like a pattern
    prepared = made_ready(benchmark_of(quality, np.ones((4, 3)) * [1, 2, 3], endpoints=names), tmp_path)
    rows, columns = np.arange(4), np.arange(3)
    asked = prepared.asked(rows, columns)
    allowed = candidates(eligible_endpoints(asked, prepared.endpoints), asked)
    np.testing.assert_array_equal(allowed, np.isfinite(quality))


def test_the_fingerprint_tells_sets_apart(benchmark_of, tmp_path):
    quality = np.array([[0.0, 1.0]] * 4)
    one = made_ready(benchmark_of(quality, [[1, 2]] * 4), tmp_path)
    again = made_ready(benchmark_of(quality, [[1, 2]] * 4), tmp_path)
    other = made_ready(benchmark_of(1 - quality, [[1, 2]] * 4), tmp_path)
    dearer = made_ready(benchmark_of(quality, [[1, 3]] * 4), tmp_path)
    assert one.fingerprint() == again.fingerprint()
    assert len({one.fingerprint(), other.fingerprint(), dearer.fingerprint()}) == 3


def test_sources_are_named(world, outcome_file):
    path = outcome_file(world(6), "my.pool.jsonl")
    assert [name for name, _ in load_tables(str(path))] == ["my.pool"]
    assert [name for name, _ in load_tables("paretobandit:val")] == ["paretobandit-val"]
    assert [name for name, _ in load_tables("paretobandit")] == ["paretobandit-val", "paretobandit-test_holdout"]
    with pytest.raises(ConfigError, match="no such file"):
        load_tables("nowhere.parquet")
