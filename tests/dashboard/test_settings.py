"""The page Settings: what is saved there and taken back, as the API and the database have it afterwards."""

from __future__ import annotations

import csv
import json
import re

import httpx
import pytest

from tests.dashboard.tab import Tab


def cell(tab: Tab, setting: str):
    return tab.page.get_by_role("table", name="Settings in force").get_by_role("row").filter(has_text=setting)


def field(page, name: str):
    """An input of the open dialog."""
    return page.get_by_role("dialog").get_by_label(name, exact=True)


@pytest.fixture(autouse=True)
def _as_configured(site):
    """Every test begins and ends with nothing saved."""
    site.api("POST", "/settings/rollback/0", {"note": "a test begins"})
    yield
    site.api("POST", "/settings/rollback/0", {"note": "a test is over"})


def test_a_dial_is_saved_serves_at_once_and_is_taken_back(tab: Tab, site):
    configured = site.api("GET", "/settings").json()["settings"]["worth_usd"]
    page = tab.goto("/settings")
    page.get_by_role("button", name="Change settings").click()
    field(page, "worth_usd, USD").fill("0.0031")
    field(page, "Reason").fill("holidays <i>soon</i>")
    page.get_by_role("button", name="Save").click()
    cell(tab, "worth_usd").filter(has_text="saved here").wait_for()
    assert "0.0031" in cell(tab, "worth_usd").inner_text()
    tab.assert_inert("holidays <i>soon</i>")
    assert site.api("GET", "/settings").json()["settings"]["worth_usd"] == 0.0031
    [(author, note, changes, state)] = site.rows(
        "SELECT author, note, changes, state FROM settings ORDER BY seq DESC LIMIT 1"
    )
    assert author.startswith("dashboard (rg-")
    assert (note, json.loads(changes), json.loads(state)) == (
        "holidays <i>soon</i>",
        {"worth_usd": 0.0031},
        {"worth_usd": 0.0031},
    )
    headers = {"authorization": f"Bearer {site.world.user_key}"}
    body = {"messages": [{"role": "user", "content": "What is two and two?"}]}
    decided = httpx.post(
        f"{site.gateway.base_url}/routing/decide", json=body, headers=headers, timeout=30, trust_env=False
    )
    assert decided.json()["worth_usd"] == 0.0031
    cell(tab, "worth_usd").get_by_role("button").click()
    page.get_by_role("button", name="Back to the configuration…").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Lift").click()
    cell(tab, "worth_usd").filter(has_text=re.compile("configuration file|default")).wait_for()
    assert site.api("GET", "/settings").json()["settings"]["worth_usd"] == configured


def test_an_earlier_row_is_brought_back(tab: Tab, site):
    first = site.api("POST", "/settings", {"changes": {"optimism": 0.25}, "note": "explore"}).json()["saved"]["id"]
    site.api("POST", "/settings", {"changes": {"optimism": None, "guard": {"z": 1.5}}, "note": "careful"})
    page = tab.goto("/settings", later=True)
    history = page.get_by_role("table", name="History of settings")
    history.get_by_role("row").filter(has_text="explore").get_by_role("button").click()
    page.get_by_role("button", name="Go back to this…").click()
    page.get_by_role("alertdialog").get_by_label("Reason").fill("it was better")
    page.get_by_role("alertdialog").get_by_role("button", name="Go back").click()
    history.get_by_role("row").filter(has_text="it was better").wait_for()
    saved = site.api("GET", "/settings").json()["saved"]
    assert (saved["state"], saved["restores"], saved["note"]) == ({"optimism": 0.25}, first, "it was better")
    (event,) = site.api("GET", "/events?action=settings&limit=1").json()["data"]
    assert (event["action"], event["note"]) == ("settings.roll_back", "it was better")
    page.get_by_role("table", name="Trail").get_by_role("row").filter(has_text="settings.roll_back").first.wait_for()


def test_a_rule_is_chosen_with_its_number_and_a_wrong_one_is_said_at_the_field(tab: Tab, site):
    page = tab.goto("/settings")
    page.get_by_role("button", name="Change settings").click()
    page.get_by_role("combobox", name="rule").click()
    page.get_by_role("option", name=re.compile("^epsilon_greedy")).click()
    field(page, "epsilon").fill("1.5")
    page.get_by_role("button", name="Save").click()
    page.get_by_text(re.compile("less than or equal to 1")).wait_for()
    assert site.api("GET", "/settings").json()["saved"]["state"] == {}
    field(page, "epsilon").fill("0.1")
    page.get_by_role("button", name="Save").click()
    cell(tab, "rule").filter(has_text="epsilon_greedy epsilon=0.1").wait_for()
    assert site.api("GET", "/settings").json()["saved"]["state"] == {"rule": {"name": "epsilon_greedy", "epsilon": 0.1}}


def test_who_saves_over_somebody_elses_change_is_told(tab: Tab, site):
    page = tab.goto("/settings")
    page.get_by_role("button", name="Change settings").click()
    field(page, "worth_usd, USD").fill("0.5")
    site.api("POST", "/settings", {"changes": {"optimism": 0.125}})
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Somebody else saved settings just now").wait_for()
    page.get_by_role("button", name="Cancel").click()
    assert site.api("GET", "/settings").json()["saved"]["state"] == {"optimism": 0.125}


def test_the_ledger_is_downloaded_and_that_is_on_record(tab: Tab, site):
    page = tab.goto("/settings")
    days = site.rows("SELECT substr(max(at), 1, 10) FROM decisions")[0][0]
    page.get_by_label("From (UTC)").fill(days)
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download").click()
    with downloading.value.path().open(newline="") as file:
        rows = list(csv.DictReader(file))
    statement = (
        "SELECT count(*) FROM attempts JOIN decisions d USING (query_id) WHERE d.at >= ? AND d.tenant <> 'gateway'"
    )
    wanted = site.rows(statement, days)
    assert len(rows) == wanted[0][0] > 0
    assert {row["prompt"] for row in rows} == {""}
    (event,) = site.api("GET", "/events?action=ledger&limit=1").json()["data"]
    assert (event["subject"], event["detail"]) == ("csv", {"since": days})


def test_a_viewer_saves_nothing_and_exports_no_prompts(site, browser):
    made = site.api("POST", "/keys", {"name": "onlooker", "role": "viewer"}).json()
    with Tab.open(site, browser) as tab:
        tab.sign_in(made["secret"])
        page = tab.goto("/settings")
        cell(tab, "worth_usd").wait_for()
        assert page.get_by_role("button", name="Change settings").count() == 0
        assert cell(tab, "worth_usd").get_by_role("button").count() == 0
        assert page.get_by_text("with prompts").count() == 0
        cookies = {cookie["name"]: cookie["value"] for cookie in tab.context.cookies()}
        refused = httpx.get(site.url + "/export", params={"text": "true"}, cookies=cookies, trust_env=False)
        assert (refused.status_code, "exports no prompts" in refused.text) == (400, True)
    site.api("DELETE", f"/keys/{made['id']}")


def test_another_site_cannot_make_a_browser_export(tab: Tab, site):
    cookies = {cookie["name"]: cookie["value"] for cookie in tab.context.cookies()}
    before = site.api("GET", "/events?action=ledger&limit=1").json()["data"]
    refused = httpx.get(
        site.url + "/export", cookies=cookies, headers={"sec-fetch-site": "cross-site"}, trust_env=False
    )
    assert refused.status_code == 403
    assert site.api("GET", "/events?action=ledger&limit=1").json()["data"] == before
    assert httpx.get(site.url + "/export", trust_env=False).status_code == 303, "nobody without a session"


def test_the_page_can_be_used_by_everybody(tab: Tab, site):
    site.api("POST", "/settings", {"changes": {"optimism": 0.1}, "note": "<img src=x onerror=window.__pwned=1>"})
    page = tab.goto("/settings")
    tab.assert_inert("<img src=x onerror=window.__pwned=1>")
    tab.assert_fits()
    tab.assert_accessible()
    page.get_by_role("button", name="Change settings").focus()
    page.keyboard.press("Enter")
    field(page, "worth_usd, USD").wait_for()
    page.wait_for_timeout(400)  # the dialog's own animation, which axe would catch half-way
    tab.assert_accessible()
    page.keyboard.press("Escape")
    field(page, "worth_usd, USD").wait_for(state="detached")
    page.get_by_text("Show all of it").click()
    assert "default_endpoint" in page.get_by_label("The configuration as JSON").inner_text()
