"""The page Policies: from a draft to live and back, each move checked in the API and the database."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.dashboard.tab import Tab
from tests.dashboard.test_tune import ESTIMATE_MS, choose

ODD = '<img src=x onerror="window.__pwned=2"> {{constructor.constructor("window.__pwned=4")()}}'


def drafted(tab: Tab, name, **body):
    made = {"name": name, "changes": {"worth_usd": 0.02}, "note": ODD, **body}
    answer = tab.site.api("POST", "/lifecycle/candidates", made)
    assert answer.status_code == 200, answer.text
    tab.goto(f"/policies/{name}")
    return tab.page


def state(tab: Tab, name):
    return tab.site.api("GET", f"/lifecycle/candidates/{name}").json()


def press(page, button, *, reason="", typed=None, **fields):
    """The button, and the dialog behind it."""
    page.get_by_role("button", name=button, exact=True).click()
    dialog = page.get_by_role("alertdialog")
    for label, value in fields.items():
        dialog.get_by_label(label.replace("_", " "), exact=False).fill(value)
    if typed is not None:
        dialog.get_by_label("to confirm").fill(typed)
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=button, exact=True).click()


def trail(tab: Tab, name):
    query = "SELECT before, state, share, note FROM lifecycle_transitions WHERE candidate = ? ORDER BY seq"
    return tab.site.rows(query, name)


def test_a_candidate_goes_from_draft_to_live_and_is_rolled_back(tab: Tab):
    name = "upward"
    page = drafted(tab, name)
    expect(page.locator(".rg-pill", has_text="draft")).to_be_visible()
    press(page, "Start canary", reason="let us see", Share="20")
    expect(page.locator(".rg-pill", has_text="canary 20 %")).to_be_visible()
    one = state(tab, name)
    assert (one["state"], one["share"]) == ("canary", 0.2)
    assert trail(tab, name)[-1] == ("draft", "canary", 0.2, "let us see")

    press(page, "Promote", reason="looks good")
    expect(page.locator(".rg-pill", has_text="canary 25 %")).to_be_visible()
    assert state(tab, name)["share"] == 0.25

    page.get_by_role("button", name="Make live now", exact=True).click()
    dialog = page.get_by_role("alertdialog")
    dialog.get_by_label("to confirm").fill("something else")
    dialog.get_by_role("button", name="Make live now", exact=True).click()
    expect(dialog.get_by_text("not the same")).to_be_visible()
    assert state(tab, name)["state"] == "canary"
    dialog.get_by_label("to confirm").fill(name)
    dialog.get_by_label("Reason").fill("sure")
    dialog.get_by_role("button", name="Make live now", exact=True).click()
    expect(page.locator(".rg-pill.rg-good", has_text="live")).to_be_visible()
    assert state(tab, name)["state"] == "live"
    served = {row["name"]: row for row in tab.site.api("GET", "/policies").json()["data"]}["linear"]
    assert (served["candidate"], served["worth_usd"]) == (name, 0.02)
    assert trail(tab, name)[-1] == ("canary", "live", None, "sure")

    press(page, "Roll back", reason="second thoughts")
    expect(page.locator(".rg-pill.rg-bad", has_text="rolled back")).to_be_visible()
    assert state(tab, name)["state"] == "rolled_back"
    assert trail(tab, name)[-1] == ("live", "rolled_back", None, "second thoughts")
    served = {row["name"]: row for row in tab.site.api("GET", "/policies").json()["data"]}["linear"]
    assert served["candidate"] is None

    press(page, "Retire", reason="enough")
    expect(page.locator(".rg-pill", has_text="retired")).to_be_visible()
    assert state(tab, name)["state"] == "retired"
    tab.goto("/policies")
    moves = page.get_by_role("table", name="Audit trail")
    for note in ("let us see", "sure", "second thoughts", "enough"):
        expect(moves.get_by_text(note, exact=True)).to_be_visible()


def test_who_turns_back_changes_nothing(tab: Tab):
    page = drafted(tab, "hesitant")
    page.get_by_role("button", name="Retire", exact=True).click()
    page.get_by_role("alertdialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Start canary", exact=True).click()
    dialog = page.get_by_role("alertdialog")
    dialog.get_by_label("Share").fill("200")
    dialog.get_by_role("button", name="Start canary", exact=True).click()
    expect(dialog.get_by_text("more than 0 and less than 100")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    assert [row[1] for row in trail(tab, "hesitant")] == ["draft"]


def test_a_running_test_is_shown_with_its_evidence(tab: Tab):
    name = "tested"
    page = drafted(tab, name, changes={"worth_usd": 0.002})
    expect(page.get_by_text("Not tried yet")).to_be_visible()
    assert tab.site.api("POST", f"/lifecycle/candidates/{name}/canary", {"share": 0.5}).status_code == 200
    headers = {"authorization": f"Bearer {tab.site.world.admin_key}"}
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
        for number in range(24):
            body = {
                "model": "auto",
                "messages": [{"role": "user", "content": f"What is {number} and two?"}],
                "routing": {"session_id": f"tested-{number}"},
            }
            answer = client.post(f"{tab.site.gateway.base_url}/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            said = {"decision_id": answer.headers["x-router-decision-id"], "score": 1.0}
            assert client.post(f"{tab.site.gateway.base_url}/feedback", json=said).status_code == 200
    measures = page.get_by_role("table", name="Measures")
    expect(measures.get_by_text("Time to first token")).to_be_visible()
    chart = page.get_by_role("group", name="Cost")
    expect(chart.locator("canvas")).to_be_visible()
    shown = tab.site.api("GET", f"/lifecycle/candidates/{name}/evidence").json()["canary"]
    assert {each["name"]: len(each["course"]) > 0 for each in shown["measures"]}["cost"]
    assert tab.site.api("POST", f"/lifecycle/candidates/{name}/rollback", {}).status_code == 200


def test_two_stand_side_by_side(tab: Tab):
    drafted(tab, "beside", changes={"worth_usd": 0.0005})
    page = tab.goto("/policies")
    choose(page, "Second", "beside (draft)")
    table = page.get_by_role("table", name="Two side by side")
    expect(table).to_be_visible(timeout=ESTIMATE_MS)
    dials = table.locator("tr", has_text="dial").first.locator("td").all_inner_texts()
    assert dials == ["dial", "$0.010", "$0.00050"]
    change = table.locator("tr", has_text="against what is live: cost").locator("td").all_inner_texts()
    assert change[2].startswith("−"), "a cheaper dial costs less"
    expect(page.get_by_role("group", name="On your traffic").locator("canvas")).to_be_visible()
    apart = tab.site.api("GET", "/disagreements?against=beside&limit=20").json()
    assert apart["disagreements"] > 0
    shown = page.get_by_role("table", name="Disagreements").locator("tbody tr")
    assert shown.count() == len(apart["data"])
    first = shown.first.locator("td").all_inner_texts()
    assert (first[1], first[2]) == (apart["data"][0]["policy"]["endpoint"], apart["data"][0]["against"]["endpoint"])
    assert first[0].strip()
    tab.assert_inert()
    tab.assert_accessible()


def test_what_people_wrote_is_shown_and_does_nothing(tab: Tab):
    drafted(tab, "odd")
    tab.assert_inert(ODD)
    tab.goto("/policies")
    tab.assert_inert(ODD)
    tab.page.goto(f"{tab.site.url}/policies/%3Cimg%20src%3Dx%20onerror%3D%22window.__pwned%3D1%22%3E")
    expect(tab.page.get_by_role("alert").first).to_be_visible()
    tab.assert_inert()


@pytest.mark.parametrize("path", ["/policies", "/policies/looked-at"])
def test_everybody_can_use_it(tab: Tab, path):
    body = {"name": "looked-at", "changes": {"optimism": 0.1}}
    assert tab.site.api("POST", "/lifecycle/candidates", body).status_code in (200, 409)
    tab.goto(path)
    tab.assert_fits()
    tab.assert_accessible()
    tab.assert_inert()
