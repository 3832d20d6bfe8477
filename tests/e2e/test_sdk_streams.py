"""Streams through the official SDK, to their end and broken off at either side."""

import time

import openai
import pytest

from tests.e2e.test_sdk import GOOD_COST_NUSD, TOOLS, user
from tests.e2e.upstream import USAGE, WORDS


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_a_stream_and_its_rows(site, client):
    asked = site.of("hard")
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(asked.prompt), stream=True)
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.headers["x-router-model"] == "large"
    chunks = list(raw.parse())
    assert text_of(chunks) == f"[replay of maker/large-model] {asked.response('large')}"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks), "nobody asked for it"
    assert len({chunk.id for chunk in chunks}) == 1
    decision, (attempt,) = site.ledger.decision(raw.headers["x-router-decision-id"])
    assert (decision["endpoint"], decision["propensity"]) == ("large", 1.0)
    assert (attempt["tokens_input"], attempt["tokens_output"]) == asked.tokens("large"), "asked for by the gateway"
    assert attempt["cost_nusd"] == asked.cost_nusd("large")
    assert not attempt["cost_estimated"]


async def test_an_async_stream_with_usage(site):
    asked = site.of("easy")
    async with site.async_client() as client:
        stream = await client.chat.completions.create(
            model="auto", messages=user(asked.prompt), stream=True, stream_options={"include_usage": True}
        )
        decision_id = stream.response.headers["x-router-decision-id"]
        chunks = [chunk async for chunk in stream]
    assert text_of(chunks).endswith(asked.response("small"))
    assert [chunk for chunk in chunks if chunk.usage is not None] == [chunks[-1]]
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == asked.tokens("small")
    _, (attempt,) = site.ledger.decision(decision_id)
    assert attempt["cost_nusd"] == asked.cost_nusd("small")


def test_streamed_tool_calls_and_token_classes(site, client):
    """The SDK puts the call together from its fragments; with `stream()` it checks every event on the way."""
    with client.chat.completions.stream(model="good", messages=user("weather?"), tools=TOOLS) as stream:
        final = stream.get_final_completion()
        decision_id = stream._response.headers["x-router-decision-id"]
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.name == "weather"
    _, (attempt,) = site.ledger.decision(decision_id)
    assert attempt["tokens_cached_input"] == USAGE["prompt_tokens_details"]["cached_tokens"]
    assert attempt["cost_nusd"] == GOOD_COST_NUSD


def test_explain_is_one_more_chunk(site, client):
    stream = client.chat.completions.create(
        model="auto",
        messages=user(site.of("hard").prompt),
        stream=True,
        extra_body={"routing": {"explain": True}},
    )
    chunks = list(stream)
    told = [chunk.model_extra["routing"] for chunk in chunks if "routing" in (chunk.model_extra or {})]
    decision, _ = site.ledger.decision(told[0]["decision_id"])
    assert len(told) == 1
    assert told[0]["order"] == decision["order"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_an_upstream_that_dies_mid_stream(site, client):
    """The words that came are the client's, then the SDK raises; what was probably billed is on the books."""
    stream = client.chat.completions.create(model="dying", messages=user("count the words"), stream=True)
    decision_id = stream.response.headers["x-router-decision-id"]
    chunks = []
    with pytest.raises(openai.APIError) as raised:
        chunks.extend(stream)
    assert text_of(chunks) == "".join(WORDS[:3])
    assert not isinstance(raised.value, openai.APIStatusError)
    assert raised.value.code == "upstream_error"
    assert set(raised.value.body) == {"message", "type", "param", "code"}
    _, (attempt,) = site.ledger.decision(decision_id)
    assert (attempt["status"], attempt["error"], attempt["tokens_output"]) == (200, "upstream_error", None)
    assert attempt["cost_estimated"]
    assert attempt["cost_nusd"] > 3 * 8_000, "three words and the prompt"


def test_a_client_that_leaves(site, client):
    """The provider is hung up on, so that it stops generating, and what was streamed is paid for."""
    before = site.provider.hung_up["slow"]
    stream = client.chat.completions.create(model="slow", messages=user("count slowly"), stream=True)
    decision_id = stream.response.headers["x-router-decision-id"]
    for chunk in stream:
        if text_of([chunk]):
            break
    stream.close()
    _, (attempt,) = site.ledger.decision(decision_id)
    assert (attempt["error"], attempt["tokens_output"]) == ("client_closed", None)
    assert attempt["cost_estimated"]
    assert attempt["cost_nusd"] > 0
    deadline = time.monotonic() + 10
    while site.provider.hung_up["slow"] == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert site.provider.hung_up["slow"] == before + 1
