"""The pages of the pool: how endpoints fare, one of them opened, one onboarded, one drafted."""

from __future__ import annotations

import shutil

import pytest
import yaml
from playwright.sync_api import expect

from tests.dashboard.site import Site, World, start_dashboard
from tests.dashboard.tab import Tab
from tests.e2e import process, quiz


@pytest.fixture(scope="module")
def pupil():
    with quiz.taking(0.6) as taking:
        yield taking


@pytest.fixture(scope="module")
def school(world: World, pupil, tmp_path_factory):
    """The installation with a newcomer in the pool that nobody has asked anything, and one whose prices change."""
    directory = tmp_path_factory.mktemp("school")
    shutil.copytree(world.directory, directory, dirs_exist_ok=True)
    settings = yaml.safe_load((directory / "gateway.yaml").read_text())
    price = {"price_input_usd_per_mtok": 0.3, "price_output_usd_per_mtok": 1.2}
    newcomer = {"name": "newcomer", "model": "quiz/pupil", "base_url": pupil.base_url, "context_tokens_max": 32_000}
    settings["endpoints"][0]["price_changes"] = [
        {"at": f"{year}-01-01T00:00:00Z", "price_input_usd_per_mtok": value, "price_output_usd_per_mtok": 4 * value}
        for year, value in ((2025, 0.04), (2026, 0.03))
    ]
    settings["endpoints"].append({**newcomer, **price})
    (directory / "gateway.yaml").write_text(yaml.safe_dump(settings))
    copied = World(directory=directory, requests=world.requests, admin_key=world.admin_key, user_key=world.user_key)
    gateway = process.start(directory, "--config", str(copied.config))
    dashboard = None
    try:
        dashboard = start_dashboard(directory, gateway.base_url.removesuffix("/v1"))
        yield Site(world=copied, gateway=gateway, dashboard=dashboard)
    finally:
        if dashboard is not None:
            dashboard.stop()
        gateway.stop()


@pytest.fixture
def desk(school, browser):
    """A tab of somebody who has signed in there."""
    with Tab.open(school, browser) as tab:
        tab.sign_in(school.world.admin_key)
        yield tab


def test_the_pool_is_listed_as_the_api_has_it(desk: Tab, school: Site):
    page = desk.goto("/endpoints")
    rows = page.get_by_role("table", name="Endpoints").locator("tbody tr")
    known = [each["name"] for each in school.api("GET", "/endpoints").json()["data"]]
    assert sorted(known) == rows.locator("td:first-child").all_inner_texts()
    desk.assert_inert()
    desk.assert_fits()
    desk.assert_accessible()


def test_an_endpoint_shows_its_latency_calibration_and_prices(desk: Tab, school: Site):
    name = school.api("GET", "/endpoints").json()["data"][0]["name"]
    page = desk.goto(f"/endpoints/{name}")
    for title in ("Latency", "Requests and errors", "Calibration", "Price history"):
        expect(page.locator(".rg-chart-title", has_text=title).first).to_be_visible()
    found = school.api("GET", f"/endpoints/{name}/calibration").json()
    assert found["n"] > 50
    assert f"{found['ece']:.3f}" in page.locator("#main").inner_text()
    assert len(school.api("GET", f"/endpoints/{name}").json()["price_history"]) == 3
    desk.assert_inert()
    desk.assert_fits()
    desk.assert_accessible()


def test_what_a_configuration_says_of_an_endpoint_is_text(desk: Tab, school: Site):
    region = school.api("GET", "/endpoints/large").json()["region"]
    assert "<svg" in region
    desk.goto("/endpoints/large")
    desk.assert_inert(region)


def test_a_newcomer_is_onboarded_and_its_interval_narrows(desk: Tab, school: Site, pupil):
    page = desk.goto("/endpoints/newcomer")
    page.get_by_text("Never onboarded").wait_for()
    page.get_by_label("probes").fill("0")
    page.get_by_role("button", name="Onboard with probes").click()
    expect(page.get_by_text("at least 1", exact=True)).to_be_visible()
    assert school.rows("SELECT count(*) FROM onboarding_steps") == [(0,)]
    page.get_by_label("probes").fill("16")
    page.get_by_label("budget_usd").fill("0.25")
    page.get_by_role("button", name="Onboard with probes").press("Enter")  # by keyboard
    page.get_by_role("button", name="Ask the probes").click()
    told = page.locator("#main .rg-region [role=status]").first
    expect(told).to_contain_text("16 of 16 answers", timeout=120_000)
    expect(page.locator("#main .rg-pill", has_text="done")).to_be_visible(timeout=60_000)
    (listed,) = school.api("GET", "/onboardings").json()["data"]
    found = school.api("GET", f"/onboardings/{listed['id']}").json()
    assert (found["endpoint"], found["state"], found["graded"], found["budget_usd"]) == ("newcomer", "done", 16, 0.25)
    widths = [each["interval"]["high"] - each["interval"]["low"] for each in found["steps"] if each["interval"]]
    assert widths[-1] < widths[0]
    asked = "SELECT count(*), sum(cost_nusd) FROM decisions JOIN attempts USING (query_id) WHERE requested_model = ?"
    assert school.rows(asked, "onboard") == [(16, found["spent_nusd"])]
    graded = "SELECT count(*), sum(quality) FROM feedback WHERE source = 'verifier' AND comment LIKE 'probe %'"
    assert school.rows(graded) == [(16, float(sum(prompt in pupil.right for prompt in pupil.asked)))]
    standings = page.get_by_role("table", name="Where everybody stands")
    expect(standings.locator("tr", has_text="newcomer")).to_contain_text("of 16")
    desk.assert_inert()
    desk.assert_fits()
    desk.assert_accessible()


def test_an_onboarding_is_stopped(desk: Tab, school: Site, pupil):
    pupil.pause_s = 0.3
    try:
        page = desk.goto("/endpoints/newcomer")
        page.get_by_label("probes").fill("120")
        page.get_by_role("button", name="Onboard with probes").click()
        page.get_by_role("button", name="Ask the probes").click()
        page.get_by_role("button", name="Stop the onboarding").click(timeout=60_000)
        expect(page.locator("#main .rg-pill", has_text="stopped")).to_be_visible(timeout=60_000)
    finally:
        pupil.pause_s = 0.0
    newest = school.api("GET", "/onboardings").json()["data"][0]
    assert newest["state"] == "stopped"
    assert newest["answered"] < 120


def test_what_is_replayed_cannot_be_onboarded_and_says_so(desk: Tab, school: Site):
    page = desk.goto("/endpoints/nano")
    before = school.api("GET", "/onboardings").json()["data"]
    page.get_by_role("button", name="Onboard with probes").click()
    page.get_by_role("button", name="Ask the probes").click()
    expect(page.get_by_text("replayed from recordings")).to_be_visible()
    assert school.api("GET", "/onboardings").json()["data"] == before


def test_a_new_endpoint_is_checked_and_comes_back_as_lines_to_paste(desk: Tab, school: Site):
    page = desk.goto("/endpoints")
    ways = {"name": "nano", "model": "maker/<b>fresh</b>", "price_input_usd_per_mtok": "0.5"}
    ways |= {"price_output_usd_per_mtok": "2", "context_tokens_max": "8000", "api_key_env": "NO_SUCH_KEY"}
    for label, value in ways.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Check and show the lines").click()
    expect(page.get_by_text("is taken by an endpoint")).to_be_visible()
    page.get_by_label("name", exact=True).fill("fresh")
    page.get_by_role("button", name="Check and show the lines").click()
    lines = page.get_by_label("Lines for gateway.yaml")
    lines.wait_for()
    (read,) = yaml.safe_load(lines.inner_text())["endpoints"]
    assert (read["name"], read["model"], read["api_key_env"]) == ("fresh", "maker/<b>fresh</b>", "NO_SUCH_KEY")
    expect(page.get_by_text("is not set where the gateway runs")).to_be_visible()
    assert "fresh" not in [each["name"] for each in school.api("GET", "/endpoints").json()["data"]]
    desk.assert_inert("maker/<b>fresh</b>")
    desk.assert_accessible()
