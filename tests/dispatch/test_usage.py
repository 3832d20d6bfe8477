import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.body import Body
from router_gateway.core.types import Usage
from router_gateway.dispatch.usage import (
    count_request_tokens,
    count_tokens,
    header_cost_nusd,
    parse_cost,
    parse_usage,
    usage_object,
)

COUNTS = st.integers(0, 10**6)


def test_nested_counts_become_disjoint_classes():
    reported = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert parse_usage(reported) == Usage(
        tokens_input=30, tokens_cached_input=60, tokens_cache_write=10, tokens_output=20, tokens_reasoning=30
    )


@pytest.mark.parametrize("details", [{}, {"prompt_tokens_details": None, "completion_tokens_details": None}])
def test_details_may_be_missing_or_null(details):
    reported = {"prompt_tokens": 7, "completion_tokens": 3, **details}
    assert parse_usage(reported) == Usage(tokens_input=7, tokens_output=3)


def test_reasoning_left_out_of_the_completion_is_added_when_the_total_says_so():
    reported = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45}
    reported["completion_tokens_details"] = {"reasoning_tokens": 30}
    assert parse_usage(reported) == Usage(tokens_input=10, tokens_output=5, tokens_reasoning=30)


def test_embeddings_report_no_completion():
    assert parse_usage({"prompt_tokens": 9, "total_tokens": 9}) == Usage(tokens_input=9)


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        [],
        "12",
        {},
        {"prompt_tokens": "12"},
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": 10**12},
        {"prompt_tokens": float("nan")},
        {"prompt_tokens": 5, "completion_tokens": None},
    ],
)
def test_garbage_is_no_usage(garbage):
    assert parse_usage(garbage) is None


@given(st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), COUNTS), COUNTS, COUNTS)
def test_classes_are_never_negative_and_keep_the_prompt_total(totals, cached, written):
    totals["prompt_tokens_details"] = {"cached_tokens": cached, "cache_write_tokens": written}
    totals["completion_tokens_details"] = {"reasoning_tokens": written}
    usage = parse_usage(totals)
    if usage is None:
        assert "prompt_tokens" not in totals
        return
    fields = ("tokens_input", "tokens_cached_input", "tokens_cache_write", "tokens_output", "tokens_reasoning")
    assert min(getattr(usage, field) for field in fields) >= 0
    assert usage.tokens_prompt == totals["prompt_tokens"]
    assert usage.tokens_completion >= totals.get("completion_tokens", 0)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_object_is_read_back(fresh, cached, written, output, reasoning):
    usage = Usage(
        tokens_input=fresh,
        tokens_cached_input=cached,
        tokens_cache_write=written,
        tokens_output=output,
        tokens_reasoning=reasoning,
    )
    assert parse_usage(usage_object(usage)) == usage


def body_of(**members):
    return Body.parse(json.dumps(members).encode())


def test_a_request_counts_messages_tools_and_images_but_no_base64():
    text = body_of(messages=[{"role": "user", "content": "How many moons?"}])
    assert count_request_tokens(text) == count_tokens("How many moons?") + 4
    parts = [{"type": "text", "text": "How many moons?"}]
    assert count_request_tokens(body_of(messages=[{"role": "user", "content": parts}])) == count_request_tokens(text)
    parts.append({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}})
    picture = body_of(messages=[{"role": "user", "content": parts}])
    assert count_request_tokens(picture) == count_request_tokens(text) + 765
    tool = {"type": "function", "function": {"name": "moons", "parameters": {"type": "object"}}}
    with_tool = body_of(messages=[{"role": "user", "content": "How many moons?"}], tools=[tool])
    assert count_request_tokens(with_tool) > count_request_tokens(text) + 10


def test_tool_calls_count():
    call = {"id": "1", "type": "function", "function": {"name": "moons", "arguments": '{"of":"Jupiter"}'}}
    bare = body_of(messages=[{"role": "assistant", "content": None}])
    calling = body_of(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert count_request_tokens(calling) > count_request_tokens(bare) + 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_any_json_is_counted(messages, content, tools):
    assert count_request_tokens(body_of(messages=messages, tools=tools)) >= 0
    assert count_request_tokens(body_of(messages=[{"content": [content]}, {"content": content}])) >= 8


@pytest.mark.parametrize(
    ("reported", "cost_nusd"),
    [
        ({"cost": 0.00014}, 140_000),
        ({"cost": 0}, 0),
        ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.25}}, 250_000_000),
        ({"cost_in_usd_ticks": 15}, 2),
        ({"cost": None, "cost_in_usd_ticks": 10}, 1),
        ({"cost": "0.1"}, None),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": float("nan")}, None),
        ({"cost": 1e300}, None),
        ({"prompt_tokens": 1}, None),
        (None, None),
        ([], None),
    ],
)
def test_what_an_upstream_says_that_a_call_costs(reported, cost_nusd):
    assert parse_cost(reported) == cost_nusd


@pytest.mark.parametrize(
    ("said", "cost_nusd"),
    [("0.00015", 150_000), (" 1e-6 ", 1_000), ("", None), ("NaN", None), ("a lot", None), ("-1", None)],
)
def test_a_litellm_proxy_says_it_in_a_header(said, cost_nusd):
    assert header_cost_nusd({"x-litellm-response-cost": said}) == cost_nusd
    assert header_cost_nusd({}) is None
