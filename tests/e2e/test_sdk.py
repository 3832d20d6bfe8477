"""Whole answers through the official SDK, each compared with what the ledger has of it."""

import json
from uuid import UUID

import anthropic
import numpy as np
import pytest
from pydantic import BaseModel

from tests.e2e.upstream import BEHAVIOURS, USAGE
from tests.e2e.world import PRICES

TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]
# 50 plain input tokens at 2 USD per million, 30 cached at 0.5, 20 written at 2.5, 50 generated at 8
GOOD_COST_NUSD = 50 * 2_000 + 30 * 500 + 20 * 2_500 + 50 * 8_000


def user(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(("difficulty", "model"), [("easy", "small"), ("medium", "medium"), ("hard", "large")])
def test_a_routed_answer_and_its_rows(site, client, difficulty, model):
    asked = site.of(difficulty)
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(asked.prompt))
    reply = raw.parse()
    tokens_input, tokens_output = asked.tokens(model)
    assert reply.choices[0].message.content == f"[replay of maker/{model}-model] {asked.response(model)}"
    assert reply.model == f"maker/{model}-model"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (tokens_input, tokens_output)

    headers = raw.headers
    assert headers["x-router-model"] == model
    assert headers["x-router-provider"] == "replay"
    assert headers["x-router-policy"] == "knn@1"
    assert headers["x-router-reason"] == "scored"
    assert headers["x-router-attempts"] == "1"
    assert float(headers["x-router-cost-usd"]) == pytest.approx(asked.cost_nusd(model) / 1e9)
    assert float(headers["x-router-overhead-ms"]) > 0
    assert reply._request_id == headers["x-request-id"] == headers["request-id"]

    decision, attempts = site.ledger.decision(headers["x-router-decision-id"])
    assert decision["requested_model"] == "auto"
    assert decision["tenant"] == "default"
    assert decision["endpoint"] == model
    assert decision["order"][0] == model
    assert decision["propensity"] == 1.0
    assert decision["policy"] == "knn@1"
    assert decision["rule"] == "greedy"
    assert decision["embedding_space"].startswith("static/")
    assert len(np.frombuffer(decision["embedding"], dtype="<f2")) == 512
    assert decision["text"] is None, "prompts are kept only when asked for"
    pool = len(PRICES) + len(BEHAVIOURS)
    assert len(decision["endpoints"]) == len(decision["quality"]) == len(decision["eligible"]) == pool
    (attempt,) = attempts
    assert (attempt["number"], attempt["endpoint"], attempt["status"], attempt["error"]) == (1, model, 200, None)
    assert (attempt["tokens_input"], attempt["tokens_output"]) == (tokens_input, tokens_output)
    assert (attempt["tokens_cached_input"], attempt["tokens_cache_write"], attempt["tokens_reasoning"]) == (0, 0, 0)
    assert attempt["cost_nusd"] == asked.cost_nusd(model)
    assert not attempt["cost_estimated"]
    assert 0 < attempt["first_byte_ms"] <= attempt["latency_ms"]


def test_token_classes_are_billed_each_at_its_price(site, client):
    raw = client.chat.completions.with_raw_response.create(model="good", messages=user("hello"))
    reply = raw.parse()
    assert reply.choices[0].message.content == "heard: hello"
    assert reply.usage.model_dump(exclude_unset=True) == USAGE
    decision, (attempt,) = site.ledger.decision(raw.headers["x-router-decision-id"])
    assert (decision["reason"], decision["propensity"], decision["embedding"]) == ("pinned", 0.0, None)
    classes = ("tokens_input", "tokens_cached_input", "tokens_cache_write", "tokens_output", "tokens_reasoning")
    assert [attempt[name] for name in classes] == [50, 30, 20, 40, 10]
    assert attempt["cost_nusd"] == GOOD_COST_NUSD


async def test_the_async_client_and_what_passes_through(site):
    async with site.async_client() as client:
        reply = await client.chat.completions.create(
            model="good",
            messages=user("hello"),
            temperature=0.25,
            logit_bias={"50256": -100},
            extra_body={"some_field_of_tomorrow": [1, 2.50, None], "routing": {"session_id": "s"}},
        )
    assert reply.choices[0].message.content == "heard: hello"
    assert site.provider.bodies["good"][-1] == {
        "model": "maker/good-model",
        "messages": user("hello"),
        "temperature": 0.25,
        "logit_bias": {"50256": -100},
        "some_field_of_tomorrow": [1, 2.5, None],
    }


def test_a_tool_loop_stays_with_the_model_that_asked(site, client):
    hard = site.of("hard").prompt
    session = {"routing": {"session_id": "tool-loop"}}
    first = client.chat.completions.create(model="good", messages=user(hard), tools=TOOLS, extra_body=session)
    call = first.choices[0].message.tool_calls[0]
    assert first.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Canberra"})

    def go_on(extra_body):
        messages = [
            *user(hard),
            first.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        return client.chat.completions.with_raw_response.create(
            model="auto", messages=messages, tools=TOOLS, extra_body=extra_body
        )

    held = go_on(session)
    assert held.parse().choices[0].message.content == "heard: sunny"
    decision, (attempt,) = site.ledger.decision(held.headers["x-router-decision-id"])
    assert (decision["endpoint"], decision["reason"]) == ("good", "held:tool_state")
    assert (decision["propensity"], attempt["endpoint"]) == (0.0, "good")
    assert go_on({"routing": {"session_id": "another"}}).headers["x-router-model"] == "large", "else it would go here"


def test_structured_output(client):
    class Heard(BaseModel):
        heard: bool

    parsed = client.chat.completions.parse(model="good", messages=user("hello"), response_format=Heard)
    assert parsed.choices[0].message.parsed == Heard(heard=True)
    raw = client.chat.completions.with_raw_response.create(
        model="good", messages=user("hello"), response_format={"type": "json_object"}
    )
    assert json.loads(raw.parse().choices[0].message.content) == {"heard": True}


def test_routing_options_change_the_choice(site, client):
    hard = site.of("hard").prompt

    def model(**routing):
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=user(hard), extra_body={"routing": routing}
        )
        decision, _ = site.ledger.decision(raw.headers["x-router-decision-id"])
        return raw.headers["x-router-model"], decision

    assert model()[0] == "large"
    assert model(ignore=["large"])[0] != "large"
    assert model(allowed_models=["small", "medium"])[0] == "medium"
    name, decision = model(worth_usd=1e-6)
    assert (name, decision["worth_usd"]) == ("small", 1e-6)
    name, decision = model(policy="cheapest")
    assert (name, decision["policy"]) == ("small", "cheapest@1")
    raw = client.chat.completions.with_raw_response.create(model="auto:floor", messages=user(hard))
    assert raw.headers["x-router-model"] == "small"
    decision, _ = site.ledger.decision(raw.headers["x-router-decision-id"])
    assert decision["requested_model"] == "auto:floor"


def test_explain_tells_what_the_ledger_has(site, client):
    asked = site.of("hard")
    reply = client.chat.completions.create(
        model="auto", messages=user(asked.prompt), extra_body={"routing": {"explain": True}}
    )
    told = reply.model_extra["routing"]
    decision, _ = site.ledger.decision(told["decision_id"])
    assert reply.choices[0].message.content.endswith(asked.response("large"))
    assert told["order"] == decision["order"]
    assert [c["endpoint"] for c in told["candidates"]] == decision["endpoints"]
    assert [c["quality"] for c in told["candidates"]] == decision["quality"]
    assert [c["cost_usd"] for c in told["candidates"]] == decision["cost_usd"]
    assert told["neighbours"][0]["cosine"] == pytest.approx(1.0, abs=1e-3), "the policy was fitted on this prompt"


def test_a_held_out_prompt_is_routed_like_its_neighbour(site, client):
    """Prompts of the test split were never seen; they are replayed all the same."""
    asked = site.recorded[-1]
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(asked.prompt))
    model = raw.headers["x-router-model"]
    assert model in PRICES
    assert raw.parse().choices[0].message.content.endswith(asked.response(model))
    _, (attempt,) = site.ledger.decision(raw.headers["x-router-decision-id"])
    assert attempt["cost_nusd"] == asked.cost_nusd(model)


def test_feedback_reaches_the_ledger(site, client):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(site.of("easy").prompt))
    decision_id = raw.headers["x-router-decision-id"]
    said = {"decision_id": decision_id, "score": 0.75, "idempotency_key": "once"}
    first = client.post("/feedback", body=said, cast_to=dict[str, str])
    again = client.post("/feedback", body=said, cast_to=dict[str, str])
    assert first["status"] == "recorded"
    read = client.get(f"/routing/decisions/{decision_id}", cast_to=dict[str, object])  # waits for the rows
    assert [each["quality"] for each in read["feedback"]] == [0.75]
    rows = [row for row in site.ledger.feedback() if row["query_id"] == UUID(decision_id)]
    assert [(row["quality"], row["source"], row["tenant"]) for row in rows] == [(0.75, "user", "default")]
    assert first["id"] == again["id"] == str(rows[0]["id"])


def test_models_through_both_sdks(site, client):
    listed = [model.id for model in client.models.list()]
    assert listed[:3] == ["auto", "knn", "cheapest"]
    assert listed[3:6] == list(PRICES)
    assert client.models.retrieve("large").owned_by == "replay"
    http = anthropic.DefaultHttpxClient(trust_env=False)
    url = site.gateway.base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=url, api_key=site.gateway.key, http_client=http) as other:
        assert [model.id for model in other.models.list()] == listed
        assert other.models.retrieve("large").display_name == "large"
