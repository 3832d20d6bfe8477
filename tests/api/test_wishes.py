"""What a request may ask of routing: models, policies, suffixes, the `routing` object, its headers."""

import numpy as np
import pytest

from router_gateway.core.types import NamedPolicy
from router_gateway.dispatch.echo import Echo
from router_gateway.registry import create
from router_gateway.routing.rules import EpsilonGreedy
from tests.api.building import EASY, HARD, endpoint, error_of

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


async def test_a_pinned_endpoint_answers_by_name_or_by_model(site):
    for model in ("large", "maker/large-model"):
        response = await site.chat(EASY, model=model)
        assert response.headers["x-router-model"] == "large"
        assert response.headers["x-router-reason"] == "pinned"
        record = await site.record_of(response)
        assert record.decision.order == ("large",)
        assert (record.decision.propensity, record.decision.policy) == (0.0, "none")
        assert record.requested_model == model


async def test_a_pinned_endpoint_that_fails_is_not_replaced(start):
    site = await start(echoes={"large": Echo(failure="refused")})
    response = await site.chat(EASY, model="large")
    assert error_of(response, 502)["code"] == "upstream_error"
    assert response.headers["x-router-reason"] == "pinned"
    assert response.headers["x-router-model"] == "large"
    assert [name for name, _ in site.echo.calls] == ["large"]


async def test_the_suffixes_are_the_two_ends_of_the_dial(site):
    floor, quality = await site.chat(HARD, model="auto:floor"), await site.chat(EASY, model="auto:quality")
    assert floor.headers["x-router-model"] == "small"
    assert quality.headers["x-router-model"] == "large"
    both = await site.chat(HARD, model="knn:floor")
    assert both.headers["x-router-model"] == "small"


async def test_a_policy_is_called_by_name_and_by_version(site):
    for model in ("best_on_average", "best_on_average@1"):
        response = await site.chat(HARD, model=model)
        assert response.headers["x-router-policy"] == "best_on_average@1"
    named = await site.chat(HARD, routing={"policy": "best_on_average"})
    assert named.headers["x-router-policy"] == "best_on_average@1"
    by_header = await site.chat(HARD, headers={"x-router-policy": "best_on_average"})
    assert by_header.headers["x-router-policy"] == "best_on_average@1"
    body_wins = await site.chat(HARD, routing={"policy": "knn"}, headers={"x-router-policy": "best_on_average"})
    assert body_wins.headers["x-router-policy"] == "knn@1"


async def test_worth_usd_moves_the_choice_and_wins_over_the_suffix(site):
    cheap = await site.chat(HARD, routing={"worth_usd": 1e-6})
    assert cheap.headers["x-router-model"] == "small"
    record = await site.record_of(cheap)
    assert record.decision.worth_usd == 1e-6
    suffix = await site.chat(HARD, model="auto:quality", routing={"worth_usd": 1e-6})
    assert suffix.headers["x-router-model"] == "small"


@pytest.mark.parametrize(
    ("routing", "text", "chosen"),
    [
        ({"allowed_models": ["mid"]}, EASY, "mid"),
        ({"allowed_models": ["maker/l*"]}, EASY, "large"),
        ({"ignore": ["large"]}, HARD, "mid"),
        ({"ignore": ["s*", "large"]}, EASY, "mid"),
        ({"allowed_models": []}, EASY, "small"),
        ({"max_cost_usd": 0.001}, HARD, "mid"),
        ({"max_cost_usd": 0}, HARD, "small"),
        ({"quality_floor": 0.94}, EASY, "large"),
        ({"quality_floor": 0.0}, EASY, "small"),
    ],
)
async def test_the_routing_object_narrows_the_choice(site, routing, text, chosen):
    response = await site.chat(text, routing=routing)
    assert response.status_code == 200, response.text
    assert response.headers["x-router-model"] == chosen


async def test_a_choice_that_excludes_everything_is_told(site):
    error = error_of(await site.chat(EASY, routing={"ignore": ["*"]}), 400)
    assert (error["param"], error["code"]) == ("routing", "no_eligible_endpoint")


async def test_region_and_data_collection_are_respected(start):
    pool = [
        endpoint("small", collects_data=True, region="eu"),
        endpoint("mid", region="us"),
        endpoint("large", region="eu"),
    ]
    site = await start(endpoints=pool)
    assert (await site.chat(EASY, routing={"region": "us"})).headers["x-router-model"] == "mid"
    denied = await site.chat(EASY, routing={"data_collection": "deny", "region": "eu"})
    assert denied.headers["x-router-model"] == "large"
    allowed = await site.chat(EASY, routing={"data_collection": "allow"})
    assert allowed.headers["x-router-model"] == "small"


async def test_explore_false_takes_the_likeliest_endpoint(start):
    site = await start(rule=EpsilonGreedy(epsilon=1.0))
    for _ in range(5):
        response = await site.chat(EASY, routing={"explore": False})
        record = await site.record_of(response)
        likeliest = int(np.argmax(record.decision.probability))
        assert record.decision.endpoint == record.decision.endpoints[likeliest]
        assert record.decision.propensity == 1.0
        assert response.headers["x-router-reason"] == "scored"


async def test_an_explored_choice_records_its_propensity(start):
    site = await start(rule=EpsilonGreedy(epsilon=1.0))
    records = [await site.record_of(await site.chat(EASY)) for _ in range(12)]
    assert {round(r.decision.propensity, 6) for r in records} == {round(1 / 3, 6)}
    assert "explored" in {r.decision.reason for r in records}


@pytest.mark.parametrize("asked", [{"routing": {"explain": True}}, {"headers": {"x-router-explain": "1"}}])
async def test_an_explanation_comes_in_the_body(site, asked):
    response = await site.chat(HARD, **asked)
    explained = response.json()["routing"]
    assert explained["schema_version"] == 1
    assert explained["decision_id"] == response.headers["x-router-decision-id"]
    assert [each["endpoint"] for each in explained["candidates"]] == ["small", "mid", "large"]
    assert sum(each["probability"] for each in explained["candidates"]) == pytest.approx(1)
    assert explained["switch"]["below"]["endpoint"] in ("small", "mid")
    assert len(explained["neighbours"]) == 5
    assert "contract" not in str(explained)
    assert "routing" not in (await site.chat(HARD)).json()


async def test_an_unfitted_policy_explains_what_it_can(start):
    unfitted = NamedPolicy(name="knn", version=0, policy=create("knn"))
    site = await start(policies={"knn": unfitted})
    response = await site.chat(HARD, routing={"explain": True})
    assert response.status_code == 200
    assert response.headers["x-router-reason"] == "fallback:error"
    assert response.headers["x-router-model"] == "mid"
    assert response.json()["routing"]["detail"] == "policy_not_fitted"
    assert "neighbours" not in response.json()["routing"]


async def test_capabilities_gate_the_choice(site):
    tools = await site.chat(EASY, tools=[TOOL])
    assert tools.headers["x-router-model"] in ("mid", "large")
    vision = await site.chat(messages=[{"role": "user", "content": [{"type": "text", "text": EASY}, IMAGE]}])
    assert vision.headers["x-router-model"] == "large"
    assert vision.headers["x-router-reason"] == "gate:modality"


async def test_without_text_the_default_endpoint_serves(site):
    response = await site.chat(messages=[{"role": "system", "content": "be brief"}])
    assert response.headers["x-router-reason"] == "bypass"
    assert response.headers["x-router-model"] == "mid"
    record = await site.record_of(response)
    assert record.decision.propensity == 0.0
    assert record.embedding is None


def tool_turns(question):
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asked = [{"role": "user", "content": question}]
    answered = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    return asked, [*asked, *answered]


@pytest.mark.parametrize("named", [{}, {"user": "somebody"}, {"routing": {"session_id": "s1"}}])
async def test_a_tool_loop_stays_with_the_endpoint_that_asked(site, named):
    asked, answered = tool_turns(HARD)
    first = await site.chat(messages=asked, tools=[TOOL], **named)
    assert first.headers["x-router-model"] == "large"
    # The dial now says otherwise, but the loop is not to change hands.
    cheaper = {**named.get("routing", {}), "worth_usd": 1e-6}
    second = await site.chat(messages=answered, tools=[TOOL], **{**named, "routing": cheaper})
    assert second.headers["x-router-model"] == "large"
    assert second.headers["x-router-reason"] == "held:tool_state"
    record = await site.record_of(second)
    assert record.decision.propensity == 0.0
    assert record.decision.order[0] == "large"
    assert len(record.decision.order) > 1  # somebody may still stand in when it fails


async def test_a_tool_loop_follows_a_fallback_and_the_next_question_is_free_again(start):
    site = await start(echoes={"large": Echo(failure="refused")})
    asked, answered = tool_turns(HARD)
    first = await site.chat(messages=asked, tools=[TOOL])
    assert first.headers["x-router-model"] == "mid"
    site.echo.echoes.clear()
    second = await site.chat(messages=answered, tools=[TOOL])
    assert second.headers["x-router-model"] == "mid"
    assert second.headers["x-router-reason"] == "held:tool_state"
    third = await site.chat(messages=[*answered, {"role": "user", "content": HARD}], tools=[TOOL])
    assert third.headers["x-router-reason"] != "held:tool_state"


async def test_a_tool_loop_without_text_is_held_as_well(site):
    tools = {"tools": [TOOL], "user": "somebody"}
    image = [{"role": "user", "content": [IMAGE]}]
    first = await site.chat(model="large", messages=image, **tools)
    assert first.headers["x-router-reason"] == "pinned"
    _, answered = tool_turns("unused")
    second = await site.chat(messages=[*image, *answered[1:]], **tools)
    assert second.headers["x-router-model"] == "large"
    assert second.headers["x-router-reason"] == "held:tool_state"


async def test_another_tenants_session_of_the_same_name_holds_nothing(site):
    asked, answered = tool_turns(HARD)
    await site.chat(messages=asked, tools=[TOOL], user="somebody")
    site.client.headers["authorization"] = "Bearer " + site.keys.create("other", tenant="other")
    response = await site.chat(messages=answered, tools=[TOOL], user="somebody")
    assert response.headers["x-router-reason"] == "scored"
