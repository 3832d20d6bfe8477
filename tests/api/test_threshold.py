"""`router-<policy>-<threshold>`: what RouteLLM's clients say, and what they are told when it cannot be."""

import pytest

from router_gateway.core.types import NamedPolicy
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.registry import create
from router_gateway.routing.rules import EpsilonGreedy
from tests.api.building import EASY, HARD, endpoint, error_of, experience


@pytest.fixture
async def site(start):
    """The default policy estimates, the other one predicts wins; the rule draws, and is not asked here."""
    learned = experience(HashingEmbedder())
    policies = {
        name: NamedPolicy(name=name, version=1, policy=create(name, params).fit(learned))
        for name, params in (("knn", {"k": 3}), ("preference", {"penalty": 0.3}))
    }
    return await start(policies=policies, rule=EpsilonGreedy(epsilon=1.0))


async def wins(site, text):
    """P(large beats small | text), as the policy says it."""
    answer = await site.client.post(
        "/v1/routing/decide",
        json={"model": "router-preference-0.5", "messages": [{"role": "user", "content": text}]},
    )
    detail = answer.json()["detail"]
    assert detail.startswith("P(large beats small) = ")
    return float(detail.removeprefix("P(large beats small) = ").partition(",")[0])


async def test_the_strong_endpoint_answers_where_it_wins_often_enough(site):
    easy, hard = await wins(site, EASY), await wins(site, HARD)
    assert 0 < easy < hard < 1
    between = (easy + hard) / 2
    for text, threshold, chosen in (
        (EASY, f"{between:.6f}", "small"),
        (HARD, f"{between:.6f}", "large"),
        (EASY, "0", "large"),
        (HARD, "1", "small"),
        (HARD, "1e-05", "large"),
    ):
        response = await site.chat(text, model=f"router-preference-{threshold}")
        assert response.headers["x-router-model"] == chosen, (text, threshold)


async def test_the_decision_says_how_it_came_about(site):
    response = await site.chat(HARD, model="router-preference-0.25")
    assert response.headers["x-router-reason"] == "scored"
    assert response.headers["x-router-policy"] == "preference@1"
    record = await site.record_of(response)
    decision = record.decision
    assert record.requested_model == "router-preference-0.25"
    assert (decision.rule, decision.propensity) == ("win_threshold", 1.0)
    assert decision.probability == (0.0, 0.0, 1.0)
    assert decision.detail.endswith("threshold 0.25")
    assert decision.order[0] == "large"
    assert set(decision.order) == {"small", "mid", "large"}, "the others remain for when it fails"


async def test_a_price_would_change_nothing_so_none_is_named(site):
    body = {"model": "router-preference-0.25", "messages": [{"role": "user", "content": HARD}]}
    told = (await site.client.post("/v1/routing/decide", json=body)).json()
    assert told["switch"] == {"below": None, "above": None}


async def test_the_pair_is_taken_from_what_the_request_may_use(site):
    strongest = await site.chat(HARD, model="router-preference-0", routing={"ignore": ["large"]})
    assert strongest.headers["x-router-model"] == "mid"
    cheapest = await site.chat(HARD, model="router-preference-1", routing={"ignore": ["small"]})
    assert cheapest.headers["x-router-model"] == "mid"
    alone = await site.chat(HARD, model="router-preference-1", routing={"allowed_models": ["small"]})
    assert alone.headers["x-router-model"] == "small"
    detail = (await site.record_of(alone)).decision.detail
    assert detail == "small is the strongest and the cheapest"


async def test_the_routing_object_can_say_it_too_and_wins_over_the_name(site):
    body = await site.chat(HARD, model="preference", routing={"win_threshold": 1})
    assert body.headers["x-router-model"] == "small"
    both = await site.chat(HARD, model="router-preference-0", routing={"win_threshold": 1})
    assert both.headers["x-router-model"] == "small"


@pytest.mark.parametrize("threshold", ["", "1.01", "-0.1", "nan", "much", "0.5:floor"])
async def test_a_threshold_that_is_none_is_told(site, threshold):
    error = error_of(await site.chat(EASY, model=f"router-preference-{threshold}"), 400)
    assert error["param"] == "model"
    assert "from 0 to 1" in error["message"]


async def test_a_policy_that_predicts_no_wins_is_told(site):
    named = error_of(await site.chat(EASY, model="router-knn-0.5"), 400)
    assert (named["param"], named["code"]) == ("model", "unsupported_parameter")
    assert "live here that do: preference" in named["message"]
    default = error_of(await site.chat(EASY, routing={"win_threshold": 0.5}), 400)
    assert default["param"] == "routing.win_threshold"
    other = error_of(await site.chat(EASY, model="router-preference-0.5", routing={"policy": "knn"}), 400)
    assert other["param"] == "model"


async def test_a_policy_that_is_not_live_is_not_found(site):
    for model in ("router-mf-0.116", "router-preference", "router-"):
        assert error_of(await site.chat(EASY, model=model), 404)["code"] == "model_not_found"


async def test_a_threshold_and_a_dial_exclude_each_other(site):
    error = error_of(await site.chat(EASY, model="router-preference-0.5", routing={"worth_usd": 0.1}), 400)
    assert error["param"] == "routing.worth_usd"


async def test_an_endpoint_of_such_a_name_comes_first(start):
    learned = experience(HashingEmbedder())
    policy = NamedPolicy(name="preference", version=1, policy=create("preference").fit(learned))
    pool = [endpoint("router-preference-0.5"), endpoint("mid")]
    site = await start(endpoints=pool, policies={"preference": policy})
    response = await site.chat(HARD, model="router-preference-0.5")
    assert response.headers["x-router-reason"] == "pinned"
