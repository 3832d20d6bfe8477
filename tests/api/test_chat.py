"""POST /v1/chat/completions, whole answers: where it is found, who may ask, what it says of itself."""

import uuid

import pytest

from router_gateway.dispatch.echo import Echo
from tests.api.building import EASY, HARD, error_of


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions"], ids=["v1", "bare", "openai"]
)
async def test_every_spelling_of_the_path_answers(site, path):
    response = await site.chat(EASY, path=path)
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "echo"


async def test_the_policy_sends_easy_questions_to_the_cheap_endpoint_and_hard_ones_to_the_good_one(site):
    easy, hard = await site.chat(EASY), await site.chat(HARD)
    assert easy.headers["x-router-model"] == "small"
    assert hard.headers["x-router-model"] == "large"
    assert [name for name, _ in site.echo.calls] == ["small", "large"]
    assert easy.json()["model"] == "maker/small-model"


async def test_either_header_carries_the_key(site):
    for headers in (
        {"authorization": f"Bearer {site.key}"},
        {"x-api-key": site.key},
        {"authorization": f"bearer {site.key}"},
    ):
        site.client.headers.pop("authorization", None)
        response = await site.chat(EASY, headers=headers)
        assert response.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer"}, {"authorization": "Basic abc"}])
async def test_without_a_key_nothing_is_asked(site, headers):
    del site.client.headers["authorization"]
    assert error_of(await site.chat(EASY, headers=headers), 401)["code"] == "missing_api_key"
    assert site.echo.calls == []


@pytest.mark.parametrize("wrong", ["rg-wrong", "x" * 10_000, "clé"])
async def test_a_wrong_key_is_refused(site, wrong):
    error = error_of(await site.chat(EASY, headers={"authorization": f"Bearer {wrong}".encode()}), 401)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert wrong not in error["message"]


async def test_a_revoked_key_stops_working_once_forgotten(site):
    assert (await site.chat(EASY)).status_code == 200
    site.keys.revoke(site.keys.list()[0].id)
    site.auth.remember_s = 0.0
    assert error_of(await site.chat(EASY), 401)["code"] == "invalid_api_key"


async def test_the_headers_say_what_was_decided(site):
    response = await site.chat(HARD)
    headers = response.headers
    assert uuid.UUID(headers["x-router-decision-id"]).version == 7
    assert headers["x-router-policy"] == "knn@1"
    assert headers["x-router-model"] == "large"
    assert headers["x-router-provider"] == "maker"
    assert headers["x-router-reason"] == "scored"
    assert 0.8 < float(headers["x-router-confidence"]) <= 1
    assert headers["x-router-attempts"] == "1"
    assert headers["x-router-cache"] == "off"
    assert float(headers["x-router-overhead-ms"]) > 0
    # 10 tokens in at 2.50, 1 out at 10.00 USD per million
    assert headers["x-router-cost-usd"] == "0.000035000"
    assert headers["server-timing"].startswith("embed;dur=")


async def test_a_fallback_is_told_and_recorded(start):
    site = await start(echoes={"small": Echo(failure="refused")})
    response = await site.chat(EASY)
    assert response.status_code == 200
    assert response.headers["x-router-model"] == "mid"
    assert response.headers["x-router-attempts"] == "2"
    record = await site.record_of(response)
    assert record.decision.endpoint == "small"
    assert [(a.number, a.endpoint, a.status) for a in record.attempts] == [(1, "small", 503), (2, "mid", 200)]
    assert record.answered_by == "mid"


async def test_both_request_ids_are_sent_and_a_safe_inbound_one_is_honoured(site):
    response = await site.chat(EASY, headers={"x-request-id": "job-7.a_B"})
    assert response.headers["x-request-id"] == response.headers["request-id"] == "job-7.a_B"
    own = await site.chat(EASY)
    assert own.headers["x-request-id"] == own.headers["request-id"] == own.headers["x-router-decision-id"]


@pytest.mark.parametrize("unsafe", ["a b", "a;b", "<script>", "x" * 129, "é", ""])
async def test_an_unsafe_inbound_request_id_is_replaced(site, unsafe):
    response = await site.chat(EASY, headers={"x-request-id": unsafe.encode()})
    assert uuid.UUID(response.headers["x-request-id"])


async def test_every_response_carries_request_ids(site):
    for method, path in (
        ("GET", "/v1/models"),
        ("GET", "/nowhere"),
        ("PUT", "/v1/chat/completions"),
        ("POST", "/v1/feedback"),
        ("POST", "/v1/routing/decide"),
        ("GET", "/v1/routing/decisions/x"),
        ("GET", "/health"),
    ):
        response = await site.client.request(method, path, headers={"x-request-id": "mine"})
        assert response.headers.get_list("x-request-id") == ["mine"], path
        assert response.headers.get_list("request-id") == ["mine"], path


async def test_the_openai_sdk_talks_to_it(site):
    async with site.sdk() as client:
        answer = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": EASY}])
        assert answer.choices[0].message.content == "echo"
        assert answer.usage.prompt_tokens == 10
        assert answer._request_id
        listed = [model.id async for model in await client.models.list()]
        assert "auto" in listed


async def test_unknown_fields_and_number_spellings_reach_the_upstream_as_they_came(site):
    messages = b'"messages":[{"role":"user","content":"hi"}]'
    raw = b'{ "model":"auto", "temperature" : 1.0e0, "brand_new":{"x":[1, 2]}, ' + messages + b" }"
    assert (await site.post(raw)).status_code == 200
    sent = site.echo.calls[0][1].body.amended({})
    assert sent == raw


async def test_the_decision_is_written_before_the_endpoint_is_asked(start):
    seen = []
    site = await start()
    real_open = site.echo.open

    async def look_first(endpoint, call, *, timeout_s):
        record = await site.record(call.query_id)
        seen.append(record.decision.endpoint)
        return await real_open(endpoint, call, timeout_s=timeout_s)

    site.echo.open = look_first
    assert (await site.chat(EASY)).status_code == 200
    assert seen == ["small"]


async def test_the_ledger_holds_the_decision_the_attempt_and_no_text(site):
    response = await site.chat(HARD)
    record = await site.record_of(response)
    assert record.tenant == "default"
    assert record.requested_model == "auto"
    assert record.text is None
    assert record.embedding is not None
    assert record.decision.propensity == 1.0
    [attempt] = record.attempts
    assert (attempt.endpoint, attempt.status, attempt.error) == ("large", 200, None)
    assert f"{attempt.cost_nusd / 1e9:.9f}" == response.headers["x-router-cost-usd"]
