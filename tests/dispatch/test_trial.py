"""What one try costs, and how its end is recorded, whoever ends it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from router_gateway.core.errors import UpstreamError
from router_gateway.core.prices import PriceChange
from router_gateway.core.types import Usage
from router_gateway.dispatch.circuit import CircuitLimits, State
from router_gateway.dispatch.usage import count_request_tokens, count_tokens
from tests.dispatch.conftest import (
    DONE,
    GOOD_STREAM,
    ROLE,
    answering,
    call,
    collect,
    delta,
    endpoint,
    events_of,
    good_stream,
    good_whole,
    sse,
    stream_then_drop,
    stream_then_wait,
    text_of,
    usage_chunk,
    whole,
)


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


async def test_no_usage_is_counted_instead(serve, dispatch, attempts):
    payload = whole("nine words or so are in this short answer")
    del payload["usage"]
    server = await serve(answering(200, payload))
    sent = call()
    await dispatch(endpoint(server.base_url)).send(["a"], sent, attempts.append)
    assert attempts[0].usage is None
    assert attempts[0].cost_estimated
    assert attempts[0].cost_nusd == owed_nusd(sent, count_tokens("nine words or so are in this short answer"))


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
