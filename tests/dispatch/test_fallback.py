"""The walk from endpoint to endpoint until one answers, and what the client sees of it."""

import asyncio
import logging
from dataclasses import replace

import pytest

from router_gateway.core.errors import AllEndpointsFailed, UpstreamError, UpstreamRateLimited, UpstreamTimeout
from router_gateway.core.types import Usage
from router_gateway.dispatch.circuit import CircuitLimits, State
from router_gateway.dispatch.upstream import ContextLengthExceeded, UpstreamRefused
from tests.dispatch.conftest import (
    DONE,
    GOOD_STREAM,
    PROMPT,
    ROLE,
    SECRET,
    answering,
    call,
    collect,
    delta,
    endpoint,
    error,
    good_stream,
    good_whole,
    sse,
    stream_then_wait,
    text_of,
    usage_chunk,
)


async def role_then_drop(exchange):
    await exchange.start_stream()
    await exchange.chunk(sse(ROLE))
    await asyncio.sleep(0.05)
    exchange.drop()


async def drop(exchange):
    exchange.drop()


async def test_a_stream_is_forwarded_and_its_usage_chunk_kept_back(serve, dispatch, attempts):
    server = await serve(good_stream)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    assert answer.streamed
    assert attempts == []  # still running
    assert b"".join(await collect(answer)) == b"".join(GOOD_STREAM[:3]) + DONE
    await answer.aclose()
    (attempt,) = attempts
    assert attempt.usage == Usage(tokens_input=100, tokens_output=20)
    assert attempt.cost_nusd == 100 * 1000 + 20 * 4000
    assert attempt.error is None


async def test_a_client_that_asked_gets_the_usage_chunk(serve, dispatch, attempts):
    server = await serve(good_stream)
    sent = call(stream=True, stream_options={"include_usage": True})
    answer = await dispatch(endpoint(server.base_url)).send(["a"], sent, attempts.append)
    assert b"".join(await collect(answer)) == b"".join(GOOD_STREAM)


async def test_characters_cut_across_network_chunks_arrive_whole(serve, dispatch, attempts):
    raw = 'data: {"choices":[{"index":0,"delta":{"content":"naïve 漢字 😀"}}]}\n\n'.encode() + sse(delta("stop")) + DONE

    async def script(exchange):
        await exchange.stream(*(raw[i : i + 3] for i in range(0, len(raw), 3)))

    server = await serve(script)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    assert text_of(await collect(answer)) == "naïve 漢字 😀"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("bad", "code", "status"),
    [
        (answering(429, error("rate_limit_exceeded")), "rate_limit_exceeded", 429),
        (answering(500, error("boom")), "upstream_error", 500),
        (answering(401, error("invalid_api_key")), "upstream_error", 401),
        (answering(400, error("context_length_exceeded")), "context_length_exceeded", 400),
        (answering(200, error("boom")), "upstream_error", 200),
        (drop, "upstream_error", 0),
    ],
)
async def test_the_next_endpoint_answers(serve, dispatch, attempts, stream, bad, code, status):
    broken, good = await serve(bad), await serve(good_stream if stream else good_whole)
    dispatcher = dispatch(endpoint(broken.base_url), endpoint(good.base_url, "b"))
    answer = await dispatcher.send(["a", "b"], call(stream=stream), attempts.append)
    assert answer.endpoint.name == "b"
    if stream:
        assert text_of(await collect(answer)) == "Hello"
        assert len(good.exchanges) == 1
    assert [(each.number, each.endpoint, each.error) for each in attempts] == [(1, "a", code), (2, "b", None)]
    assert (attempts[0].status, attempts[0].cost_nusd) == (status, 0)
    assert good.exchanges[0].json["model"] == "model-b"


async def in_band_error(exchange):
    await exchange.stream(sse(ROLE, error("overloaded")))


async def no_finish(exchange):
    await exchange.stream(sse(ROLE))


async def only_done(exchange):
    await exchange.stream(sse(ROLE) + DONE)


async def html(exchange):
    await exchange.respond(b"<html></html>", kind="text/html")


@pytest.mark.parametrize("bad", [role_then_drop, in_band_error, no_finish, only_done, html])
async def test_a_stream_that_fails_before_content_is_not_seen_by_the_client(serve, dispatch, attempts, bad):
    broken, good = await serve(bad), await serve(good_stream)
    dispatcher = dispatch(endpoint(broken.base_url), endpoint(good.base_url, "b"))
    answer = await dispatcher.send(["a", "b"], call(stream=True), attempts.append)
    assert b"".join(await collect(answer)) == b"".join(GOOD_STREAM[:3]) + DONE
    assert [(each.endpoint, each.status, each.error) for each in attempts] == [
        ("a", 200, "upstream_error"),
        ("b", 200, None),
    ]


async def test_a_slow_first_token_moves_on(serve, dispatch, attempts):
    async def role_then_silence(exchange):
        await exchange.start_stream()
        for _ in range(100):
            await exchange.chunk(b": still thinking\n\n")  # a sign of life, but no token
            await asyncio.sleep(0.05)

    slow, good = await serve(role_then_silence), await serve(good_stream)
    dispatcher = dispatch(endpoint(slow.base_url, first_token_timeout_s=0.3), endpoint(good.base_url, "b"))
    answer = await dispatcher.send(["a", "b"], call(stream=True), attempts.append)
    assert text_of(await collect(answer)) == "Hello"
    assert [each.error for each in attempts] == ["upstream_timeout", None]
    assert attempts[0].cost_estimated
    await asyncio.wait_for(slow.hung_up.wait(), 5)


async def test_a_stream_that_ends_without_finish_broke_off(serve, dispatch, attempts):
    async def script(exchange):
        await exchange.stream(sse(ROLE, delta(content="half an ans")))

    server = await serve(script)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    with pytest.raises(UpstreamError, match="broke off"):
        await collect(answer)
    assert attempts[0].error == "upstream_error"


async def test_a_finished_stream_without_done_is_given_one(serve, dispatch, attempts):
    async def script(exchange):
        await exchange.stream(*GOOD_STREAM[:3])

    server = await serve(script)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    assert (await collect(answer))[-1] == DONE
    assert attempts[0].error is None


@pytest.mark.parametrize("stream", [False, True])
async def test_the_clients_own_mistake_is_answered_and_trips_nothing(serve, dispatch, attempts, stream):
    server = await serve(answering(400, error("bad_param", "top_p must be below 1")))
    dispatcher = dispatch(endpoint(server.base_url), circuit_limits=CircuitLimits(failures_max=1))
    answer = await dispatcher.send(["a"], call(stream=stream), attempts.append)
    assert answer.status == 400
    assert answer.payload["error"]["message"] == "top_p must be below 1"
    assert (attempts[0].status, attempts[0].error, attempts[0].cost_nusd) == (400, "bad_param", 0)
    assert dispatcher.circuit_states() == {"a": State.CLOSED}


async def test_a_context_length_refusal_trips_nothing_and_stays_a_400(serve, dispatch, attempts):
    server = await serve(answering(400, error("context_length_exceeded")))
    names = ("a", "b")
    dispatcher = dispatch(
        *(endpoint(server.base_url, name) for name in names), circuit_limits=CircuitLimits(failures_max=1)
    )
    with pytest.raises(ContextLengthExceeded):
        await dispatcher.send(names, call(), attempts.append)
    assert set(dispatcher.circuit_states().values()) == {State.CLOSED}


async def test_errors_when_all_fail(serve, dispatch, attempts):
    limited = await serve(answering(429, error("x"), headers=[("retry-after", "4")]))
    broken = await serve(answering(503, error("y")))
    pool = [endpoint(limited.base_url), endpoint(limited.base_url, "b"), endpoint(broken.base_url, "c")]
    with pytest.raises(UpstreamRefused):
        await dispatch(*pool).send(["c"], call(), attempts.append)
    with pytest.raises(UpstreamRateLimited) as caught:
        await dispatch(*pool).send(["a", "b"], call(), attempts.append)
    assert caught.value.retry_after_s == 4
    with pytest.raises(AllEndpointsFailed, match=r"a \(rate_limit_exceeded\), c \(upstream_error\)"):
        await dispatch(*pool).send(["a", "c", "a"], call(), attempts.append)
    with pytest.raises(AllEndpointsFailed):
        await dispatch(*pool).send(["unknown"], call(), attempts.append)
    assert len(attempts) == 1 + 2 + 2


async def test_an_open_circuit_is_skipped_unless_all_are_open(serve, dispatch, attempts):
    server = await serve(answering(503, error("y")))
    good = await serve(good_whole)
    limits = CircuitLimits(failures_max=2)
    dispatcher = dispatch(endpoint(server.base_url), endpoint(good.base_url, "b"), circuit_limits=limits)
    for _ in range(3):
        await dispatcher.send(["a", "b"], call(), attempts.append)
    assert len(server.exchanges) == 2
    assert dispatcher.circuit_states() == {"a": State.OPEN, "b": State.CLOSED}
    with pytest.raises(UpstreamRefused):
        await dispatcher.send(["a"], call(), attempts.append)
    assert len(server.exchanges) == 3


async def test_the_deadline_covers_all_tries_and_blames_no_endpoint(serve, dispatch, attempts):
    async def silent(exchange):
        await asyncio.sleep(30)

    server = await serve(silent)
    pool = [endpoint(server.base_url, name) for name in "abc"]
    dispatcher = dispatch(*pool, circuit_limits=CircuitLimits(failures_max=1))
    with pytest.raises(UpstreamTimeout):
        await dispatcher.send(["a", "b", "c"], call(deadline_s=0.3), attempts.append)
    assert [each.endpoint for each in attempts] == ["a"]
    assert set(dispatcher.circuit_states().values()) == {State.CLOSED}


async def test_the_deadline_cuts_a_running_stream(serve, dispatch, attempts):
    server = await serve(stream_then_wait)
    sent = call(stream=True, deadline_s=0.5)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], sent, attempts.append)
    with pytest.raises(UpstreamTimeout):
        await collect(answer)
    assert attempts[0].error == "upstream_timeout"
    await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_a_hundred_streams_at_once(serve, dispatch, attempts):
    async def script(exchange):
        await exchange.start_stream()
        asked = exchange.json["messages"][0]["content"]
        for word in asked.split():
            await exchange.chunk(sse(delta(content=word)))
            await asyncio.sleep(0)
        await exchange.chunk(sse(delta("stop"), usage_chunk(prompt_tokens=10, completion_tokens=3)) + DONE)
        await exchange.end_stream()

    server = await serve(script)
    dispatcher = dispatch(endpoint(server.base_url))

    async def client(i):
        sent = call(stream=True, messages=[{"role": "user", "content": f"stream number {i}"}])
        answer = await dispatcher.send(["a"], sent, attempts.append)
        return text_of(await collect(answer))

    texts = await asyncio.gather(*(client(i) for i in range(100)))
    assert texts == [f"streamnumber{i}" for i in range(100)]
    assert [each.cost_nusd for each in attempts] == [10 * 1000 + 3 * 4000] * 100
    assert len({each.query_id for each in attempts}) == 100


async def test_errors_and_logs_hold_neither_prompt_nor_key(serve, dispatch, attempts, caplog):
    caplog.set_level(logging.DEBUG)

    async def leaky(exchange):
        text = f"{PROMPT} {exchange.headers['authorization']}"
        await exchange.stream(sse(ROLE, error("boom", text)))

    leaking = await serve(leaky)
    pool = [endpoint(leaking.base_url), replace(endpoint(leaking.base_url), name="b")]
    with pytest.raises(UpstreamError) as caught:
        await dispatch(pool[0]).send(["a"], call(stream=True), attempts.append)
    told = f"{caught.value} {caplog.text} {attempts}"
    assert SECRET not in told
    assert PROMPT not in told
