from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import NoEligibleEndpoint
from router_gateway.core.types import Preferences
from router_gateway.routing.eligibility import candidates, eligible_endpoints, eligible_row, sole_cause


@pytest.fixture(scope="session")
def pool(bench):
    return (
        bench.endpoint("small", model="acme/small-1", context_tokens_max=1_000, offers=frozenset({"json"})),
        bench.endpoint("large", model="acme/large-1", offers=frozenset({"json", "tools", "vision"}), region="eu"),
        bench.endpoint("nosy", model="other/nosy-1", offers=frozenset({"json", "tools"}), collects_data=True),
    )


def left(query, pool) -> list[str]:
    """Names of the endpoints that may take the query."""
    remaining = candidates(eligible_endpoints([query], pool), [query])[0]
    return [endpoint.name for endpoint, ok in zip(pool, remaining, strict=True) if ok]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["small", "large", "nosy"]),
        ({"pinned": "large"}, ["large"]),
        ({"tenant_allows": ("acme/*",)}, ["small", "large"]),
        ({"tenant_allows": ("nosy", "small")}, ["small", "nosy"]),
        ({"needs": frozenset({"tools"})}, ["large", "nosy"]),
        ({"needs": frozenset({"tools", "vision"})}, ["large"]),
        ({"tokens_input": 744}, ["small", "large", "nosy"]),
        ({"tokens_input": 745}, ["large", "nosy"]),
        ({"tokens_input": 500, "tokens_output_max": 500}, ["small", "large", "nosy"]),
        ({"tokens_input": 500, "tokens_output_max": 501}, ["large", "nosy"]),
        ({"preferences": Preferences(allowed=("*-1",))}, ["small", "large", "nosy"]),
        ({"preferences": Preferences(allowed=("large", "other/*"))}, ["large", "nosy"]),
        ({"preferences": Preferences(ignore=("acme/*",))}, ["nosy"]),
        ({"preferences": Preferences(allowed=("acme/*",), ignore=("small",))}, ["large"]),
        ({"preferences": Preferences(region="eu")}, ["large"]),
        ({"preferences": Preferences(deny_data_collection=True)}, ["small", "large"]),
        ({"preferences": Preferences(allowed=("LARGE", "nosy"))}, ["nosy"]),
    ],
)
def test_each_filter(bench, pool, changes, expected):
    query = bench.query(**changes)
    assert left(query, pool) == expected
    assert [e.name for e, ok in zip(pool, eligible_row(query, pool), strict=True) if ok] == expected


@pytest.mark.parametrize(
    ("changes", "param", "code", "says"),
    [
        ({"pinned": "gone"}, "model", "no_eligible_endpoint", "not in the pool"),
        ({"tenant_allows": ("none/*",)}, "model", "no_eligible_endpoint", "this key"),
        ({"preferences": Preferences(region="mars")}, "routing", "no_eligible_endpoint", "`routing`"),
        ({"needs": frozenset({"vision", "audio"})}, None, "unsupported_parameter", "audio, vision"),
        ({"tokens_input": 9_000}, "messages", "context_length_exceeded", "9000 tokens"),
    ],
)
def test_a_refusal_names_the_filter_that_took_the_last_candidate(bench, pool, changes, param, code, says):
    query = bench.query(**changes)
    with pytest.raises(NoEligibleEndpoint, match=says):
        eligible_row(query, pool)
    with pytest.raises(NoEligibleEndpoint, match=says) as refused:
        candidates(eligible_endpoints([query], pool), [query])
    assert (refused.value.param, refused.value.code, refused.value.status) == (param, code, 400)


def test_filters_refuse_in_order_so_that_the_first_to_empty_the_pool_is_named(bench, pool):
    query = bench.query(tenant_allows=("small",), needs=frozenset({"tools"}), tokens_input=9_000)
    with pytest.raises(NoEligibleEndpoint) as refused:
        candidates(eligible_endpoints([query], pool), [query])
    assert refused.value.code == "unsupported_parameter"


def test_a_refusal_does_not_repeat_the_prompt(bench, pool):
    query = bench.query(text="a secret", tokens_input=9_000)
    with pytest.raises(NoEligibleEndpoint) as refused:
        candidates(eligible_endpoints([query], pool), [query])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, None),
        ({"tenant_allows": ("acme/*",)}, None),
        ({"pinned": "small"}, "pinned"),
        ({"tenant_allows": ("small",)}, "tenant"),
        ({"preferences": Preferences(region="eu")}, "preferences"),
        ({"needs": frozenset({"vision"})}, "capability"),
        ({"tenant_allows": ("acme/*",), "tokens_input": 5_000}, "context"),
        ({"needs": frozenset({"vision"}), "tokens_input": 5_000}, "capability"),
    ],
)
def test_the_sole_cause_is_the_filter_that_left_one(bench, pool, changes, cause):
    assert sole_cause(eligible_endpoints([bench.query(**changes)], pool), 0) == cause


def test_a_pool_of_one_has_no_cause(bench, pool):
    assert sole_cause(eligible_endpoints([bench.query()], pool[:1]), 0) is None


def test_no_queries(pool):
    filters = eligible_endpoints([], pool)
    assert {mask.shape for mask in filters.values()} == {(0, 3)}
    assert candidates(filters, []).shape == (0, 3)


wishes = st.fixed_dictionaries(
    {
        "tenant_allows": st.sampled_from([(), ("acme/*",), ("nosy", "large")]),
        "needs": st.sampled_from([frozenset(), frozenset({"json"}), frozenset({"tools"})]),
        "tokens_input": st.sampled_from([10, 900, 7_900]),
        "preferences": st.sampled_from([Preferences(), Preferences(deny_data_collection=True)]),
    }
)


@given(st.lists(wishes, min_size=1, max_size=4))
def test_a_batch_filters_as_its_rows_would(bench, pool, batch):
    queries = [bench.query(row, **changes) for row, changes in enumerate(batch)]
    together = eligible_endpoints(queries, pool)
    for row, query in enumerate(queries):
        alone = eligible_endpoints([query], pool)
        for name, mask in together.items():
            np.testing.assert_array_equal(mask[row], alone[name][0])


@given(wishes)
def test_prices_have_no_say(bench, pool, changes):
    dearer = [replace(endpoint, price_input_usd_per_mtok=Decimal(999)) for endpoint in pool]
    query = bench.query(**changes)
    for name, mask in eligible_endpoints([query], pool).items():
        np.testing.assert_array_equal(mask, eligible_endpoints([query], dearer)[name])
