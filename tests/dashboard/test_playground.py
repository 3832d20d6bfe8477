"""The playground: a decision that is only shown, and a blind verdict that lands in the ledger."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from playwright.sync_api import expect

from tests.dashboard.site import Site
from tests.dashboard.tab import Tab

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    from dashboard_world import CORPUS
finally:
    sys.path.pop(0)

COMPARED = "SELECT better, worse, source FROM comparisons ORDER BY seq DESC LIMIT 1"
COUNTS = "SELECT (SELECT count(*) FROM decisions), (SELECT count(*) FROM attempts)"


def soon(read, wanted):
    """What the ledger's writer is on its way with is there in the end."""
    until = time.monotonic() + 20
    while read() != wanted and time.monotonic() < until:
        time.sleep(0.1)
    assert read() == wanted


def test_a_decision_is_explained_and_nothing_is_written(tab: Tab, site: Site):
    before = site.rows(COUNTS)
    page = tab.goto("/playground")
    page.get_by_label("Prompt").fill("Summarise the indemnity clause of this contract.")
    page.get_by_label("Worth of a perfect answer, USD").fill("0.5")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Decide, without calling anybody").press("Enter")
    page.get_by_role("table", name="Candidates").wait_for()
    body = {"prompt": "Summarise the indemnity clause of this contract.", "worth_usd": 0.5}
    found = site.api("POST", "/decide", body).json()
    best = max(found["candidates"], key=lambda row: row["value"])
    first = page.get_by_role("table", name="Candidates").locator("tbody tr").first
    expect(first).to_contain_text(best["endpoint"])
    expect(page.locator(".rg-lead")).to_contain_text("would answer")
    assert site.rows(COUNTS) == before
    tab.assert_inert()
    tab.assert_fits()
    tab.assert_accessible()


def test_a_prompt_of_markup_is_shown_and_does_nothing(tab: Tab, site: Site):
    page = tab.goto("/playground")
    for prompt in CORPUS:
        page.get_by_label("Prompt").fill(f"What does this do? {prompt}")
        page.get_by_role("button", name="Decide, without calling anybody").click()
        page.locator(".rg-lead").wait_for()
        tab.assert_inert()
    page.get_by_role("button", name="Ask both").click()
    page.get_by_role("button", name="A is better").wait_for()
    tab.assert_inert()


def test_what_is_missing_is_said_at_the_field(tab: Tab):
    page = tab.goto("/playground")
    below = page.get_by_role("button", name="Ask both")
    below.scroll_into_view_if_needed()
    place = below.bounding_box()
    page.get_by_role("button", name="Decide, without calling anybody").click()
    expect(page.get_by_text("type a prompt first")).to_be_visible()
    assert below.bounding_box() == place, "the page jumps under the hand"
    page.get_by_label("Prompt").fill("x")
    page.get_by_label("Another endpoint").click()
    page.get_by_role("option", name="nano").click()
    page.get_by_role("button", name="Ask both").click()
    expect(page.get_by_text("are the same twice")).to_be_visible()


def test_a_viewer_may_look_and_cannot_ask(stranger: Tab, site: Site):
    made = site.api("POST", "/keys", {"name": "onlooker", "role": "viewer"}).json()
    stranger.sign_in(made["secret"])
    page = stranger.goto("/playground")
    for name in ("Decide, without calling anybody", "Ask both"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    page = stranger.goto("/endpoints/nano")
    expect(page.get_by_role("button", name="Onboard with probes")).to_be_disabled()
    assert site.api("POST", "/decide", {"prompt": "x"}, key=made["secret"]).status_code == 403


def test_a_blind_verdict_lands_in_the_ledger(tab: Tab, site: Site):
    said_before = site.rows("SELECT count(*) FROM comparisons")[0][0]
    page = tab.goto("/playground")
    page.get_by_label("Prompt").fill("What is the capital of Australia?")
    page.get_by_role("button", name="Ask both").click()
    page.get_by_role("button", name="A is better").wait_for()
    card = page.locator("section", has=page.get_by_role("heading", name="Side by side"))
    answers = card.get_by_role("region").all_inner_texts()
    assert len(answers) == 2
    heads = card.locator(".rg-grid > .rg-column > .rg-dim").all_inner_texts()
    assert [each.strip() for each in heads] == ["", ""], "nobody is named before the verdict"
    tab.assert_accessible()
    page.get_by_role("button", name="A is better").press("Enter")
    toast = page.locator(".q-notification__message")
    ink = "e => getComputedStyle(e).color"
    assert toast.evaluate(ink) == page.locator("body").evaluate(ink), "a toast can be read"
    expect(page.get_by_text("Recorded: A is better.")).to_be_visible()
    heads = card.locator(".rg-grid > .rg-column > .rg-dim").all_inner_texts()
    better, worse = (each.partition(":")[0] for each in heads)
    assert {better, worse} == {"nano", "large"}
    soon(lambda: site.rows("SELECT count(*) FROM comparisons"), [(said_before + 1,)])
    assert site.rows(COMPARED) == [(better, worse, "user")]
    made = (
        "SELECT endpoint, propensity, reason FROM decisions WHERE requested_model = 'compare' ORDER BY at DESC LIMIT 2"
    )
    assert {row[0] for row in site.rows(made)} == {"nano", "large"}
    assert {row[1:] for row in site.rows(made)} == {(0.0, "pinned")}
    page.locator("[class*=enter-active]").wait_for(state="detached")  # colours are what they are once the toast stands
    tab.assert_inert()
    tab.assert_fits()
    tab.assert_accessible()
