import json

import pytest

from router_gateway.core.errors import UpstreamError
from router_gateway.core.types import Usage
from router_gateway.dispatch.echo import Echo, EchoUpstream
from router_gateway.dispatch.fallback import FallbackDispatcher
from tests.dispatch.conftest import call, collect, endpoint, events_of, text_of


def dispatcher(**echoes):
    upstream = EchoUpstream(echoes)
    pool = {name: endpoint(name=name, first_token_timeout_s=0.2, timeout_s=0.3) for name in ("a", "b")}
    return FallbackDispatcher(pool, {"openai": upstream}), upstream


@pytest.mark.parametrize("stream", [False, True])
async def test_text_and_usage_are_as_set(stream):
    usage = Usage(tokens_input=5, tokens_cached_input=2, tokens_output=3, tokens_reasoning=1)
    sender, upstream = dispatcher(a=Echo(text="as I said", usage=usage))
    attempts = []
    sent = call(stream=stream)
    answer = await sender.send(["a"], sent, attempts.append)
    text = text_of(await collect(answer)) if stream else answer.payload["choices"][0]["message"]["content"]
    assert text == "as I said"
    assert attempts[0].usage == usage
    assert upstream.calls == [("a", sent)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("refused", "upstream_error"),
        ("rate_limited", "rate_limit_exceeded"),
        ("timeout", "upstream_timeout"),
        ("context_length", "context_length_exceeded"),
        ("empty", "upstream_error"),
        ("hangs", "upstream_timeout"),
    ],
)
async def test_failures_before_content_move_on(stream, failure, code):
    sender, _ = dispatcher(a=Echo(failure=failure))
    attempts = []
    answer = await sender.send(["a", "b"], call(stream=stream), attempts.append)
    if stream:
        await collect(answer)
    assert [(each.endpoint, each.error) for each in attempts] == [("a", code), ("b", None)]


async def test_slow_is_a_timeout_and_bad_requests_are_answered():
    sender, _ = dispatcher(a=Echo(latency_s=5.0), b=Echo(failure="bad_request"))
    attempts = []
    answer = await sender.send(["a", "b"], call(), attempts.append)
    assert answer.status == 400
    assert json.loads(answer.content)["error"]["code"] == "bad_echo"
    assert [each.error for each in attempts] == ["upstream_timeout", "bad_echo"]


async def test_a_stream_breaks_off_half_way():
    sender, _ = dispatcher(a=Echo(text="one two three four", failure="breaks_off"))
    attempts = []
    answer = await sender.send(["a", "b"], call(stream=True), attempts.append)
    seen = []
    with pytest.raises(UpstreamError, match="broke"):  # noqa: PT012 - what comes before the error counts
        async for event in events_of(answer):
            seen.append(event)
    assert text_of(seen).startswith("one two")
    assert len(text_of(seen)) < len("one two three four")
    assert [each.endpoint for each in attempts] == ["a"]
