"""The page Tune: the dial moves the point and says what changes; what is saved is in the API and the database."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.dashboard.tab import Tab

ESTIMATE_MS = 300_000  # a curve of thousands of decisions, on a machine that has other things to do


def opened(tab: Tab):
    """The page, with both curves drawn."""
    tab.page.goto(tab.site.url + "/tune")
    expect(tab.page.get_by_role("status").filter(has_text="This is the dial that is live")).to_be_visible(
        timeout=ESTIMATE_MS
    )
    tab.page.wait_for_function("() => !document.querySelector('[aria-busy=true]')", timeout=ESTIMATE_MS)
    return tab.page


def said(page):
    return page.locator(".rg-dial-said")


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


def test_the_dial_moves_by_keys_and_says_what_changes_without_asking_the_gateway(tab: Tab):
    page = opened(tab)
    computed = tab.site.api("GET", "/curve?on=traffic&since=30d").json()["computed_at"]
    dial = page.get_by_role("slider", name="worth_usd")
    expect(dial).to_have_attribute("aria-valuetext", "$0.01 for a perfect answer")
    dial.press("Home")
    expect(said(page)).to_contain_text("% cheaper (95 % interval")
    expect(said(page)).to_contain_text("lower (95 % interval")
    cheapest = said(page).inner_text()
    dial.press("PageUp")
    expect(said(page)).not_to_have_text(cheapest)
    dial.press("End")
    expect(said(page)).to_contain_text("% dearer (95 % interval")
    worth = page.get_by_label("worth_usd, in USD")
    worth.fill("0.0123")
    worth.press("Enter")
    expect(dial).to_have_attribute("aria-valuetext", "$0.0123 for a perfect answer")
    worth.fill("much")
    worth.press("Enter")
    expect(worth).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Back to the live dial").click()
    expect(said(page)).to_contain_text("This is the dial that is live")
    assert tab.site.api("GET", "/curve?on=traffic&since=30d").json()["computed_at"] == computed


def test_what_is_being_typed_outlives_news_of_the_dial(tab: Tab):
    page = opened(tab)
    worth = page.get_by_label("worth_usd, in USD")
    dial = page.get_by_role("slider", name="worth_usd")
    worth.press("End")
    worth.press_sequentially("23")
    # The component is told something, as when a curve arrives: it renders again.
    dial.evaluate("element => getElement(Number(element.id.split('-')[1])).$forceUpdate()")
    page.wait_for_timeout(200)
    expect(worth).to_have_value("0.0123")
    worth.press("Enter")
    expect(dial).to_have_attribute("aria-valuetext", "$0.0123 for a perfect answer")
    worth.fill("much")
    worth.press("Enter")
    expect(worth).to_have_attribute("aria-invalid", "true")
    dial.press("Home")
    expect(worth).to_have_attribute("aria-invalid", "false")
    expect(worth).not_to_have_value("much")


def test_both_grounds_are_drawn_with_intervals_and_what_needs_no_router(tab: Tab):
    page = opened(tab)
    for title in ("On your traffic", "On the reference set"):
        figure = page.get_by_role("group", name=title)
        expect(figure.locator("canvas")).to_be_visible()
        figure.get_by_text("As a table").click()
        table = figure.locator("table")
        for series in ("linear (live)", "endpoint alone", "coin between", "dial"):
            expect(table.get_by_role("cell", name=series, exact=True).first).to_be_attached()
        row = table.locator("tr", has_text="linear (live) at").first.locator("td").all_inner_texts()
        quality, low, high = (float(cell) for cell in row[2:5])
        assert low < quality < high


def test_what_is_saved_is_a_draft_in_the_api_and_the_database(tab: Tab):
    page, name = opened(tab), "tuned"
    worth = page.get_by_label("worth_usd, in USD")
    worth.fill("0.0042")
    worth.press("Enter")
    expect(page.get_by_text("Dial: $0.0042 for a perfect answer")).to_be_visible()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Note", exact=True).fill("spend less")
    choose(page, "Exploration", "epsilon greedy")
    page.get_by_label("epsilon", exact=True).fill("0.1")
    page.get_by_label("z", exact=True).fill("1.5")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_text(f"{name} is a draft")).to_be_visible()
    changes = {
        "worth_usd": 0.0042,
        "rule": {"name": "epsilon_greedy", "epsilon": 0.1},
        "guard": {"z": 1.5, "novelty_stddev_max": None},
    }
    one = tab.site.api("GET", f"/lifecycle/candidates/{name}").json()
    assert (one["state"], one["note"], one["author"].split()[0]) == ("draft", "spend less", "dashboard")
    assert one["changes"]["worth_usd"] == 0.0042
    assert one["changes"]["rule"] == changes["rule"]
    assert one["changes"]["guard"]["z"] == 1.5
    ((policy, stored, note),) = tab.site.rows("SELECT policy, changes, note FROM candidates WHERE name = ?", name)
    assert (policy, json.loads(stored)["worth_usd"], note) == ("linear", 0.0042, "spend less")
    assert tab.site.rows("SELECT state FROM lifecycle_transitions WHERE candidate = ?", name) == [("draft",)]


def test_a_policy_is_fitted_with_parameters_that_its_own_schema_checks(tab: Tab):
    page, name = opened(tab), "fewer-votes"
    page.get_by_label("Name", exact=True).fill(name)
    choose(page, "Policy", "knn, fitted anew")
    expect(page.get_by_text("Quality of the nearest past queries")).to_be_visible()
    votes = page.get_by_label("k", exact=True)
    votes.fill("0")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_text("at least 1", exact=True)).to_be_visible()
    assert tab.site.api("GET", f"/lifecycle/candidates/{name}").status_code == 404
    votes.fill("7")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_text(f"{name} is being fitted")).to_be_visible()
    page.goto(f"{tab.site.url}/policies/{name}")
    expect(page.locator(".rg-pill", has_text="draft")).to_be_visible(timeout=ESTIMATE_MS)
    one = tab.site.api("GET", f"/lifecycle/candidates/{name}").json()
    assert (one["state"], one["kind"], one["params"]["k"]) == ("draft", "knn", 7)
    states = tab.site.rows("SELECT state FROM lifecycle_transitions WHERE candidate = ? ORDER BY seq", name)
    assert states == [("fitting",), ("draft",)]


def test_a_name_that_is_taken_is_said_at_its_field(tab: Tab):
    body = {"name": "taken", "changes": {"optimism": 0.1}}
    assert tab.site.api("POST", "/lifecycle/candidates", body).status_code in (200, 409)
    page = opened(tab)
    page.get_by_label("Name", exact=True).fill("taken")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_text("exists already")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("not a name!")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_text("letters, digits")).to_be_visible()


def test_everybody_can_use_it(tab: Tab):
    opened(tab)
    tab.assert_fits()
    tab.assert_accessible()
    tab.assert_inert()


@pytest.mark.parametrize("size", [{"width": 390, "height": 844}, {"width": 1280, "height": 800}])
def test_the_dial_can_be_dragged(tab: Tab, size):
    page = opened(tab)
    page.set_viewport_size(size)
    dial = page.get_by_role("slider", name="worth_usd")
    dial.scroll_into_view_if_needed()
    box = dial.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    expect(said(page)).to_contain_text("cheaper")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
