"""Settings saved over the admin API: in force at once, in every process, after a restart, and taken back."""

import asyncio

import pytest

from router_gateway.ledger.saved_settings import SavedSettings
from router_gateway.lifecycle.settings import Lifecycle
from tests.api.building import HARD, error_of, running

CHEAP = {"worth_usd": 1e-9}
"""A dial at which price alone decides: hard questions go to `small` rather than `large`."""


async def save(office, changes, **more):
    answer = await office.post("/settings", json={"changes": changes, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def served(site, text=HARD):
    """Who answers, and the dial that the decision's row has."""
    answer = await site.chat(text)
    return answer.headers["x-router-model"], (await site.record_of(answer)).decision.worth_usd


async def test_a_saved_dial_serves_from_the_next_request_on_and_its_rows_say_so(site, office):
    assert await served(site) == ("large", 0.02)
    saved = await save(office, CHEAP, note="spend less")
    assert (saved["saved"]["changes"], saved["saved"]["note"]) == (CHEAP, "spend less")
    assert saved["saved"]["author"].startswith("operator (rg-")
    assert await served(site) == ("small", 1e-9)
    shown = (await office.get("/settings")).json()
    assert shown["settings"]["worth_usd"] == 1e-9
    assert shown["in_force"]["knn"]["settings"]["worth_usd"] == {"value": 1e-9, "because": "saved"}
    assert shown["in_force"]["knn"]["settings"]["optimism"] == {"value": 0.0, "because": "default"}
    (event,) = (await office.get("/events")).json()["data"]
    assert (event["action"], event["note"], event["detail"]) == ("settings.save", "spend less", {"changes": CHEAP})


async def test_a_setting_is_lifted_by_null_and_a_row_brought_back_by_its_id(site, office):
    first = (await save(office, CHEAP))["saved"]["id"]
    await save(office, {"optimism": 0.5})
    lifted = await save(office, {"worth_usd": None})
    assert lifted["saved"]["state"] == {"optimism": 0.5}
    assert await served(site) == ("large", 0.02)
    back = (await office.post(f"/settings/rollback/{first}", json={"note": "as it was"})).json()["saved"]
    assert (back["state"], back["restores"]) == (CHEAP, first)
    assert back["changes"] == {"worth_usd": 1e-9, "optimism": None}
    assert await served(site) == ("small", 1e-9)
    none = (await office.post("/settings/rollback/0", json={})).json()["saved"]
    assert (none["state"], none["restores"]) == ({}, 0)
    assert await served(site) == ("large", 0.02)
    history = (await office.get("/settings/history")).json()["data"]
    assert [row["id"] for row in history] == sorted((row["id"] for row in history), reverse=True)
    assert [row["state"] for row in history] == [{}, CHEAP, {"optimism": 0.5}, {**CHEAP, "optimism": 0.5}, CHEAP]
    assert error_of(await office.post("/settings/rollback/99", json={}), 404)["param"] == "id"
    assert error_of(await office.post("/settings/rollback/last", json={}), 400)["param"] == "id"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "changes"),
        ({"changes": {}}, "changes"),
        ({"changes": {"worth_usd": 0}}, "changes.worth_usd"),
        ({"changes": {"worth_usd": "much"}}, "changes.worth_usd"),
        ({"changes": {"rule": {"name": "inverse_gap", "gamma": -1}}}, "changes.rule.inverse_gap.gamma"),
        ({"changes": {"rule": {"name": "dice"}}}, "changes.rule"),
        ({"changes": {"guard": {"z": 11}}}, "changes.guard.z"),
        ({"changes": {"endpoints": []}}, "changes.endpoints"),
        ({"changes": {"pacing_usd": 1.0}}, "changes.pacing_usd"),
        ({"changes": CHEAP, "note": "x" * 2_001}, "note"),
    ],
)
async def test_what_cannot_be_is_refused_by_field_and_saved_nowhere(site, office, body, param):
    assert error_of(await office.post("/settings", json=body), 400)["param"] == param
    assert SavedSettings(site.ledger.engine).newest() is None
    assert (await office.get("/events")).json()["data"] == []


async def test_who_saves_over_what_he_did_not_see_is_refused(office):
    seen = (await save(office, CHEAP, base=0))["saved"]["id"]
    await save(office, {"optimism": 0.1}, base=seen)
    refused = error_of(await office.post("/settings", json={"changes": CHEAP, "base": seen}), 409)
    assert (refused["code"], refused["param"]) == ("conflict", "base")


async def test_other_processes_follow_and_a_restart_goes_on(site, office, tmp_path):
    quick = Lifecycle(refresh_s=0.05)
    async with running(tmp_path / "..", database_url=str(site.ledger.engine.url), lifecycle=quick) as other:
        with other.rollout.running():
            await save(office, CHEAP)
            while (await other.chat(HARD)).headers["x-router-model"] != "small":  # the test's own time is the bound
                await asyncio.sleep(0.05)
    async with running(tmp_path / "..", database_url=str(site.ledger.engine.url)) as restarted:
        assert (await restarted.chat(HARD)).headers["x-router-model"] == "small"


async def test_what_a_live_candidate_changes_goes_before_what_is_saved(site, office):
    await save(office, CHEAP)
    draft = {"name": "generous", "changes": {"worth_usd": 0.05}}
    assert (await office.post("/lifecycle/candidates", json=draft)).status_code == 200
    for move, body in (("canary", {}), ("promote", {"to_live": True})):
        assert (await office.post(f"/lifecycle/candidates/generous/{move}", json=body)).status_code == 200
    assert await served(site) == ("large", 0.05)
    shown = (await office.get("/settings")).json()["in_force"]["knn"]
    assert shown["candidate"] == "generous"
    assert shown["settings"]["worth_usd"] == {"value": 0.05, "because": "candidate"}
    other = (await office.get("/settings")).json()["in_force"]["best_on_average"]
    assert other["settings"]["worth_usd"] == {"value": 1e-9, "because": "saved"}
    await save(office, {"worth_usd": 1e-8})
    assert await served(site) == ("large", 0.05), "the candidate's, still"
    await office.post("/lifecycle/candidates/generous/rollback", json={})
    assert await served(site) == ("small", 1e-8)


async def test_a_row_that_does_not_fit_here_changes_nothing_and_is_told_once(site, office, caplog):
    await save(office, CHEAP)
    register = SavedSettings(site.ledger.engine)
    await asyncio.to_thread(lambda: register.save({"worth_usd": -1.0}, author="another version"))
    for _ in range(2):
        await asyncio.to_thread(site.rollout.refresh)
    assert await served(site) == ("small", 1e-9)
    assert caplog.text.count("do not fit here") == 1


async def test_a_viewer_sees_settings_and_saves_none(site, visitor):
    assert (await visitor.get("/settings/history")).status_code == 200
    assert error_of(await visitor.post("/settings", json={"changes": CHEAP}), 403)["code"] == "read_only_role"
    assert error_of(await visitor.post("/settings/rollback/0", json={}), 403)["code"] == "read_only_role"
