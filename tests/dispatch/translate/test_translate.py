import json
import logging
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import replace

import pytest

from router_gateway.core.errors import UpstreamError, UpstreamRateLimited, UpstreamTimeout
from router_gateway.core.types import Usage
from router_gateway.dispatch.stream import StreamTap
from router_gateway.dispatch.translate import DROPPED_HEADER, LiteLLMUpstream
from router_gateway.dispatch.upstream import ConnectTimeout, ContextLengthExceeded, UpstreamRefused
from router_gateway.dispatch.usage import parse_usage
from tests.dispatch.conftest import events_of

# litellm's pydantic models, built on first use
pytestmark = pytest.mark.filterwarnings("ignore:.*is using the `ReadOnly` qualifier:UserWarning")

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
USAGE = Usage(tokens_input=11, tokens_cached_input=300, tokens_cache_write=20, tokens_output=25)


async def _answer(upstream, anthropic, call, *, model="claude-loopback"):
    reply = await upstream.open(anthropic.endpoint(model), call, timeout_s=30)
    return reply, json.loads(await reply.content())


async def _events(upstream, anthropic, call, *, model="claude-loopback"):
    reply = await upstream.open(anthropic.endpoint(model), call, timeout_s=30)
    return [event async for event in events_of(reply)]


def _chunks(events):
    return [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]


async def test_a_whole_answer(upstream, anthropic, make_call):
    reply, body = await _answer(upstream, anthropic, make_call())
    assert (reply.status, body["object"], body["model"]) == (200, "chat.completion", "claude-loopback")
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "You said: hello", "refusal": None}
    assert choice["finish_reason"] == "stop"
    with pytest.raises(UpstreamError, match="instead of streaming"):
        reply.batches()


async def test_anthropics_token_classes_stay_disjoint(upstream, anthropic, make_call):
    _, body = await _answer(upstream, anthropic, make_call())
    assert parse_usage(body["usage"]) == USAGE
    assert body["usage"]["prompt_tokens"] == 331
    events = await _events(upstream, anthropic, make_call(stream=True))
    assert parse_usage(_chunks(events)[-1]["usage"]) == USAGE


async def test_the_request_on_anthropics_wire(upstream, anthropic, make_call, key):
    call = make_call(
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        max_completion_tokens=77,
        temperature=0.5,
        stop="END",
        n=1,
        store=False,
        routing={"worth_usd": 1},
        headers={"traceparent": "00-abc-def-01"},
    )
    await _answer(upstream, anthropic, call)
    assert anthropic.requests == [
        {
            "model": "claude-loopback",
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "max_tokens": 77,
            "temperature": 0.5,
            "stop_sequences": ["END"],
        }
    ]
    assert anthropic.headers[0]["x-api-key"] == key
    assert anthropic.headers[0]["traceparent"] == "00-abc-def-01"


async def test_a_stream(upstream, anthropic, make_call):
    events = await _events(upstream, anthropic, make_call(stream=True, wants_usage=True))
    assert events[-1] == b"data: [DONE]\n\n"
    chunks = _chunks(events)
    *spoken, finish, usage = chunks
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in spoken) == "You said: hello"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 25)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert {(chunk["id"], chunk["model"], chunk["object"], chunk["created"]) for chunk in chunks} == {
        (chunks[0]["id"], "claude-loopback", "chat.completion.chunk", chunks[0]["created"])
    }


async def test_usage_is_always_asked_for_and_the_dispatcher_can_strip_it(upstream, anthropic, make_call):
    tap = StreamTap(source="endpoint claude", wants_usage=False)
    forwarded = [tap.feed(event) for event in await _events(upstream, anthropic, make_call(stream=True))]
    assert tap.usage == USAGE
    assert tap.done
    assert [event for event in forwarded if event and b'"usage"' in event] == []


async def test_tool_calls_both_ways(upstream, anthropic, make_call):
    ask = {"role": "user", "content": "weather in Oslo?"}
    _, body = await _answer(upstream, anthropic, make_call(messages=[ask], tools=[WEATHER], tool_choice="auto"))
    [choice] = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    call = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    assert choice["message"]["tool_calls"] == [call]
    assert anthropic.requests[-1]["tools"][0]["input_schema"] == WEATHER["function"]["parameters"]

    result = {"role": "tool", "tool_call_id": "toolu_1", "content": "12 degrees"}
    _, body = await _answer(upstream, anthropic, make_call(messages=[ask, choice["message"], result], tools=[WEATHER]))
    assert "12 degrees" in body["choices"][0]["message"]["content"]
    sent = anthropic.requests[-1]["messages"]
    assert [block["type"] for block in sent[1]["content"]] == ["text", "tool_use"]
    assert sent[1]["content"][1]["input"] == {"city": "Oslo"}
    assert sent[2]["content"][0]["tool_use_id"] == "toolu_1"


async def test_a_streamed_tool_call(upstream, anthropic, make_call):
    events = await _events(upstream, anthropic, make_call(stream=True, tools=[WEATHER]))
    deltas = [chunk["choices"][0]["delta"] for chunk in _chunks(events) if chunk["choices"]]
    fragments = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert (fragments[0]["id"], fragments[0]["function"]["name"]) == ("toolu_1", "weather")
    assert {fragment["index"] for fragment in fragments} == {0}
    assert not any("id" in fragment or "name" in fragment["function"] for fragment in fragments[1:])
    assert json.loads("".join(fragment["function"]["arguments"] for fragment in fragments)) == {"city": "Oslo"}
    assert _chunks(events)[-2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "status"), [("overloaded", 529), ("broken", 500), ("missing", 404)])
async def test_failures_keep_their_status(upstream, anthropic, make_call, model, status, stream):
    with pytest.raises(UpstreamRefused) as caught:
        await _answer(upstream, anthropic, make_call(stream=stream), model=model)
    assert caught.value.upstream_status == status
    assert len(anthropic.requests) == 1  # no retry of litellm's own


async def test_a_rate_limit_says_how_long(upstream, anthropic, make_call):
    with pytest.raises(UpstreamRateLimited) as caught:
        await _answer(upstream, anthropic, make_call(), model="rate-limited")
    assert caught.value.retry_after_s == 7.0
    assert len(anthropic.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_too_long_is_told_from_a_wrong_one(upstream, anthropic, make_call, stream):
    with pytest.raises(ContextLengthExceeded):
        await _answer(upstream, anthropic, make_call(stream=stream), model="too-long")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "status"), [("bad", 400), ("too-big", 413)])
async def test_a_wrong_request_is_answered_in_openais_shape(upstream, anthropic, make_call, key, model, status, stream):
    reply, body = await _answer(upstream, anthropic, make_call(stream=stream), model=model)
    assert reply.status == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert key not in json.dumps(body)
    if model == "bad":
        assert body["error"]["message"].startswith("messages.0: something is off")


async def test_a_wrong_key(anthropic, make_call):
    upstream = LiteLLMUpstream({"claude": "sk-wrong-9876543210"})
    with pytest.raises(UpstreamRefused, match="authentication_error") as caught:
        await _answer(upstream, anthropic, make_call())
    assert caught.value.upstream_status == 401
    assert "sk-wrong" not in "".join(traceback.format_exception(caught.value, chain=False))
    await upstream.aclose()


async def test_an_earlier_endpoints_error_is_not_mistaken_for_this_ones(upstream, anthropic, make_call):
    try:
        await _answer(upstream, anthropic, make_call(), model="too-long")
    except ContextLengthExceeded:
        with pytest.raises(UpstreamRefused) as caught:  # as in a fallback loop
            await _answer(upstream, anthropic, make_call(), model="overloaded")
    assert caught.value.upstream_status == 529


@pytest.mark.parametrize("model", ["fails-late", "breaks-off", "ends-early"])
async def test_a_stream_that_fails_late_is_never_done(upstream, anthropic, make_call, key, model):
    reply = await upstream.open(anthropic.endpoint(model), make_call(stream=True), timeout_s=30)
    events = []

    async def read() -> None:
        async for event in events_of(reply):
            events.append(event)

    with pytest.raises(UpstreamError) as caught:
        await read()
    assert b"You sai" in b"".join(events)
    assert not any(b"[DONE]" in event or b'"finish_reason":"' in event for event in events)
    assert key not in str(caught.value)


async def test_closing_hangs_up(upstream, anthropic, make_call):
    reply = await upstream.open(anthropic.endpoint("endless"), make_call(stream=True), timeout_s=30)
    events = events_of(reply)
    assert b'"content"' in await anext(events)
    await reply.aclose()
    await anthropic.hung_up.wait()
    await events.aclose()
    await reply.aclose()


async def test_closing_unread_hangs_up(upstream, anthropic, make_call):
    reply = await upstream.open(anthropic.endpoint("endless"), make_call(stream=True), timeout_s=30)
    await reply.aclose()
    await anthropic.hung_up.wait()


async def test_silence_times_out_and_hangs_up(upstream, anthropic, make_call):
    with pytest.raises(UpstreamTimeout, match=r"within 0\.2 s"):
        await upstream.open(anthropic.endpoint("silent"), make_call(), timeout_s=0.2)
    await anthropic.hung_up.wait()


async def test_a_read_timeout_of_the_endpoint(upstream, anthropic, make_call):
    with pytest.raises(UpstreamTimeout) as caught:
        await upstream.open(anthropic.endpoint("silent", timeout_s=0.2), make_call(), timeout_s=30)
    assert not isinstance(caught.value, ConnectTimeout)


async def test_nobody_listens(upstream, anthropic, make_call):
    endpoint = anthropic.endpoint(base_url="http://127.0.0.1:1")
    with pytest.raises(UpstreamError, match="endpoint claude"):
        await upstream.open(endpoint, make_call(), timeout_s=30)


async def test_an_unknown_provider(upstream, anthropic, make_call):
    endpoint = replace(anthropic.endpoint(), model="nonsense")
    with pytest.raises(UpstreamError, match="no provider of nonsense"):
        await upstream.open(endpoint, make_call(), timeout_s=30)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logit_bias", {"1": 2}),
        ("seed", 1),
        ("n", 2),
        ("api_base", "http://127.0.0.1:1"),  # litellm's own arguments are not a client's to set
        ("mock_response", "hi"),
        ("fallbacks", ["openai/gpt-4o"]),
        ("extra_headers", {"x": "y"}),
    ],
)
async def test_an_unsupported_member_is_named_or_dropped(upstream, anthropic, make_call, key, caplog, name, value):
    reply, body = await _answer(upstream, anthropic, make_call(**{name: value}))
    assert reply.status == 400
    assert (body["error"]["param"], body["error"]["code"]) == (name, "unsupported_parameter")
    assert anthropic.requests == []

    lenient = LiteLLMUpstream({"claude": key}, drop_params=True)
    reply, body = await _answer(lenient, anthropic, make_call(**{name: value}))
    assert reply.headers[DROPPED_HEADER] == name
    assert body["choices"][0]["message"]["content"] == "You said: hello"
    assert name in caplog.text
    await lenient.aclose()


@pytest.mark.parametrize("name", ["x\r\nset-cookie: a=b", "x" * 100_000, "é"])
async def test_a_members_name_is_fit_for_headers_and_logs(upstream, anthropic, make_call, key, caplog, name):
    _, body = await _answer(upstream, anthropic, make_call(**{name: 1}))
    assert body["error"]["param"] == "(unprintable)"
    lenient = LiteLLMUpstream({"claude": key}, drop_params=True)
    reply, _ = await _answer(lenient, anthropic, make_call(**{name: 1}))
    assert reply.headers[DROPPED_HEADER] == "(unprintable)"
    assert name not in caplog.text
    await lenient.aclose()


async def test_a_stream_that_falls_silent(upstream, anthropic, make_call):
    endpoint = anthropic.endpoint("endless", first_token_timeout_s=0.3)
    reply = await upstream.open(endpoint, make_call(stream=True), timeout_s=30)
    with pytest.raises(UpstreamTimeout):
        await reply.content()
    await anthropic.hung_up.wait()


async def test_media_is_never_fetched_for_a_client(upstream, anthropic, make_call):
    parts = [{"type": "image_url", "image_url": {"url": f"{anthropic.url}/secret.png"}}, {"type": "text", "text": "?"}]
    reply, body = await _answer(upstream, anthropic, make_call(messages=[{"role": "user", "content": parts}]))
    assert (reply.status, body["error"]["code"]) == (400, "invalid_image_url")
    assert anthropic.requests == []


@pytest.mark.parametrize("messages", [None, "hello", [1]])
async def test_messages_of_an_odd_shape(upstream, anthropic, make_call, messages):
    reply, body = await _answer(upstream, anthropic, make_call(messages=messages))
    assert (reply.status, body["error"]["param"]) == (400, "messages")


async def test_deep_nesting_arrives(upstream, anthropic, make_call):
    deep = json.loads('{"a":' * 400 + "1" + "}" * 400)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": deep}}}
    reply, _ = await _answer(upstream, anthropic, make_call(tools=[tool]))
    assert reply.status == 200
    assert json.dumps(anthropic.requests[-1]["tools"][0]["input_schema"]).count('{"a": ') >= 400


async def test_the_clients_body_is_left_alone(upstream, anthropic, make_call):
    call = make_call(tools=[WEATHER])
    before = json.dumps(call.body.values)
    await _answer(upstream, anthropic, call)
    assert json.dumps(call.body.values) == before


async def test_nothing_is_logged(upstream, anthropic, make_call, key, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("LiteLLM").propagate = True
    secret_prompt = [{"role": "user", "content": "my unspeakable secret"}]
    await _events(upstream, anthropic, make_call(stream=True, messages=secret_prompt))
    for model in ("bad", "fails-late"):
        with suppress(UpstreamError):
            await _events(upstream, anthropic, make_call(stream=True, messages=secret_prompt), model=model)
    written = caplog.text + "".join(capfd.readouterr())
    assert "unspeakable" not in written
    assert key not in written


def test_module_import_does_not_import_litellm():
    code = "import sys, router_gateway.dispatch.translate; print('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
