"""What the ledger says of other policies, asked over the admin API while the gateway serves."""

import asyncio

import httpx
import pytest

from router_gateway.routing.rules import EpsilonGreedy
from tests.api.building import EASY, HARD, error_of, running

ROUNDS = 30


@pytest.fixture
async def explored(tmp_path):
    """(site, admin's client) of a gateway that has explored sixty sessions, all of them rated."""
    async with running(tmp_path, rule=EpsilonGreedy(epsilon=0.9)) as site:
        key = site.keys.create("operator", admin=True)
        for number in range(2 * ROUNDS):
            answer = await site.chat((EASY, HARD)[number % 2], routing={"session_id": f"s{number}"})
            decision = answer.headers["x-router-decision-id"]
            good = number % 2 == 0 or answer.headers["x-router-model"] == "large"
            await site.rows()
            said = {"decision_id": decision, "verdict": "good" if good else "bad"}
            assert (await site.client.post("/v1/feedback", json=said)).status_code == 200
        await site.rows()
        headers = {"authorization": f"Bearer {key}"}
        url = f"{site.url}/admin/api"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False) as office:
            yield site, office


async def test_an_audit_and_a_forecast_are_answered_beside_requests(explored):
    site, office = explored

    def ask():
        return asyncio.ensure_future(office.get("/audit", params={"policy": "cheapest", "worth_usd": "0.01"}))

    audit, busy = ask(), None
    while busy is None:  # one at a time, and requests go on
        assert (await site.chat(EASY)).status_code == 200
        other = await office.get("/forecast")
        if other.status_code == 503:
            busy = error_of(other, 503)
        elif audit.done():  # the forecast was first
            audit = ask()
    answer = (await audit).json()
    assert "another estimate is under way" in busy["message"]
    assert answer["candidate"] == "cheapest"
    assert answer["traffic"]["rated"] == 2 * ROUNDS
    assert answer["verdict"] == "not identifiable", "thirty sessions are too few"
    assert "fewer than 30" in answer["sentence"]
    forecast = (await office.get("/forecast", params={"days": "7", "price": "mid=1,2"})).json()
    assert "0 complete days of traffic" in forecast["refused"]


async def test_a_curve_is_kept_and_comes_with_its_age(explored):
    _, office = explored
    asked = {"points": "4", "policy": "best_on_average"}
    first, second = await asyncio.gather(office.get("/curve", params=asked), office.get("/curve", params=asked))
    found = first.json()
    assert (found["on"], found["rule"], found["refused"]) == ("traffic", "configured", "")
    assert [(line["name"], line["what"]) for line in found["lines"]] == [
        ("clusters", "live"),
        ("best_on_average", "policy"),
    ]
    assert second.json()["computed_at"] == found["computed_at"], "who asks meanwhile gets the same"
    again = (await office.get("/curve", params=asked)).json()
    assert again["computed_at"] == found["computed_at"]
    assert again["age_s"] >= found["age_s"]
    reference = (await office.get("/curve", params={"on": "reference"})).json()
    assert "training.outcomes" in reference["refused"]


async def test_a_draft_is_judged_before_it_is_tried(explored):
    _, office = explored
    body = {"name": "thrifty", "changes": {"worth_usd": 1e-9}}
    assert (await office.post("/lifecycle/candidates", json=body)).status_code == 200
    answer = (await office.get("/audit", params={"candidate": "thrifty"})).json()
    assert (answer["candidate"], answer["worth_usd"]) == ("thrifty", 1e-9)
    error = error_of(await office.get("/audit", params={"candidate": "nobody"}), 404)
    assert error["param"] == "candidate"


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/audit?rule=best", "rule"),
        ("/audit?since=soon", "since"),
        ("/audit?worth_usd=-1", "worth_usd"),
        ("/audit?worth_usd=much", "worth_usd"),
        ("/audit?policy=knn@x", "policy"),
        ("/audit?polcy=knn", "polcy"),
        ("/audit?policy=knn&candidate=x", "candidate"),
        ("/curve?points=2.5", "points"),
        ("/curve?points=1", "points"),
        ("/curve?on=mars", "on"),
        ("/curve?max_age_s=long", "max_age_s"),
        ("/curve?worth_usd=1", "worth_usd"),
        ("/forecast?days=1.5", "days"),
        ("/forecast?days=0", "days"),
        ("/forecast?price=mid=1", "price"),
        ("/forecast?price=nobody=1,2", "price"),
        ("/forecast?budget=nan", "budget"),
    ],
)
async def test_what_is_wrong_is_named(site, path, param):
    key = site.keys.create("operator", admin=True)
    answer = await site.client.get(f"/admin/api{path}", headers={"authorization": f"Bearer {key}"})
    assert error_of(answer, 400)["param"] == param


async def test_a_policy_that_there_is_not_is_the_clients_error_and_the_next_is_answered(site):
    key = site.keys.create("operator", admin=True)
    headers = {"authorization": f"Bearer {key}"}
    answer = await site.client.get("/admin/api/audit", params={"policy": "nobody"}, headers=headers)
    error = error_of(answer, 400)
    assert error["param"] == "policy"
    assert "nobody" in error["message"]
    assert (await site.client.get("/admin/api/audit", headers=headers)).json()["verdict"] == "not identifiable"
