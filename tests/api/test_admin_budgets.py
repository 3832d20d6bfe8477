"""Budgets and teams over the admin API: set, followed at once, burnt down, removed."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from router_gateway.core.periods import next_period, period_start
from router_gateway.ledger.budgets import Budgets
from tests.api.building import EASY, error_of


async def put(office, **body):
    answer = await office.put("/budgets", json={"period": "month", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_budget_binds_from_the_next_request_on_and_ends_with_its_removal(site, office):
    made = await put(office, scope="team", subject="default", limit_usd=0, note="none left")
    assert (made["scope"], made["subject"], made["limit_nusd"]) == ("tenant", "default", 0)
    assert error_of(await site.chat(EASY), 402)["code"] == "budget_exceeded"
    raised = await put(office, scope="tenant", subject="default", limit_usd="0.25")
    assert raised["limit_nusd"] == 250_000_000
    assert (await site.chat(EASY)).status_code == 200
    where = {"scope": "team", "subject": "default", "period": "month"}
    gone = await office.delete("/budgets", params={**where, "note": "over"})
    assert (gone.json()["status"], gone.json()["limit_usd"]) == ("removed", 0.25)
    assert Budgets(site.ledger.engine).states(datetime.now(UTC)) == []
    assert error_of(await office.delete("/budgets", params=where), 404)["param"] == "subject"
    events = (await office.get("/events", params={"action": "budget"})).json()["data"]
    assert [(e["action"], e["subject"], e["note"]) for e in events] == [
        ("budget.remove", "tenant default, per month", "over"),
        ("budget.set", "tenant default, per month", ""),
        ("budget.set", "tenant default, per month", "none left"),
    ]


async def test_a_keys_budget_is_named_by_its_prefix_and_outlives_it(site, office):
    key = site.keys.find(site.keys.create("laptop"))
    made = await put(office, scope="key", subject=f"{key.prefix}…", limit_usd=1.5)
    assert made["subject"] == str(key.id)
    site.keys.revoke(key.id)
    where = {"scope": "key", "subject": str(key.id), "period": "month"}
    assert (await office.get("/budgets/history", params=where)).json()["steps"] == []
    assert (await office.delete("/budgets", params=where)).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"scope": "world", "limit_usd": 1}, 400, "scope"),
        ({"scope": "gateway", "limit_usd": -1}, 400, "limit_usd"),
        ({"scope": "gateway", "limit_usd": "1e10"}, 400, "limit_usd"),
        ({"scope": "gateway", "limit_usd": "NaN"}, 400, "limit_usd"),
        ({"scope": "gateway", "subject": "acme", "limit_usd": 1}, 400, "subject"),
        ({"scope": "team", "limit_usd": 1}, 400, "subject"),
        ({"scope": "gateway", "period": "year", "limit_usd": 1}, 400, "period"),
        ({"scope": "key", "subject": str(uuid4()), "limit_usd": 1}, 404, "subject"),
    ],
)
async def test_a_budget_that_cannot_be_is_refused_by_field(site, office, body, status, param):
    answer = await office.put("/budgets", json={"period": "month", **body})
    assert error_of(answer, status)["param"] == param
    assert Budgets(site.ledger.engine).states(datetime.now(UTC)) == []


@pytest.mark.parametrize("period", ["hour", "day", "month"])
async def test_a_budget_burns_down_by_what_the_ledger_has(site, office, period):
    await put(office, scope="team", subject="default", period=period, limit_usd=1)
    await put(office, scope="team", subject="other", period=period, limit_usd=1)
    for _ in range(2):
        assert (await site.chat(EASY)).status_code == 200
    assert site.ledger.drain()
    spent_nusd = (await office.get("/reports/tenant")).json()["data"][0]["cost_nusd"]
    assert spent_nusd > 0
    shown = (
        await office.get("/budgets/history", params={"scope": "team", "subject": "default", "period": period})
    ).json()
    start = period_start(period, datetime.now(UTC))
    assert shown["steps"][-1]["spent_nusd"] == spent_nusd
    instants = [datetime.fromisoformat(step["at"]) for step in shown["steps"]]
    assert instants == sorted(instants)
    assert start < instants[-1] <= next_period(period, start)
    assert [each["at"] for each in shown["periods"]] == [start.isoformat()]
    other = (
        await office.get("/budgets/history", params={"scope": "team", "subject": "other", "period": period})
    ).json()
    assert {step["spent_nusd"] for step in other["steps"]} == {0}
    assert error_of(await office.get("/budgets/history", params={"scope": "gateway"}), 400)["param"] == "period"


async def test_teams_are_tenants_with_their_keys_budgets_and_spend(site, office):
    site.keys.create("laptop", "acme")
    site.keys.create("server", "acme")
    await put(office, scope="team", subject="broke", limit_usd=0)
    assert (await site.chat(EASY)).status_code == 200
    assert site.ledger.drain()
    teams = {row["name"]: row for row in (await office.get("/teams")).json()["data"]}
    assert {name: row["keys"] for name, row in teams.items()} == {"acme": 2, "broke": 0, "default": 2}
    assert (teams["default"]["requests"], teams["acme"]["requests"]) == (1, 0)
    assert teams["default"]["spent_nusd"] > 0
    assert [budget["limit_usd"] for budget in teams["broke"]["budgets"]] == [0.0]
    later = (await office.get("/teams", params={"since": "2999-01-01"})).json()["data"]
    assert {row["spent_nusd"] for row in later} == {0}
