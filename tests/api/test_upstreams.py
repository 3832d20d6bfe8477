"""Real HTTP on both sides: what the endpoints' misbehaviour looks like to the client."""

import asyncio
import json

import pytest

from tests.api.building import EASY, PROVIDER_KEYS, endpoint, error_of, payloads, text_of
from tests.dispatch.conftest import GOOD_STREAM, ROLE, delta, error, good_stream, good_whole, sse, whole

HTML = b"<html><body>Please log in</body></html>"


async def html(exchange):
    await exchange.respond(HTML, kind="text/html")


def pool(first, second):
    return [endpoint("small", base_url=first.base_url), endpoint("mid", base_url=second.base_url)]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_endpoint_that_answers_a_login_page_is_passed_over(start, serve, stream):
    bad, good = await serve(html), await serve(good_stream if stream else good_whole)
    site = await start(endpoints=pool(bad, good), over_http=True)
    response = await site.chat(EASY, stream=stream)
    assert response.status_code == 200
    said = text_of(response.text) if stream else response.json()["choices"][0]["message"]["content"]
    assert said.lower() == "hello"
    assert response.headers["x-router-model"] == "mid"
    assert (len(bad.exchanges), len(good.exchanges)) == (1, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_when_all_answer_login_pages_the_client_gets_503_and_is_told_not_to_retry(start, serve, stream):
    one, two = await serve(html), await serve(html)
    site = await start(endpoints=pool(one, two), over_http=True)
    response = await site.chat(EASY, stream=stream)
    told = error_of(response, 503)
    assert (told["type"], told["code"]) == ("server_error", "no_healthy_endpoint")
    assert response.headers["x-should-retry"] == "false"
    assert "log in" not in told["message"]
    record = await site.record_of(response)
    assert [(a.endpoint, a.cost_nusd) for a in record.attempts] == [("small", 0), ("mid", 0)]


async def test_the_body_goes_out_as_it_came_but_for_the_model_and_our_own_fields(start, serve):
    upstream = await serve(good_whole)
    site = await start(endpoints=[endpoint("small", base_url=upstream.base_url)], over_http=True)
    raw = (
        b'{"model": "auto", "temperature": 0.10, "seed": 1e2, "routing": {"explain": false},\n'
        b' "messages": [ {"role": "user", "content": "h\\u00e9"} ], "x_unknown": [1,  2]}'
    )
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await site.post(raw, traceparent=trace, cookie="a=b")
    assert response.status_code == 200
    [exchange] = upstream.exchanges
    assert exchange.path == "/v1/chat/completions"
    sent = exchange.body
    assert sent.startswith(b'{"model": "maker/small-model", "temperature": 0.10, "seed": 1e2,')
    assert b'"content": "h\\u00e9"' in sent
    assert b'"x_unknown": [1,  2]' in sent
    assert b"routing" not in sent
    assert exchange.headers["authorization"] == f"Bearer {PROVIDER_KEYS['small']}"
    assert exchange.headers["traceparent"] == trace
    assert "cookie" not in exchange.headers
    assert site.key not in json.dumps(exchange.headers)
    assert exchange.headers["x-client-request-id"] == response.headers["x-router-decision-id"]


async def test_an_upstream_that_dies_in_mid_stream_becomes_an_error_event(start, serve):
    async def dies(exchange):
        await exchange.start_stream()
        await exchange.chunk(sse(ROLE, delta(content="Hel")))
        exchange.drop()

    dying, other = await serve(dies), await serve(good_stream)
    site = await start(endpoints=pool(dying, other), over_http=True)
    response = await site.chat(EASY, stream=True)
    *chunks, last = payloads(response.text)
    assert chunks[-1]["choices"][0]["delta"]["content"] == "Hel"
    assert last["error"]["code"] == "upstream_error"
    assert "[DONE]" not in response.text
    assert other.exchanges == []  # what is out cannot be taken back: nobody else may go on


async def test_a_rate_limit_everywhere_is_429_with_the_shortest_pause(start, serve):
    async def limited(exchange):
        pause = "7" if "small" in exchange.json["model"] else "3"
        await exchange.respond_json(error("rate_limit_exceeded"), status=429, headers=[("retry-after", pause)])

    one, two = await serve(limited), await serve(limited)
    site = await start(endpoints=pool(one, two), over_http=True)
    response = await site.chat(EASY)
    told = error_of(response, 429)
    assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert response.headers["retry-after"] == "3"


async def test_a_rate_limit_without_a_pause_still_names_one(start, serve):
    async def limited(exchange):
        await exchange.respond_json(error("rate_limit_exceeded"), status=429)

    one, two = await serve(limited), await serve(limited)
    site = await start(endpoints=pool(one, two), over_http=True)
    response = await site.chat(EASY)
    error_of(response, 429)
    assert response.headers["retry-after"] == "1"
    assert "x-should-retry" not in response.headers


async def test_what_the_upstream_says_of_a_bad_request_reaches_the_client_without_the_providers_key(start, serve):
    async def rejects(exchange):
        message = f"unknown field, says {PROVIDER_KEYS['small']}"
        await exchange.respond_json(error("unknown_parameter", message), status=400)

    one, two = await serve(rejects), await serve(good_whole)
    site = await start(endpoints=pool(one, two), over_http=True)
    response = await site.chat(EASY)
    told = error_of(response, 400)
    assert (told["code"], told["message"]) == ("unknown_parameter", "unknown field, says [redacted]")
    assert two.exchanges == []
    assert response.headers["x-router-model"] == "small"


async def test_an_upstreams_own_error_codes_do_not_become_metric_labels(start, serve):
    async def rejects(exchange):
        await exchange.respond_json(error("a_word_of_its_own"), status=400)

    one, two = await serve(rejects), await serve(rejects)
    site = await start(endpoints=pool(one, two), over_http=True)
    await site.chat(EASY)
    exposed = (await site.client.get("/metrics")).text
    assert "a_word_of_its_own" not in exposed
    assert 'outcome="refused"' in exposed


async def test_a_deadline_bounds_the_whole_call(start, serve):
    async def silent(exchange):
        await asyncio.sleep(60)

    one, two = await serve(silent), await serve(silent)
    site = await start(endpoints=pool(one, two), over_http=True)
    response = await site.chat(EASY, routing={"deadline_ms": 200})
    told = error_of(response, 504)
    assert (told["type"], told["code"]) == ("timeout_error", "upstream_timeout")
    assert response.headers["x-should-retry"] == "false"


async def test_a_chunk_cut_anywhere_arrives_whole(start, serve):
    whole_stream = b"".join(GOOD_STREAM)

    async def dribbles(exchange):
        await exchange.start_stream()
        for cut in range(0, len(whole_stream), 7):
            await exchange.chunk(whole_stream[cut : cut + 7])
        await exchange.end_stream()

    upstream = await serve(dribbles)
    site = await start(endpoints=[endpoint("small", base_url=upstream.base_url)], over_http=True)
    response = await site.chat(EASY, stream=True)
    assert text_of(response.text) == "Hello"
    assert payloads(response.text)[-1] == "[DONE]"


@pytest.mark.parametrize("extra", [b'"x": NaN', b'"choices": [], "choices": []'])
async def test_an_answer_that_cannot_be_amended_goes_out_unexplained_rather_than_not_at_all(start, serve, extra):
    async def odd(exchange):
        await exchange.respond(json.dumps(whole()).encode()[:-1] + b", " + extra + b"}")

    upstream = await serve(odd)
    site = await start(endpoints=[endpoint("small", base_url=upstream.base_url)], over_http=True)
    response = await site.chat(EASY, routing={"explain": True})
    assert response.status_code == 200
    assert extra in response.content
    assert b'"routing"' not in response.content
