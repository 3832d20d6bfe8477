"""The page Access: what is made and revoked there, as the API and the database have it afterwards."""

from __future__ import annotations

import re
from contextlib import closing

import httpx
import pytest

from router_gateway.dashboard.pages import PAGES
from tests.dashboard.tab import PHONE, Tab


def row_of(tab: Tab, table: str, text: str):
    return tab.page.get_by_role("table", name=table).get_by_role("row").filter(has_text=text)


def field(page, name: str):
    """An input of the open dialog."""
    return page.get_by_role("dialog").get_by_label(name, exact=True)


@pytest.fixture
def viewer(site, browser):
    """A tab of somebody whose key only reads."""
    made = site.api("POST", "/keys", {"name": "onlooker", "role": "viewer"}).json()
    with Tab.open(site, browser) as tab:
        tab.admit(made["secret"])
        yield tab
    site.api("DELETE", f"/keys/{made['id']}")


def test_a_key_is_made_shown_once_used_and_revoked(tab: Tab, site):
    page = tab.goto("/access")
    page.get_by_role("button", name="New key").click()
    field(page, "Name").fill("robot <b>7</b>")
    field(page, "Team").fill("acme")
    field(page, "May use").fill("nano, small")
    field(page, "Reason").fill("nightly job")
    page.get_by_role("button", name="Make the key").click()
    secret = page.locator(".rg-secret").inner_text()
    assert re.fullmatch(r"rg-[A-Za-z0-9_-]{43}", secret)
    tab.assert_inert()
    page.get_by_role("button", name="Close").click()
    page.locator(".rg-secret").wait_for(state="detached")  # a dialog fades before it is gone
    row_of(tab, "Keys", "robot <b>7</b>").wait_for()
    assert secret not in page.content()
    (key,) = [key for key in site.api("GET", "/keys").json()["data"] if key["name"] == "robot <b>7</b>"]
    assert (key["tenant"], key["allows"], key["role"]) == ("acme", ["nano", "small"], "user")
    assert site.rows("SELECT sha256 FROM api_keys WHERE name = ?", "robot <b>7</b>")[0][0] not in page.content()
    models = httpx.get(f"{site.gateway.base_url}/models", headers={"x-api-key": secret}, trust_env=False)
    assert models.status_code == 200
    row_of(tab, "Keys", "robot <b>7</b>").get_by_role("button").click()
    page.get_by_role("button", name="Revoke…").click()
    page.get_by_role("alertdialog").get_by_label("Reason").fill("job is gone")
    page.get_by_role("alertdialog").get_by_role("button", name="Revoke").click()
    row_of(tab, "Keys", "robot <b>7</b>").wait_for(state="detached")
    assert "robot <b>7</b>" not in [key["name"] for key in site.api("GET", "/keys").json()["data"]]
    revoked = site.rows("SELECT count(*) FROM api_key_revocations WHERE key_id = ?", key["id"].replace("-", ""))
    assert revoked == [(1,)]
    revoke, create = site.api("GET", "/events?action=key&limit=2").json()["data"]
    assert (create["action"], create["note"]) == ("key.create", "nightly job")
    assert (revoke["action"], revoke["note"]) == ("key.revoke", "job is gone")


def test_keys_are_searched_by_name_team_and_first_letters(tab: Tab, site):
    page = tab.goto("/access")
    app = next(key for key in site.api("GET", "/keys").json()["data"] if key["name"] == "app")
    for said in ("APP", app["prefix"], app["tenant"]):
        page.keyboard.press("Escape")
        page.get_by_label("Search").fill(said)
        row_of(tab, "Keys", "dashboard").wait_for(state="detached")
        row_of(tab, "Keys", app["prefix"]).wait_for()
        page.get_by_label("Search").fill("")
        row_of(tab, "Keys", "dashboard").wait_for()


def test_what_the_gateway_refuses_is_said_at_the_field_and_nothing_is_lost(tab: Tab, site):
    before = len(site.api("GET", "/keys").json()["data"])
    page = tab.goto("/access")
    page.get_by_role("button", name="New key").click()
    field(page, "Team").fill("acme")
    page.get_by_role("button", name="Make the key").click()
    page.get_by_text("has to be given").wait_for()
    field(page, "Name").fill("x" * 101)
    page.get_by_role("button", name="Make the key").click()
    page.get_by_text("String should have at most 100 characters").wait_for()
    assert field(page, "Team").input_value() == "acme"
    page.get_by_role("button", name="Cancel").click()
    assert len(site.api("GET", "/keys").json()["data"]) == before


def test_a_budget_is_set_burns_down_is_changed_and_removed(tab: Tab, site):
    page = tab.goto("/access")
    page.get_by_role("button", name="Set a budget").click()
    field(page, "Team, or the key's first letters").fill("globex")
    field(page, "Limit, USD").fill("lots")
    page.get_by_role("button", name="Save").click()
    page.get_by_text(re.compile("valid decimal")).wait_for()
    field(page, "Limit, USD").fill("$40")
    page.get_by_role("button", name="Save").click()
    row = row_of(tab, "Budgets", "team globex")
    row.wait_for()
    assert site.rows("SELECT scope, period, limit_nusd FROM budgets WHERE subject = 'globex'") == [
        ("tenant", "month", 40_000_000_000)
    ]
    row.get_by_role("button").click()
    page.get_by_text("Burn-down", exact=True).wait_for()
    burnt = site.api("GET", "/budgets/history?scope=team&subject=globex&period=month").json()
    spent_nusd = next(t["spent_nusd"] for t in site.api("GET", "/teams").json()["data"] if t["name"] == "globex")
    assert burnt["steps"][-1]["spent_nusd"] == spent_nusd > 0
    page.get_by_role("button", name="Change the limit").click()
    assert field(page, "Limit, USD").input_value() == "40"
    field(page, "Limit, USD").fill("60.5")
    page.get_by_role("button", name="Save").click()
    row.filter(has_text="$60.50").wait_for()
    row.get_by_role("button").click()
    page.get_by_role("button", name="Remove…").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Remove").click()
    row.wait_for(state="detached")
    assert site.rows("SELECT count(*) FROM budgets WHERE subject = 'globex'") == [(0,)]
    actions = [event["action"] for event in site.api("GET", "/events?action=budget&limit=3").json()["data"]]
    assert actions == ["budget.remove", "budget.set", "budget.set"]


def test_a_viewer_sees_everything_and_can_change_nothing(viewer: Tab, site):
    page = viewer.goto("/access")
    row_of(viewer, "Keys", "onlooker").wait_for()
    for name in ("New key", "Set a budget"):
        assert page.get_by_role("button", name=name).count() == 0
    assert row_of(viewer, "Keys", "onlooker").get_by_role("button").count() == 0
    row_of(viewer, "Budgets", "team acme").get_by_role("button").click()
    page.get_by_text("Burn-down", exact=True).wait_for()
    assert page.get_by_role("button", name="Remove…").count() == 0
    secret = site.api("POST", "/keys", {"name": "another onlooker", "role": "viewer"}).json()
    refused = site.api("POST", "/keys", {"name": "sneaky"}, key=secret["secret"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "read_only_role")
    site.api("DELETE", f"/keys/{secret['id']}")


def test_a_viewer_is_refused_on_no_page(viewer: Tab, site):
    """But those two whose estimates take a process and many seconds."""
    before = site.api("GET", "/events?limit=1").json()["data"]
    for page in PAGES:
        if "{" not in page.path and page.path not in ("/", "/tune"):
            viewer.goto(page.path)
            assert viewer.page.locator(".rg-error").all_inner_texts() == [], page.path
    assert site.api("GET", "/events?limit=1").json()["data"] == before


def test_a_session_ends_with_its_key(site, browser):
    made = site.api("POST", "/keys", {"name": "short-lived", "role": "viewer"}).json()
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(site.url + "/login")
        page.get_by_label("Admin or viewer key").fill(made["secret"])
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_selector("#main")
        site.api("DELETE", f"/keys/{made['id']}")
        page.goto(site.url + "/access")
        page.wait_for_url("**/login*", timeout=30_000)


def test_the_page_can_be_used_by_everybody(tab: Tab, site):
    page = tab.goto("/access")
    tab.assert_inert(*[key["name"] for key in site.api("GET", "/keys").json()["data"]])
    tab.assert_fits()
    tab.assert_accessible()
    page.get_by_role("button", name="New key").focus()
    page.keyboard.press("Enter")
    field(page, "Name").wait_for()
    page.wait_for_timeout(400)  # the dialog's own animation, which axe would catch half-way
    tab.assert_accessible()
    page.set_viewport_size(PHONE)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"]
    page.keyboard.press("Escape")
    field(page, "Name").wait_for(state="detached")
