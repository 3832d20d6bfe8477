import asyncio
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from router_gateway.core.errors import AllEndpointsFailed, UpstreamError, UpstreamRateLimited, UpstreamTimeout
from router_gateway.core.prices import PriceChange
from router_gateway.core.types import Usage
from router_gateway.dispatch.circuit import CircuitLimits, State
from router_gateway.dispatch.upstream import ContextLengthExceeded, UpstreamRefused
from router_gateway.dispatch.usage import count_request_tokens, count_tokens
from tests.dispatch.conftest import (
    DONE,
    GOOD_STREAM,
    PROMPT,
    ROLE,
    SECRET,
    call,
    collect,
    delta,
    endpoint,
    error,
    events_of,
    good_stream,
    good_whole,
    sse,
    text_of,
    usage_chunk,
    whole,
)


def answering(status, payload, **options):
    async def script(exchange):
        await exchange.respond_json(payload, status=status, **options)

    return script


async def stream_then_drop(exchange):
    await exchange.start_stream()
    await exchange.chunk(sse(ROLE, delta(content="some words came")))
    await asyncio.sleep(0.05)
    exchange.drop()


async def role_then_drop(exchange):
    await exchange.start_stream()
    await exchange.chunk(sse(ROLE))
    await asyncio.sleep(0.05)
    exchange.drop()


async def stream_then_wait(exchange):
    await exchange.start_stream()
    await exchange.chunk(sse(ROLE, delta(content="some words came")))


async def drop(exchange):
    exchange.drop()


@pytest.fixture
def attempts():
    return []


def owed_nusd(sent, tokens_output):
    return count_request_tokens(sent.body) * 1000 + tokens_output * 4000


async def test_a_whole_answer_is_priced_exactly_with_cached_tokens(serve, dispatch, attempts):
    counts = {"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 600}}
    server = await serve(answering(200, whole("hi", **counts)))
    sent = call()
    answer = await dispatch(endpoint(server.base_url)).send(["a"], sent, attempts.append)
    assert json.loads(answer.content) == answer.payload
    assert (answer.status, answer.endpoint.name, answer.streamed) == (200, "a", False)
    (attempt,) = attempts
    assert attempt.usage == Usage(tokens_input=400, tokens_cached_input=600, tokens_output=50)
    assert attempt.cost_nusd == 400 * 1000 + 600 * 100 + 50 * 4000
    assert not attempt.cost_estimated
    assert (attempt.query_id, attempt.number, attempt.status, attempt.error) == (sent.query_id, 1, 200, None)
    assert 0 < attempt.first_byte_ms <= attempt.latency_ms


async def test_a_try_costs_what_was_in_force_when_it_started(serve, dispatch, attempts):
    now = datetime.now(UTC)
    changes = [
        PriceChange(
            at=at,
            price_input_usd_per_mtok=Decimal(usd),
            price_output_usd_per_mtok=Decimal(usd),
            price_cached_input_usd_per_mtok=Decimal(usd),
            price_cache_write_usd_per_mtok=Decimal(usd),
        )
        for at, usd in ((now - timedelta(days=1), 7), (now + timedelta(days=1), 9))
    ]
    server = await serve(answering(200, whole("hi", prompt_tokens=10, completion_tokens=5)))
    await dispatch(endpoint(server.base_url, price_changes=tuple(changes))).send(["a"], call(), attempts.append)
    assert attempts[0].cost_nusd == 15 * 7_000


@pytest.mark.parametrize(
    ("usage", "headers", "provider_cost_nusd"),
    [
        ({}, (), None),
        ({"cost": 0.0021}, (), 2_100_000),
        ({}, (("x-litellm-response-cost", "0.0022"),), 2_200_000),
        ({"cost": 0.0021}, (("x-litellm-response-cost", "0.0022"),), 2_100_000),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_provider_says_it_costs_is_kept_beside_and_never_mixed_in(
    serve, dispatch, attempts, stream, usage, headers, provider_cost_nusd
):
    counts = {"prompt_tokens": 10, "completion_tokens": 5, **usage}

    async def script(exchange):
        if not stream:
            await exchange.respond_json(whole("hi", **counts), headers=headers)
            return
        told = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{told}transfer-encoding: chunked\r\n\r\n"
        await exchange.send(head.encode())
        await exchange.chunk(sse(ROLE, delta(content="hi"), delta("stop"), usage_chunk(**counts)) + DONE)
        await exchange.end_stream()

    server = await serve(script)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=stream), attempts.append)
    if stream:
        await collect(answer)
    (attempt,) = attempts
    assert (attempt.cost_nusd, attempt.provider_cost_nusd) == (10 * 1000 + 5 * 4000, provider_cost_nusd)
    assert not attempt.cost_estimated


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


async def test_tool_call_deltas_pass(serve, dispatch, attempts):
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "moons", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"of":"Jupiter"}'}}
    raw = sse(ROLE, delta(tool_calls=[first]), delta(tool_calls=[more]), delta("tool_calls")) + DONE

    async def script(exchange):
        await exchange.stream(raw)

    server = await serve(script)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    assert b"".join(await collect(answer)) == raw
    assert attempts[0].cost_estimated
    assert attempts[0].cost_nusd > owed_nusd(call(), 4)


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


async def test_an_endpoint_that_cannot_be_reached_costs_nothing(serve, dispatch, attempts, deaf_url):
    good = await serve(good_whole)
    dispatcher = dispatch(endpoint(deaf_url, connect_timeout_s=0.2), endpoint(good.base_url, "b"))
    await dispatcher.send(["a", "b"], call(), attempts.append)
    assert (attempts[0].error, attempts[0].cost_nusd, attempts[0].cost_estimated) == ("upstream_timeout", 0, False)


async def test_dying_after_content_raises_after_the_events_and_is_estimated(serve, dispatch, attempts):
    broken, good = await serve(stream_then_drop), await serve(good_stream)
    dispatcher = dispatch(endpoint(broken.base_url), endpoint(good.base_url, "b"))
    sent = call(stream=True)
    answer = await dispatcher.send(["a", "b"], sent, attempts.append)
    seen = []
    with pytest.raises(UpstreamError, match="endpoint a"):  # noqa: PT012 - what comes before the error counts
        async for event in events_of(answer):
            seen.append(event)
    assert text_of(seen) == "some words came"
    assert good.exchanges == []
    (attempt,) = attempts
    assert attempt.error == "upstream_error"
    assert attempt.usage is None
    assert attempt.cost_estimated
    assert attempt.cost_nusd == owed_nusd(sent, count_tokens("some words came"))
    assert attempt.first_byte_ms is not None


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


async def test_no_usage_is_counted_instead(serve, dispatch, attempts):
    payload = whole("nine words or so are in this short answer")
    del payload["usage"]
    server = await serve(answering(200, payload))
    sent = call()
    await dispatch(endpoint(server.base_url)).send(["a"], sent, attempts.append)
    assert attempts[0].usage is None
    assert attempts[0].cost_estimated
    assert attempts[0].cost_nusd == owed_nusd(sent, count_tokens("nine words or so are in this short answer"))


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


async def test_a_client_that_leaves_stops_the_upstream_and_pays_for_what_came(serve, dispatch, attempts):
    server = await serve(stream_then_wait)
    dispatcher = dispatch(endpoint(server.base_url), circuit_limits=CircuitLimits(failures_max=1))
    sent = call(stream=True)
    answer = await dispatcher.send(["a"], sent, attempts.append)
    events = events_of(answer)
    assert b"role" in await anext(events)
    await answer.aclose()
    await asyncio.wait_for(server.hung_up.wait(), 5)
    await events.aclose()
    await answer.aclose()
    (attempt,) = attempts
    assert (attempt.error, attempt.status, attempt.usage) == ("client_closed", 200, None)
    assert attempt.cost_nusd == owed_nusd(sent, count_tokens("some words came"))
    assert dispatcher.circuit_states() == {"a": State.CLOSED}


async def test_an_answer_never_read_is_recorded_on_close(serve, dispatch, attempts):
    server = await serve(stream_then_wait)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    await answer.aclose()
    assert [each.error for each in attempts] == ["client_closed"]
    await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_a_generator_dropped_half_way_is_recorded_once(serve, dispatch, attempts):
    server = await serve(stream_then_wait)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    events = events_of(answer)
    await anext(events)
    await events.aclose()  # GeneratorExit
    assert [each.error for each in attempts] == ["client_closed"]
    await asyncio.wait_for(server.hung_up.wait(), 5)


async def never_answer(exchange):
    await asyncio.sleep(0)


@pytest.mark.parametrize("script", [stream_then_wait, never_answer])
async def test_a_cancelled_task_is_recorded_once(serve, dispatch, attempts, script):
    server = await serve(script)

    async def client():
        answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
        await collect(answer)

    task = asyncio.ensure_future(client())
    while not server.exchanges:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [each.error for each in attempts] == ["client_closed"]
    assert attempts[0].cost_estimated
    await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_hanging_up_on_done_is_success(serve, dispatch, attempts):
    server = await serve(good_stream)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    events = events_of(answer)
    async for event in events:
        if event == DONE:
            break
    await events.aclose()
    await answer.aclose()
    assert [each.error for each in attempts] == [None]


async def test_a_connection_that_breaks_after_done_is_no_error(serve, dispatch, attempts):
    async def script(exchange):
        await exchange.start_stream()
        await exchange.chunk(b"".join(GOOD_STREAM))
        await asyncio.sleep(0.05)
        exchange.drop()

    server = await serve(script)
    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), attempts.append)
    assert (await collect(answer))[-1] == DONE
    assert [each.error for each in attempts] == [None]


async def test_a_recorder_that_fails_still_closes_the_upstream(serve, dispatch):
    server = await serve(stream_then_wait)

    def full(attempt):
        raise OSError("disk full")

    answer = await dispatch(endpoint(server.base_url)).send(["a"], call(stream=True), full)
    with pytest.raises(OSError, match="disk full"):
        await answer.aclose()
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


async def test_a_whole_answer_that_makes_no_sense_after_its_200_is_probably_billed(serve, dispatch, attempts):
    """Money never fails silently: the endpoint did work, whatever became of its bytes."""

    async def cut_short(exchange):
        await exchange.respond(b'{"choices": [{"message": {"content": "Hel', kind="application/json")

    broken, good = await serve(cut_short), await serve(good_whole)
    dispatcher = dispatch(endpoint(broken.base_url), endpoint(good.base_url, "b"))
    answer = await dispatcher.send(["a", "b"], call(), attempts.append)
    assert answer.endpoint.name == "b"
    assert attempts[0].error == "upstream_error"
    assert attempts[0].cost_estimated
    assert attempts[0].cost_nusd > 0
