"""Decisions once more, and where two policies or dials choose differently."""

import pytest

from router_gateway.api import admin_again
from tests.api.building import EASY, HARD, error_of
from tests.api.test_requests import asked


async def test_the_same_policy_and_dial_decide_the_same(site, office):
    made = await asked(site, HARD)
    rows = await site.rows()
    again = (await office.post(f"/requests/{made}/replay", json={})).json()
    assert (again["object"], again["same_endpoint"], again["now"]["endpoint"]) == ("replay", True, "large")
    before = (await office.get(f"/requests/{made}")).json()
    scores = [[row["quality"] for row in told["candidates"]] for told in (again["now"], before)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-2), "the ledger keeps vectors in half precision"
    assert again["now"]["worth_usd"] == before["worth_usd"] == again["then"]["worth_usd"]
    assert again["rests_on"] == {"vector": "ledger", "text": False, "earlier_turns": False}
    assert again["expected"] == {"quality": 0.0, "cost_usd": 0.0}
    assert await site.rows() == rows, "nothing is called and nothing written"


async def test_another_dial_may_decide_otherwise_and_says_what_that_is_worth(site, office):
    made = await asked(site, HARD)
    again = (await office.post(f"/requests/{made}/replay", json={"worth_usd": 1e-6})).json()
    assert (again["same_endpoint"], again["now"]["endpoint"], again["then"]["endpoint"]) == (False, "small", "large")
    assert (again["now"]["worth_usd"], again["changes"]) == (1e-6, {"worth_usd": 1e-6})
    assert again["expected"]["quality"] < 0
    assert again["expected"]["cost_usd"] < 0


async def test_another_policy_rule_and_guard(site, office):
    made = await asked(site, HARD)
    other = (await office.post(f"/requests/{made}/replay", json={"policy": "best_on_average"})).json()
    assert other["policy"] == "best_on_average@1"
    rule = {"rule": {"name": "epsilon_greedy", "epsilon": 0.3}}
    drawn = (await office.post(f"/requests/{made}/replay", json=rule)).json()["now"]
    assert drawn["rule"] == "epsilon_greedy"
    assert min(row["probability"] for row in drawn["candidates"]) == pytest.approx(0.1)
    assert (await office.post(f"/requests/{made}/replay", json={"rule": "greedy"})).json()["now"]["rule"] == "greedy"
    guarded = (await office.post(f"/requests/{made}/replay", json={"guard": {"z": 10}})).json()["now"]
    assert (guarded["endpoint"], guarded["reason"]) == ("mid", "guard:low_evidence")


async def test_a_candidate_decides_by_its_name(site, office):
    made = await asked(site, HARD)
    draft = {"name": "frugal", "changes": {"worth_usd": 1e-6}}
    assert (await office.post("/lifecycle/candidates", json=draft)).status_code == 200
    again = (await office.post(f"/requests/{made}/replay", json={"policy": "frugal"})).json()
    assert (again["now"]["endpoint"], again["now"]["candidate"], again["now"]["worth_usd"]) == ("small", "frugal", 1e-6)
    assert site.rollout.failing == {}


async def test_only_who_was_eligible_may_serve_it(site, office):
    made = await asked(site, HARD, extra={"x": 1}, routing={"allowed_models": ["small", "mid"]})
    again = (await office.post(f"/requests/{made}/replay", json={"worth_usd": 1000})).json()["now"]
    assert again["endpoint"] == "mid"
    assert [row["eligible"] for row in again["candidates"]] == [True, True, False]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"policy": "nobody"}, 404, "policy"),
        ({"worth_usd": 0}, 400, "worth_usd"),
        ({"worth_usd": "much"}, 400, "worth_usd"),
        ({"optimism": -1}, 400, "optimism"),
        ({"rule": "luck"}, 400, "rule"),
        ({"guard": {"z": -1}}, 400, "guard.z"),
        ({"temperature": 1}, 400, "temperature"),
    ],
)
async def test_what_is_no_policy_or_dial_is_refused_by_name(site, office, body, status, param):
    made = await asked(site, EASY)
    error = error_of(await office.post(f"/requests/{made}/replay", json=body), status)
    assert error["param"].startswith(param)
    assert "changes." not in error["message"]


async def test_a_request_that_was_never_embedded_needs_its_text(start, office_of):
    site = await start(store_text=False)
    made = await asked(site, EASY, model="large")
    office = await office_of(site)
    error = error_of(await office.post(f"/requests/{made}/replay", json={"policy": "knn"}), 409)
    assert "store_text" in error["message"]


async def test_stored_text_stands_in_for_the_vector(start, office_of):
    site = await start(store_text=True)
    made = await asked(site, HARD, model="small")
    office = await office_of(site)
    again = (await office.post(f"/requests/{made}/replay", json={"policy": "knn"})).json()
    assert again["rests_on"] == {"vector": "text", "text": True, "earlier_turns": False}


async def test_where_two_dials_disagree(start, office_of):
    site = await start(store_text=True)
    easy, hard = await asked(site, EASY), await asked(site, HARD)
    office = await office_of(site)
    found = (await office.get("/disagreements", params={"against_worth_usd": 1e-6})).json()
    assert (found["decisions"], found["disagreements"], found["share"]) == (2, 1, 0.5)
    (row,) = found["data"]
    assert (row["id"], row["text"], row["answered_by"], row["quality"]) == (hard, HARD, "large", None)
    assert (row["policy"]["endpoint"], row["against"]["endpoint"]) == ("large", "small")
    assert row["expected_difference"] > 0.5
    assert (found["policy"]["shares"], found["against"]["shares"]) == ({"large": 1, "small": 1}, {"small": 2})
    assert found["policy"]["expected"]["quality"] > found["against"]["expected"]["quality"]
    assert found["against"]["worth_usd"] == 1e-6
    same = (await office.get("/disagreements", params={"policy": "knn", "against": "knn"})).json()
    assert (same["disagreements"], same["data"]) == (0, [])
    later = (await office.get("/disagreements", params={"since": "2999-01-01"})).json()
    assert (later["decisions"], later["share"]) == (0, None)
    assert easy != hard


async def test_without_stored_text_no_example_shows_any(site, office):
    await asked(site, HARD)
    answer = await office.get("/disagreements", params={"against_worth_usd": "0.000001"})
    assert answer.json()["data"][0]["text"] is None
    assert "indemnity" not in answer.text


@pytest.mark.parametrize(
    ("params", "status", "param"),
    [
        ({"against": "nobody"}, 404, "against"),
        ({"policy": "nobody"}, 404, "policy"),
        ({"against_worth_usd": "0"}, 400, "against_worth_usd"),
        ({"worth_usd": "much"}, 400, "worth_usd"),
        ({"against_rule": "luck"}, 400, "against_rule"),
        ({"since": "yesterday"}, 400, "since"),
        ({"limit": "0"}, 400, "limit"),
        ({"colour": "blue"}, 400, "colour"),
    ],
)
async def test_a_comparison_that_is_none_is_refused_by_name(office, params, status, param):
    assert error_of(await office.get("/disagreements", params=params), status)["param"].startswith(param)


async def test_one_comparison_at_a_time(office):
    with admin_again._one_at_a_time:
        assert error_of(await office.get("/disagreements"), 503)["code"] == "overloaded"
    assert (await office.get("/disagreements")).status_code == 200
