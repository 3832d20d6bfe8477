"""/v1/routing: what would be decided, and what was."""

import uuid

import pytest

from router_gateway.dispatch.echo import Echo
from tests.api.building import EASY, HARD, error_of

CHAT = {"model": "auto", "messages": [{"role": "user", "content": HARD}]}
RESPONSES = {"model": "auto", "input": HARD, "instructions": "Be brief.", "max_output_tokens": 50}
RESPONSES_ITEMS = {"input": [{"role": "user", "content": [{"type": "input_text", "text": HARD}]}]}
ANTHROPIC = {
    "model": "auto",
    "system": "Be brief.",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": [{"type": "text", "text": HARD}]}],
}


async def decide(site, body):
    return await site.client.post("/v1/routing/decide", json=body)


@pytest.mark.parametrize(
    "body", [CHAT, RESPONSES, RESPONSES_ITEMS, ANTHROPIC], ids=["chat", "responses", "items", "messages"]
)
async def test_all_three_request_shapes_are_decided_and_nothing_is_written_or_called(site, body):
    before = await site.rows()
    response = await decide(site, body)
    assert response.status_code == 200, response.text
    decided = response.json()
    assert (decided["endpoint"], decided["reason"], decided["policy"]) == ("large", "scored", "knn@1")
    assert decided["neighbours"]
    assert decided["timings"]["route_ms"] > 0
    assert await site.rows() == before == {"decisions": 0, "attempts": 0, "feedback": 0}
    assert site.echo.calls == []
    error_of(await site.client.get(f"/v1/routing/decisions/{decided['decision_id']}"), 404)


async def test_it_decides_as_the_real_request_is_decided(site):
    for text in (EASY, HARD):
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        foretold = (await decide(site, body)).json()
        real = (await site.chat(text, routing={"explain": True})).json()["routing"]
        for name in ("endpoint", "order", "reason", "candidates", "switch", "worth_usd", "neighbours"):
            assert foretold[name] == real[name]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "auto"}, 400, "messages"),
        ({"input": []}, 400, "input"),
        ({"input": 5}, 400, "input"),
        ({"input": [5]}, 400, "input"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": 5}], "system": 5}, 400, "messages[0].content"),
        ({**CHAT, "system": 5}, 400, "system"),
        ({**CHAT, "routing": {"nope": 1}}, 400, "routing.nope"),
        ({**CHAT, "model": "nope"}, 404, "model"),
    ],
)
async def test_wrong_requests_are_told(site, body, status, param):
    error = error_of(await decide(site, body), status)
    assert error["param"] == param


async def test_a_pinned_model_is_decided_without_scores(site):
    decided = (await decide(site, {**CHAT, "model": "mid"})).json()
    assert (decided["endpoint"], decided["reason"], decided["propensity"]) == ("mid", "pinned", 0.0)
    assert "neighbours" not in decided


async def test_a_decision_is_there_with_its_attempts_right_after_the_answer(start):
    site = await start(echoes={"small": Echo(failure="refused")})
    for stream in (False, True):
        response = await site.chat(EASY, stream=stream)
        found = await site.client.get(f"/v1/routing/decisions/{response.headers['x-router-decision-id']}")
        assert found.status_code == 200
        record = found.json()
        assert record["decision_id"] == response.headers["x-router-decision-id"]
        assert record["requested_model"] == "auto"
        assert [(a["number"], a["endpoint"], a["status"]) for a in record["attempts"]] == [
            (1, "small", 503),
            (2, "mid", 200),
        ]
        answered = record["attempts"][1]
        assert answered["tokens"] == {"input": 10, "cached_input": 0, "cache_write": 0, "output": 1, "reasoning": 0}
        assert answered["cost_nusd"] == 10 * 500 + 1 * 2_000
        assert record["feedback"] == []


async def test_feedback_shows_in_the_decision_at_once(site):
    decision_id = (await site.chat(EASY)).headers["x-router-decision-id"]
    await site.client.post("/v1/feedback", json={"decision_id": decision_id, "score": 0.75})
    [said] = (await site.client.get(f"/v1/routing/decisions/{decision_id}")).json()["feedback"]
    assert (said["quality"], said["source"]) == (0.75, "user")


async def test_another_tenants_decision_is_not_found(site):
    decision_id = (await site.chat(EASY)).headers["x-router-decision-id"]
    site.client.headers["authorization"] = "Bearer " + site.keys.create("other", tenant="other")
    assert error_of(await site.client.get(f"/v1/routing/decisions/{decision_id}"), 404)["code"] == "not_found"


@pytest.mark.parametrize("garbage", ["x", "0", "%00", "x" * 500, "-" * 36])
async def test_a_garbage_id_is_refused(site, garbage):
    error = error_of(await site.client.get(f"/v1/routing/decisions/{garbage}"), 400)
    assert error["param"] == "decision_id"
    assert len(error["message"]) < 300


async def test_an_unknown_id_is_not_found(site):
    error_of(await site.client.get(f"/v1/routing/decisions/{uuid.UUID(int=5)}"), 404)


async def test_both_need_a_key(site):
    del site.client.headers["authorization"]
    error_of(await decide(site, CHAT), 401)
    error_of(await site.client.get(f"/v1/routing/decisions/{uuid.UUID(int=5)}"), 401)


async def test_a_tool_loop_is_foretold_in_anthropics_shape(site):
    tool = {"name": "look", "input_schema": {"type": "object"}}
    asked = {"messages": [{"role": "user", "content": HARD}], "metadata": {"user_id": "somebody"}}
    await site.chat(messages=asked["messages"], user="somebody", model="mid")
    messages = [
        *asked["messages"],
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}]},
    ]
    decided = (await decide(site, {**asked, "messages": messages, "tools": [tool], "system": "Be brief."})).json()
    assert (decided["endpoint"], decided["reason"]) == ("mid", "held:tool_state")
