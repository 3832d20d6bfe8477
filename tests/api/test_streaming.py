"""Streams: the order of chunks, what is said after the 200, pings, and clients that leave."""

import asyncio
import json

import httpx
import openai
import pytest

from router_gateway.core.types import Usage
from router_gateway.dispatch.echo import Echo
from tests.api.building import EASY, HARD, endpoint, error_of, payloads, text_of
from tests.dispatch.conftest import ROLE, delta, sse

PING_S = 0.02


async def settled(site, decision_id, *, tries=200):
    """The decision's record once it has an attempt."""
    for _ in range(tries):
        record = await site.record(decision_id)
        if record.attempts:
            return record
        await asyncio.sleep(0.02)
    raise AssertionError("no attempt was recorded")


async def test_a_stream_has_role_words_finish_and_done_in_order(start):
    site = await start(echoes={"small": Echo(text="one two three")})
    response = await site.chat(EASY, stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers
    *chunks, done = payloads(response.text)
    assert done == "[DONE]"
    assert response.text.endswith("data: [DONE]\n\n")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert text_of(response.text) == "one two three"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
async def test_the_usage_chunk_is_dropped_unless_asked_for(site, options):
    more = {} if options is None else {"stream_options": options}
    response = await site.chat(EASY, stream=True, **more)
    assert all(chunk["choices"] for chunk in payloads(response.text)[:-1])
    record = await site.record_of(response)
    assert record.attempts[0].usage == Usage(tokens_input=10, tokens_output=1)


async def test_the_usage_chunk_comes_last_before_done_when_asked_for(site):
    response = await site.chat(EASY, stream=True, stream_options={"include_usage": True})
    *_, usage, done = payloads(response.text)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] == 10
    assert usage["usage"]["completion_tokens"] == 1


async def test_the_headers_of_a_stream_say_what_was_decided(site):
    response = await site.chat(HARD, stream=True)
    headers = response.headers
    assert headers["x-router-decision-id"] == headers["x-request-id"]
    assert (headers["x-router-model"], headers["x-router-reason"]) == ("large", "scored")
    assert headers["x-router-policy"] == "knn@1"
    assert headers["x-router-attempts"] == "1"
    assert "x-router-cost-usd" not in headers


async def test_the_explanation_is_one_more_chunk_before_done(site):
    response = await site.chat(EASY, stream=True, routing={"explain": True})
    *chunks, explained, done = payloads(response.text)
    assert done == "[DONE]"
    assert explained["choices"] == []
    assert explained["id"] == chunks[0]["id"]
    assert explained["model"] == chunks[0]["model"]
    assert explained["routing"]["schema_version"] == 1
    assert explained["routing"]["decision_id"] == response.headers["x-router-decision-id"]
    assert explained["routing"]["neighbours"]
    assert text_of(response.text) == "echo"


async def test_the_openai_sdk_reads_a_stream(site):
    async with site.sdk() as client:
        stream = await client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": EASY}],
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"routing": {"explain": True}},
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "echo"
    assert [c.usage.total_tokens for c in chunks if c.usage] == [11]


async def test_a_failure_before_the_first_content_falls_back_unseen(start):
    site = await start(echoes={"small": Echo(failure="empty"), "mid": Echo(text="from mid")})
    response = await site.chat(EASY, stream=True)
    assert text_of(response.text) == "from mid"
    assert response.headers["x-router-model"] == "mid"
    assert response.headers["x-router-attempts"] == "2"


async def test_a_stream_that_breaks_off_ends_with_an_error_event_and_no_done(start):
    site = await start(echoes={"small": Echo(text="one two three four", failure="breaks_off")})
    response = await site.chat(EASY, stream=True)
    assert response.status_code == 200
    *chunks, last = payloads(response.text)
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["type"] == "server_error"
    assert "[DONE]" not in response.text
    assert not any("error" in chunk for chunk in chunks)
    record = await settled(site, response.headers["x-router-decision-id"])
    [attempt] = record.attempts
    assert (attempt.error, attempt.cost_estimated) == ("upstream_error", True)
    assert attempt.cost_nusd > 0


async def test_the_openai_sdk_raises_on_a_stream_that_breaks_off(start):
    site = await start(echoes={"small": Echo(text="one two three four", failure="breaks_off")})
    async with site.sdk() as client:
        stream = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": EASY}], stream=True
        )
        with pytest.raises(openai.APIError):
            _ = [chunk async for chunk in stream]


async def test_when_every_endpoint_refuses_a_stream_is_a_plain_error(start):
    site = await start(echoes=dict.fromkeys(("small", "mid", "large"), Echo(failure="refused")))
    response = await site.chat(EASY, stream=True)
    assert error_of(response, 503)["code"] == "no_healthy_endpoint"
    assert response.headers["x-router-attempts"] == "3"
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-router-decision-id"] == response.headers["request-id"]
    assert response.headers["x-router-policy"] == "knn@1"


async def test_a_request_the_upstream_rejects_is_a_plain_error_even_when_streaming(start):
    site = await start(echoes={"small": Echo(failure="bad_request")})
    response = await site.chat(EASY, stream=True)
    assert error_of(response, 400)["code"] == "bad_echo"
    assert len(site.echo.calls) == 1


async def pinged_twice(site) -> httpx.Response:
    """A streamed request whose upstream does nothing before two pings have come; the response, read to its end."""
    gate, lines = asyncio.Event(), []
    real_open = site.echo.open

    async def gated(endpoint, call, *, timeout_s):
        await gate.wait()
        return await real_open(endpoint, call, timeout_s=timeout_s)

    site.echo.open = gated
    body = {"model": "auto", "messages": [{"role": "user", "content": EASY}], "stream": True}
    async with site.client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            lines.append(line)
            if lines.count(": ping") == 2:
                gate.set()
    return httpx.Response(response.status_code, headers=response.headers, text="\n".join([*lines, ""]))


async def test_pings_keep_the_line_warm_until_the_first_content(start):
    site = await start(echoes={"small": Echo(text="at last")}, stream_ping_s=PING_S)
    response = await pinged_twice(site)
    before, after = response.text.split("data: ", 1)
    assert before.count(": ping\n\n") >= 2
    assert before.replace(": ping\n\n", "") == ""
    assert ": ping" not in after
    assert text_of(response.text) == "at last"
    assert payloads(response.text)[-1] == "[DONE]"
    assert response.headers["x-router-policy"] == "knn@1"
    assert response.headers["x-router-reason"] == "scored"
    assert "x-router-model" not in response.headers  # nobody knows yet who will answer


async def test_after_a_ping_a_failure_is_told_in_band(start):
    site = await start(echoes=dict.fromkeys(("small", "mid", "large"), Echo(failure="refused")), stream_ping_s=PING_S)
    response = await pinged_twice(site)
    assert response.status_code == 200
    [event] = payloads(response.text)
    assert event["error"]["code"] == "no_healthy_endpoint"
    assert set(event["error"]) == {"message", "type", "param", "code"}
    metrics = (await site.client.get("/metrics")).text
    labels = 'api="chat",model="other",policy="knn@1",provider="none",status_class="5xx",stream="true"'
    assert f"router_requests_total{{{labels}}} 1.0" in metrics


async def test_after_a_ping_the_upstreams_own_refusal_is_told_in_band(start):
    site = await start(echoes={"small": Echo(failure="bad_request")}, stream_ping_s=PING_S)
    [event] = payloads((await pinged_twice(site)).text)
    assert event["error"]["code"] == "bad_echo"


async def test_after_a_ping_an_unforeseen_failure_is_told_and_not_explained(start, caplog):
    site = await start(stream_ping_s=PING_S)

    async def broken(endpoint, call, *, timeout_s):
        raise KeyError("-".join(["the", "prompt"]))

    site.echo.open = broken
    [event] = payloads((await pinged_twice(site)).text)
    assert event["error"]["code"] == "internal_error"
    assert "the-prompt" not in event["error"]["message"] + caplog.text


async def left(site, *, stream, until):
    """Ask, and hang up once `until()` (checked after every line of a stream) or on the event given."""
    decision_id = None
    async with httpx.AsyncClient(base_url=site.url, headers=site.client.headers, trust_env=False) as client:
        body = {"model": "auto", "messages": [{"role": "user", "content": EASY}], "stream": stream}
        if stream:
            async with client.stream("POST", "/v1/chat/completions", json=body, timeout=30) as response:
                decision_id = response.headers["x-router-decision-id"]
                async for line in response.aiter_lines():
                    if until(line):
                        break
        else:
            asking = asyncio.ensure_future(client.post("/v1/chat/completions", json=body, timeout=30))
            await until.wait()
            asking.cancel()
            await asyncio.wait({asking})
    return decision_id


async def test_a_client_that_leaves_a_stream_stops_the_upstream_and_is_recorded(start, serve):
    async def endless(exchange):
        await exchange.start_stream()
        await exchange.chunk(sse(ROLE))
        for _ in range(2_000):
            await exchange.chunk(sse(delta(content="word ")))
            await asyncio.sleep(0.01)

    upstream = await serve(endless)
    pool = [endpoint("small", base_url=upstream.base_url)]
    site = await start(endpoints=pool, over_http=True)
    decision_id = await left(site, stream=True, until=lambda line: "word" in line)
    async with asyncio.timeout(20):
        await upstream.hung_up.wait()
    record = await settled(site, decision_id)
    [attempt] = record.attempts
    assert (attempt.status, attempt.error) == (200, "client_closed")
    assert attempt.cost_estimated
    assert attempt.cost_nusd > 0


async def test_a_client_that_leaves_during_pings_cancels_the_upstream_and_is_recorded(start):
    site = await start(echoes={"small": Echo(failure="hangs")}, stream_ping_s=PING_S)
    decision_id = await left(site, stream=True, until=lambda line: line == ": ping")
    record = await settled(site, decision_id)
    [attempt] = record.attempts
    assert attempt.error == "client_closed"


async def test_a_client_that_leaves_before_a_whole_answer_cancels_the_upstream_and_is_recorded(start):
    site = await start()
    asked = asyncio.Event()
    real_open = site.echo.open

    async def hanging(endpoint, call, *, timeout_s):
        asked.set()
        site.echo.echoes["small"] = Echo(latency_s=20)
        return await real_open(endpoint, call, timeout_s=timeout_s)

    site.echo.open = hanging
    await left(site, stream=False, until=asked)
    [(_, call)] = site.echo.calls
    record = await settled(site, call.query_id)
    [attempt] = record.attempts
    assert (attempt.status, attempt.error) == (0, "client_closed")
    assert len(site.echo.calls) == 1  # nobody else was asked in its place


async def test_a_client_that_left_before_the_stream_began_leaves_nothing_open(start):
    """The response is made, and the connection found closed, before the first event is asked for."""
    site = await start(echoes={"small": Echo(text="one two three")})
    app = site.app
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": EASY}], "stream": True}).encode()
    inbox = [{"type": "http.request", "body": body, "more_body": False}]
    gone = asyncio.Event()

    async def receive():
        if inbox:
            return inbox.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        gone.set()
        await asyncio.sleep(3600)  # a socket that takes nothing any more

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"authorization", f"Bearer {site.key}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    async with asyncio.timeout(20):
        await app(scope, receive, send)
    [(_, call)] = site.echo.calls
    record = await settled(site, call.query_id)
    assert [attempt.error for attempt in record.attempts] == ["client_closed"]
