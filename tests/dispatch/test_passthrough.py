import asyncio
import gzip
import json
import logging
from uuid import UUID

import pytest

from router_gateway.core.errors import ConfigError, UpstreamError, UpstreamRateLimited, UpstreamTimeout
from router_gateway.dispatch.passthrough import PassthroughUpstream
from router_gateway.dispatch.upstream import ConnectTimeout, ContextLengthExceeded, UpstreamRefused
from tests.dispatch.conftest import (
    DONE,
    GOOD_STREAM,
    PROMPT,
    SECRET,
    call,
    delta,
    endpoint,
    error,
    events_of,
    good_stream,
    good_whole,
    sse,
    whole,
)


async def answered(upstream, server, sent, **changes):
    reply = await upstream.open(endpoint(server.base_url, **changes), sent, timeout_s=10)
    try:
        return [event async for event in events_of(reply)] if sent.stream else await reply.content()
    finally:
        await reply.aclose()


async def test_the_body_goes_out_byte_for_byte_but_for_model_and_our_own(serve, passthrough):
    server = await serve(good_whole)
    raw = (
        b'{ "model" : "auto",\n "temperature":1.0e0, "big": 12345678901234567890, "routing":{"explain":true},'
        b' "messages":[{"role":"user","content":"caf\xc3\xa9 \\u00e9 \\ud83d\\ude00"}], "session_id":"s", "x":null }'
    )
    await answered(passthrough, server, call(raw=raw))
    removed = raw.replace(b'"routing":{"explain":true},', b"").replace(b'"session_id":"s",', b"")
    assert server.exchanges[0].body == removed.replace(b'"auto"', b'"model-a"')
    assert server.exchanges[0].path == "/v1/chat/completions"


async def test_a_stream_asks_for_usage_and_keeps_the_clients_options(serve, passthrough):
    server = await serve(good_stream)
    await answered(passthrough, server, call(stream=True))
    await answered(passthrough, server, call(stream=True, stream_options={"include_obfuscation": False}))
    sent = [exchange.json["stream_options"] for exchange in server.exchanges]
    assert sent == [{"include_usage": True}, {"include_obfuscation": False, "include_usage": True}]


async def test_headers_are_an_allow_list(serve, passthrough):
    server = await serve(good_whole)
    given = {
        "Traceparent": "00-1-2-01",
        "authorization": "Bearer of-the-client",
        "cookie": "a=b",
        "openai-beta": "evil\r\nx-injected: 1",
    }
    sent = call(headers=given)
    await answered(passthrough, server, sent)
    headers = server.exchanges[0].headers
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["traceparent"] == "00-1-2-01"
    assert UUID(headers["x-client-request-id"]) == sent.query_id
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("router-gateway/")
    assert not {"cookie", "openai-beta", "x-injected"} & set(headers)


async def test_an_endpoint_without_a_secret_gets_no_key(serve, passthrough):
    server = await serve(good_whole)
    await answered(passthrough, server, call(), name="keyless")
    assert "authorization" not in server.exchanges[0].headers


async def test_connections_are_kept_after_whole_answers_and_finished_streams(serve, passthrough):
    async def script(exchange):
        await (good_stream if exchange.json["stream"] else good_whole)(exchange)

    server = await serve(script)
    for stream in (False, True, True, False):
        await answered(passthrough, server, call(stream=stream))
    assert len(server.exchanges) == 4
    assert server.connections == 1


async def test_cookies_of_one_answer_do_not_travel_with_the_next_request(serve, passthrough):
    async def script(exchange):
        await exchange.respond_json(whole(), headers=[("set-cookie", "tenant=one; Path=/")])

    server = await serve(script)
    await answered(passthrough, server, call())
    await answered(passthrough, server, call())
    assert "cookie" not in server.exchanges[1].headers


async def test_events_survive_any_chunking_and_crlf(serve, passthrough):
    first, second = sse(delta(content="x")), 'data: {"choices":[{"delta":{"content":"€"}}]}\n\n'.encode()
    raw = (first + second + DONE).replace(b"\n", b"\r\n")

    async def script(exchange):
        await exchange.stream(*(raw[i : i + 1] for i in range(len(raw))))

    server = await serve(script)
    assert await answered(passthrough, server, call(stream=True)) == [first, second, DONE]


async def test_a_compression_nobody_asked_for_is_undone(serve, passthrough):
    async def script(exchange):
        body = gzip.compress(json.dumps(whole("zipped")).encode())
        await exchange.respond(body, headers=[("content-encoding", "gzip")])

    assert b"zipped" in await answered(passthrough, await serve(script), call())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>login</html>"),
        (302, "text/html", b""),
        (400, "text/html", b"<html>bad</html>"),
        (204, "application/json", b""),
    ],
)
async def test_what_is_no_api_answer_is_an_upstream_error(serve, passthrough, stream, status, kind, body):
    async def script(exchange):
        await exchange.respond(body, status=status, kind=kind, headers=[("location", "/v1/elsewhere")])

    server = await serve(script)
    with pytest.raises(UpstreamError, match="endpoint a"):
        await answered(passthrough, server, call(stream=stream))
    assert len(server.exchanges) == 1  # no redirect is followed


@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 409, 500, 503, 529])
async def test_what_another_endpoint_may_cure_is_raised_without_the_body(serve, passthrough, status):
    async def script(exchange):
        leak = f"{exchange.headers['authorization']} {exchange.body.decode()}"
        await exchange.respond_json(error("some_code", leak), status=status, headers=[("retry-after", "3")])

    with pytest.raises(UpstreamRefused, match=rf"endpoint a: .*{status} \(some_code\)") as caught:
        await answered(passthrough, await serve(script), call())
    assert caught.value.upstream_status == status
    assert caught.value.retry_after_s == 3
    assert SECRET not in str(caught.value)
    assert PROMPT not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:49:07 GMT"}, 30),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e9"}, 3600),
        ({}, None),
    ],
)
async def test_a_rate_limit_says_when_to_come_back(serve, passthrough, headers, seconds):
    async def script(exchange):
        await exchange.respond_json(error("rate_limit_exceeded"), status=429, headers=headers.items())

    with pytest.raises(UpstreamRateLimited) as caught:
        await answered(passthrough, await serve(script), call(stream=True))
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_the_clients_own_mistake_is_relayed_in_openais_shape(serve, passthrough, status):
    async def script(exchange):
        await exchange.respond_json({"error": {"message": f"bad: {SECRET}", "param": "top_p"}}, status=status)

    server = await serve(script)
    reply = await passthrough.open(endpoint(server.base_url), call(stream=True), timeout_s=10)
    assert reply.status == status
    shaped = {"message": "bad: [redacted]", "type": "invalid_request_error", "param": "top_p", "code": None}
    assert json.loads(await reply.content()) == {"error": shaped}
    await reply.aclose()


@pytest.mark.parametrize(
    "body",
    [
        error("context_length_exceeded"),
        error(None, "This model's maximum context length is 8192 tokens"),
        {"object": "error", "message": "... maximum context length ...", "code": 400},
    ],
)
async def test_too_long_for_this_endpoint_is_not_the_clients_mistake(serve, passthrough, body):
    async def script(exchange):
        await exchange.respond_json(body, status=400)

    with pytest.raises(ContextLengthExceeded):
        await answered(passthrough, await serve(script), call())


async def test_a_body_without_end_is_cut_off(serve, passthrough, monkeypatch):
    monkeypatch.setattr("router_gateway.dispatch.passthrough.ANSWER_BYTES_MAX", 100_000)

    async def script(exchange):
        await exchange.respond(b" " * 1_000_000)

    with pytest.raises(UpstreamError, match="more than 100000 bytes"):
        await answered(passthrough, await serve(script), call())


async def test_nobody_listens(passthrough, unused_tcp_port):
    with pytest.raises(UpstreamError, match="could not connect") as caught:
        await passthrough.open(endpoint(f"http://127.0.0.1:{unused_tcp_port}/v1"), call(), timeout_s=10)
    assert not isinstance(caught.value, UpstreamTimeout)


async def test_a_connection_that_never_opens(passthrough, deaf_url):
    with pytest.raises(ConnectTimeout):
        await passthrough.open(endpoint(deaf_url, connect_timeout_s=0.2), call(), timeout_s=10)


async def test_a_connection_dropped_before_the_answer_is_no_timeout(serve, passthrough):
    async def script(exchange):
        exchange.drop()

    with pytest.raises(UpstreamError, match="the connection broke") as caught:
        await answered(passthrough, await serve(script), call())
    assert not isinstance(caught.value, UpstreamTimeout)


async def test_a_head_that_never_comes_and_a_refusal_that_never_ends(serve, passthrough):
    async def silent(exchange):
        await asyncio.sleep(30)

    async def endless_refusal(exchange):
        await exchange.send(b"HTTP/1.1 500 x\r\ncontent-length: 100\r\n\r\n{")
        await asyncio.sleep(30)

    for script in (silent, endless_refusal):
        server = await serve(script)
        with pytest.raises(UpstreamTimeout):
            await passthrough.open(endpoint(server.base_url), call(), timeout_s=0.2)


async def test_garbage_instead_of_http(serve, passthrough):
    async def script(exchange):
        await exchange.send(b"\x00\x01 not http at all\r\n\r\n")
        exchange.writer.close()

    with pytest.raises(UpstreamError, match="endpoint a"):
        await answered(passthrough, await serve(script), call())


async def test_a_stream_that_breaks_gives_what_came_and_then_the_error(serve, passthrough):
    async def script(exchange):
        await exchange.start_stream()
        await exchange.chunk(GOOD_STREAM[0])
        await asyncio.sleep(0.05)
        exchange.drop()

    server = await serve(script)
    reply = await passthrough.open(endpoint(server.base_url), call(stream=True), timeout_s=10)
    events = events_of(reply)
    assert await anext(events) == GOOD_STREAM[0]
    with pytest.raises(UpstreamError, match="the connection broke"):
        await anext(events)
    await reply.aclose()


async def test_silence_within_a_stream_is_bounded(serve, passthrough):
    async def script(exchange):
        await exchange.start_stream()
        await asyncio.sleep(30)

    server = await serve(script)
    with pytest.raises(UpstreamTimeout):
        await answered(passthrough, server, call(stream=True), first_token_timeout_s=0.2)


async def test_closing_a_reply_hangs_up_and_ends_a_pending_read(serve, passthrough):
    async def script(exchange):
        await exchange.start_stream()
        await exchange.chunk(GOOD_STREAM[0])

    server = await serve(script)
    reply = await passthrough.open(endpoint(server.base_url), call(stream=True), timeout_s=10)
    events = events_of(reply)
    await anext(events)
    reading = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.05)
    await reply.aclose()
    with pytest.raises((UpstreamError, StopAsyncIteration)):
        await asyncio.wait_for(reading, 5)
    await asyncio.wait_for(server.hung_up.wait(), 5)
    await reply.aclose()


async def test_cancelling_open_hangs_up(serve, passthrough):
    async def script(exchange):
        await asyncio.sleep(0)

    server = await serve(script)
    opening = asyncio.ensure_future(passthrough.open(endpoint(server.base_url), call(), timeout_s=10))
    while not server.exchanges:
        await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_secrets_and_prompts_stay_out_of_logs_and_reprs(serve, passthrough, caplog):
    caplog.set_level(logging.DEBUG)

    async def script(exchange):
        await exchange.respond_json(error("x", f"{SECRET} {PROMPT}"), status=500)

    server = await serve(script)
    with pytest.raises(UpstreamError):
        await answered(passthrough, server, call())
    assert SECRET not in caplog.text + repr(passthrough)
    assert PROMPT not in caplog.text


@pytest.mark.parametrize("secret", ["", "two\nlines", "ключ", " padded "])
def test_a_key_that_cannot_be_a_header_is_a_configuration_error(secret):
    with pytest.raises(ConfigError, match=r"endpoints\.a") as caught:
        PassthroughUpstream({"a": secret})
    assert not secret or secret not in str(caught.value)
