"""The overview says what the admin API and the ledger say."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from tests.dashboard.tab import Tab


def figure(tab: Tab, label: str) -> str:
    """The value of the tile with that label."""
    return (
        tab.page.locator(".rg-tile", has=tab.page.get_by_text(label, exact=True)).locator(".rg-tile-value").inner_text()
    )


def test_the_figures_are_those_of_the_ledger(tab: Tab, site):
    page = tab.goto("/")
    page.get_by_role("button", name="30 days").click()
    page.wait_for_selector(".rg-tile-detail:text('30 days')")
    since = (datetime.now(UTC) - timedelta(days=30)).replace(second=0, microsecond=0)
    totals = site.api("GET", f"/overview?step=day&since={quote(since.isoformat())}").json()["totals"]
    first_day = since.date().isoformat()
    [(nusd, calls, errors)] = site.rows(
        "SELECT sum(cost_nusd), count(*), sum(status <> 200 OR error IS NOT NULL) FROM attempts WHERE at >= ?",
        first_day,
    )
    assert totals["cost_nusd"] == nusd
    assert figure(tab, "Spend") == f"${nusd / 1e9:,.2f}"
    assert figure(tab, "Failed calls") == f"{errors / calls * 100:.2f} %"
    assert figure(tab, "Quality of rated answers") == f"{totals['quality'] * 100:.1f} %"


def test_another_time_gives_other_figures(tab: Tab):
    page = tab.goto("/")
    week = figure(tab, "Spend")
    page.get_by_role("button", name="24 hours").click()
    page.wait_for_selector(".rg-tile-detail:text('24 hours')")
    assert figure(tab, "Spend") != week
    assert page.get_by_role("button", name="24 hours").get_attribute("aria-pressed") == "true"


def test_one_sentence_says_whether_routing_is_worth_it(tab: Tab):
    """And its figures are those of the tiles beneath it."""
    page = tab.goto("/", slow=True)
    said = page.locator(".rg-verdict p").inner_text()
    found = re.search(
        r"is worth ([+-][\d.]+) points \(([+-][\d.]+) to ([+-][\d.]+)\) of quality a request, price included,"
        r" more than sending everything to (\w+), and ([+-][\d.]+) points \(([+-][\d.]+) to ([+-][\d.]+)\)"
        r" more than a random mix",
        said,
    )
    assert found, said
    worth, low, high, best, over_mix, *_ = found.groups()
    assert float(low) <= float(worth) <= float(high)
    assert figure(tab, "Quality against random at equal cost") == f"{over_mix} points".replace("-", "−")
    spent = page.get_by_text(f"Saved against {best} alone").or_(page.get_by_text(f"Spent beyond {best} alone"))
    assert spent.count() == 1
    assert page.locator(".rg-verdict .rg-pill").inner_text() in ("worth it", "not shown", "harmful")
    assert re.search(r"audited\s+\d+ (sec|min)", page.locator("#main").inner_text())


def test_the_budgets_are_those_of_the_api(tab: Tab, site):
    page = tab.goto("/")
    for budget in site.api("GET", "/budgets").json()["data"]:
        used = (budget["spent_nusd"] + budget["reserved_nusd"]) / budget["limit_nusd"]
        name = " ".join(filter(None, (budget["scope"], budget["subject"])))
        meter = page.get_by_role("meter", name=f"{name}: spent", exact=True).first
        assert meter.get_attribute("aria-valuenow") == f"{min(used, 1) * 100:.0f}"


def test_a_chart_is_taken_away_as_picture_and_as_table(tab: Tab, site, tmp_path):
    page = tab.goto("/")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download Spend as PNG").click()
    picture = tmp_path / coming.value.suggested_filename
    coming.value.save_as(picture)
    assert picture.name == "spend.png"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 10_000, "lines and letters, not an empty sheet"
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download Spend as CSV").click()
    coming.value.save_as(tmp_path / "spend.csv")
    rows = list(csv.DictReader((tmp_path / "spend.csv").read_text(encoding="utf-8").splitlines()))
    answer = site.api("GET", f"/overview?step=hour&since={quote(rows[0]['time (UTC)'])}").json()
    for of in answer["endpoints"]:
        shown = {row["time (UTC)"]: float(row[of["endpoint"]] or 0) for row in rows}
        said = dict(zip(answer["steps"], of["cost_nusd"], strict=True))
        assert shown == {at: pytest.approx(said[at] / 1e9) for at in shown}


def test_the_figures_of_a_chart_can_be_read_without_seeing_it(tab: Tab):
    page = tab.goto("/")
    figure = page.get_by_role("group", name="Traffic share")
    assert "Which part of the requests each endpoint got" in (
        figure.get_by_role("img").get_attribute("aria-label") or ""
    )
    figure.get_by_text("As a table").click()
    figure.locator("table tbody tr").first.wait_for()
    assert figure.locator("table thead th").all_inner_texts()[1:] == ["coder", "large", "nano", "small"]
    assert figure.locator("table tbody tr").count() >= 40


def test_the_overview_can_be_used_by_everybody(tab: Tab):
    tab.goto("/")
    tab.assert_inert()
    tab.assert_fits()
    tab.assert_accessible()
