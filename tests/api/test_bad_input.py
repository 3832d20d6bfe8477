"""What a client can get wrong, each answered in OpenAI's error shape, naming the field."""

import asyncio
import json

import httpx
import pytest

from tests.api.building import EASY, endpoint, error_of

MESSAGES = [{"role": "user", "content": "hi"}]


def ask(**members):
    return {"model": "auto", "messages": MESSAGES, **members}


MALFORMED = [
    b"",
    b"not json",
    b"[1, 2]",
    b'"text"',
    b"null",
    b'{"model": "auto",',
    b'{"model": "auto", "messages": [}',
    b'{"model": "auto", "model": "mid", "messages": []}',
    b'{"model": "auto", "temperature": NaN, "messages": [{"role": "user", "content": "hi"}]}',
    b'{"model": "auto", "routing": {"worth_usd": Infinity}, "messages": [{"role": "user", "content": "hi"}]}',
    b'{"model": "auto", "messages": "\xff\xfe"}',
    b"[" * 100_000,
    b'{"model": ' + b"9" * 5_000 + b"}",
]


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
async def test_what_is_not_a_json_object_is_refused(site, raw):
    error = error_of(await site.post(raw), 400)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert site.echo.calls == []


WRONG = [
    ({"messages": MESSAGES}, "model", "missing_required_parameter"),
    (ask(model=7), "model", "invalid_type"),
    (ask(model=""), "model", "invalid_type"),
    (ask(model=None), "model", "invalid_type"),
    (ask(model="m" * 100_000), "model", "invalid_type"),
    ({"model": "auto"}, "messages", "missing_required_parameter"),
    (ask(messages=None), "messages", "invalid_type"),
    (ask(messages="hi"), "messages", "invalid_type"),
    (ask(messages={}), "messages", "invalid_type"),
    (ask(messages=[]), "messages", "invalid_request"),
    (ask(messages=MESSAGES * 10_001), "messages", "invalid_request"),
    (ask(messages=["hi"]), "messages[0]", "invalid_request"),
    (ask(messages=[*MESSAGES, {"content": "hi"}]), "messages[1].role", "invalid_request"),
    (ask(messages=[{"role": "robot", "content": "hi"}]), "messages[0].role", "invalid_request"),
    (ask(messages=[{"role": {}, "content": "hi"}]), "messages[0].role", "invalid_request"),
    (ask(messages=[{"role": "user", "content": 5}]), "messages[0].content", "invalid_request"),
    (ask(messages=[{"role": "user", "content": ["hi"]}]), "messages[0].content[0]", "invalid_request"),
    (ask(max_tokens=0), "max_tokens", "invalid_request"),
    (ask(max_tokens=1.5), "max_tokens", "invalid_request"),
    (ask(max_tokens=True), "max_tokens", "invalid_request"),
    (ask(max_tokens=10**400), "max_tokens", "invalid_request"),
    (ask(max_completion_tokens="9"), "max_completion_tokens", "invalid_request"),
    (ask(stream="yes"), "stream", "invalid_request"),
    (ask(stream=1), "stream", "invalid_request"),
    (ask(stream=True, stream_options=[]), "stream_options", "invalid_request"),
    (ask(tools={}), "tools", "invalid_request"),
    (ask(routing=[]), "routing", "invalid_request"),
    (ask(routing={"worth_usd": "much"}), "routing.worth_usd", "invalid_request"),
    (ask(routing={"worth_usd": True}), "routing.worth_usd", "invalid_request"),
    (ask(routing={"worth_usd": 0}), "routing.worth_usd", "invalid_request"),
    (ask(routing={"worth_usd": -1}), "routing.worth_usd", "invalid_request"),
    (ask(routing={"worth_usd": 1e-300}), "routing.worth_usd", "invalid_request"),
    (ask(routing={"worth_usd": 10**400}), "routing.worth_usd", "invalid_request"),
    (ask(routing={"quality_floor": 1.1}), "routing.quality_floor", "invalid_request"),
    (ask(routing={"quality_floor": -0.1}), "routing.quality_floor", "invalid_request"),
    (ask(routing={"max_cost_usd": -1}), "routing.max_cost_usd", "invalid_request"),
    (ask(routing={"max_cost_usd": []}), "routing.max_cost_usd", "invalid_request"),
    (ask(routing={"deadline_ms": 0}), "routing.deadline_ms", "invalid_request"),
    (ask(routing={"deadline_ms": 1e308}), "routing.deadline_ms", "invalid_request"),
    (ask(routing={"allowed_models": "mid"}), "routing.allowed_models", "invalid_request"),
    (ask(routing={"allowed_models": [1]}), "routing.allowed_models", "invalid_request"),
    (ask(routing={"allowed_models": ["g"] * 101}), "routing.allowed_models", "invalid_request"),
    (ask(routing={"ignore": 0}), "routing.ignore", "invalid_request"),
    (ask(routing={"ignore": ["g" * 300]}), "routing.ignore", "invalid_request"),
    (ask(routing={"explore": "no"}), "routing.explore", "invalid_request"),
    (ask(routing={"explain": 1}), "routing.explain", "invalid_request"),
    (ask(routing={"policy": 1}), "routing.policy", "invalid_request"),
    (ask(routing={"session_id": ""}), "routing.session_id", "invalid_request"),
    (ask(routing={"region": {}}), "routing.region", "invalid_request"),
    (ask(routing={"data_collection": "maybe"}), "routing.data_collection", "invalid_request"),
    (ask(routing={"worthusd": 1}), "routing.worthusd", "unsupported_parameter"),
    (ask(routing={"task": "code"}), "routing.task", "unsupported_parameter"),
    (ask(model="auto:nitro"), "model", "invalid_request"),
    (ask(model="auto:nitro", routing={"worth_usd": 1}), "model", "invalid_request"),
]


@pytest.mark.parametrize(("body", "param", "code"), WRONG, ids=[f"{i}-{each[1]}" for i, each in enumerate(WRONG)])
async def test_each_wrong_field_is_named(site, body, param, code):
    error = error_of(await site.post(json.dumps(body).encode()), 400)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert len(error["message"]) < 500
    assert site.echo.calls == []
    assert await site.rows() == {"decisions": 0, "attempts": 0, "feedback": 0}


async def test_a_name_that_utf8_cannot_carry_is_told_all_the_same(site):
    raw = b'{"model": "auto", "routing": {"\\ud800' + b"x" * 1000 + b'": 1}, "messages": [{"role": "user"}]}'
    error = error_of(await site.post(raw), 400)
    assert error["code"] == "unsupported_parameter"
    assert len(error["message"]) < 500


@pytest.mark.parametrize("model", ["gpt-nothing", "knn@2", "nobody@1", "\ud800", "AUTO", "small "])
async def test_an_unknown_model_is_not_found(site, model):
    error = error_of(await site.post(json.dumps(ask(model=model)).encode()), 404)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")


@pytest.mark.parametrize("policy", ["nobody", "knn@2", "knn@", "small"])
async def test_an_unknown_policy_is_not_found(site, policy):
    found = await site.chat(EASY, routing={"policy": policy})
    if policy == "knn@":
        assert found.status_code == 200
        return
    error = error_of(found, 404)
    assert (error["param"], error["code"]) == ("routing.policy", "model_not_found")


async def test_the_hint_at_known_models_keeps_to_what_the_key_may_use(site):
    site.client.headers["authorization"] = "Bearer " + site.keys.create("limited", allows=["small"])
    message = error_of(await site.chat(EASY, model="nope"), 404)["message"]
    assert "small" in message
    assert "large" not in message


@pytest.mark.parametrize("text", ["a\0b", "\ud800 alone", "\udfff\ud800", "\u202e", "\U0001f600" * 100, " "])
async def test_odd_characters_are_answered_and_recorded(start, text):
    site = await start(store_text=True)
    response = await site.post(json.dumps(ask(messages=[{"role": "user", "content": text}])).encode())
    assert response.status_code == 200, response.text
    record = await site.record_of(response)
    assert "\0" not in (record.text or "")
    assert record.attempts[0].status == 200


async def test_a_long_prompt_goes_where_it_fits(site):
    response = await site.chat("lorem ipsum " * 16_667, routing={"worth_usd": 1e-6})
    assert response.status_code == 200
    assert response.headers["x-router-model"] in ("mid", "large")
    record = await site.record_of(response)
    assert record.decision.eligible[0] is False


async def test_a_prompt_longer_than_every_context_is_refused(start):
    site = await start(endpoints=[endpoint("small"), endpoint("mid", context_tokens_max=16_000)])
    error = error_of(await site.chat("lorem ipsum " * 16_667), 400)
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
    assert site.echo.calls == []


async def test_a_request_left_with_one_endpoint_by_its_length_says_so(site):
    response = await site.chat("lorem ipsum " * 100_000)
    assert response.headers["x-router-model"] == "large"
    assert response.headers["x-router-reason"] == "fallback:context"


async def test_ten_megabytes_within_the_bound_are_read_and_counted(site):
    error = error_of(await site.chat("lorem ipsum " * 850_000), 400)
    assert error["code"] == "context_length_exceeded"


async def test_a_body_beyond_the_bound_is_refused_by_its_declared_length(start):
    site = await start(body_bytes_max=4_096)
    error = error_of(await site.chat("x" * 5_000), 413)
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")


async def test_a_body_beyond_the_bound_is_refused_by_its_real_length(start):
    site = await start(body_bytes_max=4_096)

    async def pieces():
        for _ in range(5):
            yield b"x" * 1_000

    response = await site.client.post("/v1/chat/completions", content=pieces())
    assert "content-length" not in response.request.headers
    assert error_of(response, 413)["code"] == "request_too_large"


async def test_a_declared_ten_megabytes_are_not_waited_for(start):
    site = await start(body_bytes_max=4_096)
    host, port = site.client.base_url.host, site.client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {site.key}\r\n"
    writer.write(head.encode() + b"content-length: 10000000\r\n\r\n")
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_leaves_while_it_sends_is_no_error(site, caplog):
    host, port = site.client.base_url.host, site.client.base_url.port
    _, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {site.key}\r\n"
    writer.write(head.encode() + b"content-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await site.chat(EASY)).status_code == 200
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/chat/completions/extra", "/docs/../etc/passwd"])
async def test_an_unknown_path_has_the_same_error_shape(site, path):
    error = error_of(await site.client.get(path), 404)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/chat/completions"), ("DELETE", "/v1/models"), ("PUT", "/health")]
)
async def test_a_wrong_method_has_the_same_error_shape(site, method, path):
    response = await site.client.request(method, path)
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"]


async def test_a_model_the_key_may_not_use_is_forbidden(site):
    site.client.headers["authorization"] = "Bearer " + site.keys.create("limited", allows=["s*", "maker/mid-*"])
    error = error_of(await site.chat(EASY, model="large"), 403)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_allowed")
    for allowed in ("small", "mid", "maker/mid-model"):
        assert (await site.chat(EASY, model=allowed)).status_code == 200


async def test_routing_keeps_to_what_the_key_may_use(site):
    site.client.headers["authorization"] = "Bearer " + site.keys.create("limited", allows=["small", "mid"])
    response = await site.chat("Summarise the indemnity clause of this contract.")
    assert response.headers["x-router-model"] == "mid"


async def test_a_key_whose_globs_leave_nothing_is_told(site):
    site.client.headers["authorization"] = "Bearer " + site.keys.create("odd", allows=["nothing-*"])
    error = error_of(await site.chat(EASY), 400)
    assert (error["param"], error["code"]) == ("model", "no_eligible_endpoint")


async def test_a_capability_that_no_endpoint_offers_is_named(start):
    site = await start(endpoints=[endpoint("small"), endpoint("plain")])
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    error = error_of(await site.chat(EASY, tools=[tool]), 400)
    assert error["code"] == "unsupported_parameter"
    assert "tools" in error["message"]
    assert site.echo.calls == []


async def test_more_requests_than_the_bound_are_refused_but_probes_are_answered(start):
    site = await start(requests_in_flight_max=1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def blocked(endpoint, call, *, timeout_s):
        entered.set()
        await leave.wait()
        return await type(site.echo).open(site.echo, endpoint, call, timeout_s=timeout_s)

    site.echo.open = blocked
    first = asyncio.ensure_future(site.chat(EASY))
    await entered.wait()
    refused = await site.chat(EASY)
    assert error_of(refused, 503)["code"] == "overloaded"
    assert refused.headers["retry-after"] == "5"
    assert (await site.client.get("/health/live")).status_code == 200
    leave.set()
    assert (await first).status_code == 200
    assert (await site.chat(EASY)).status_code == 200


async def test_an_unforeseen_failure_tells_nothing_of_its_cause(site, caplog):
    async def broken(*_, **__):
        raise KeyError(" ".join(["the", "confidential", "prompt"]))

    site.gateway.decide = broken
    error = error_of(await site.chat(EASY), 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "the confidential prompt" not in error["message"] + caplog.text
    assert "KeyError" in caplog.text


async def test_http_pipelined_garbage_does_not_stop_the_server(site):
    host, port = site.client.base_url.host, site.client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"\x16\x03\x01 not http\r\n\r\n")
    async with asyncio.timeout(20):
        assert b"400" in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert (await site.chat(EASY)).status_code == httpx.codes.OK
