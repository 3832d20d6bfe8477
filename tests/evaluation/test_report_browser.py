"""The page in a real browser: what a reader sees, presses and takes away."""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from router_gateway.evaluation.report import write_report
from tests.evaluation.chromium import BINARY, Page, browser
from tests.evaluation.made import POLICIES, evaluation, one_set

pytestmark = pytest.mark.skipif(BINARY is None, reason="no Chromium on this machine")

PLANE = "document.querySelector('figure[data-chart=\"0-plane\"]')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(tab: Page, tmp_path: Path) -> Iterator[Page]:
    """The made-up report, open; whatever the console has to say is a failure."""
    tab.complaints.clear()
    tab.open(write_report(evaluation(), tmp_path / "report.html"))
    yield tab
    tab.run("1")  # lets late messages arrive
    assert tab.complaints == []


@pytest.mark.parametrize(
    ("dark", "width", "phone"), [(False, 1200, False), (True, 1200, False), (False, 360, True), (True, 360, True)]
)
def test_every_chart_is_drawn_and_nothing_sticks_out(page, tmp_path, dark, width, phone):
    page.open(tmp_path / "report.html", width=width, height=800, dark=dark, phone=phone)
    drawn = page.run(
        "[...document.querySelectorAll('figure')].map(f => [f.dataset.chart,"
        " f.querySelectorAll('.stage svg path, .stage svg circle').length, f.querySelector('.stage svg').clientWidth])"
    )
    assert len(drawn) >= 12
    assert all(shapes >= 2 and wide > width / 4 for _, shapes, wide in drawn), drawn
    assert page.run("document.documentElement.scrollWidth") <= width
    assert not page.run("[...document.querySelectorAll('svg *')].some(e => /NaN|undefined|Infinity/.test(e.outerHTML))")
    back = page.run("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(15, 19, 24)" if dark else "rgb(255, 255, 255)")


def test_labels_stay_inside_their_charts(page, tmp_path):
    page.open(tmp_path / "report.html", width=360, height=800, phone=True)
    outside = page.run(
        "[...document.querySelectorAll('.stage svg text')].filter(t => { const a = t.getBoundingClientRect(),"
        " b = t.ownerSVGElement.getBoundingClientRect(); return a.left < b.left - 2 || a.right > b.right + 2; })"
        ".map(t => t.textContent)"
    )
    assert outside == []


def test_names_from_data_files_do_nothing(tab, tmp_path):
    tab.complaints.clear()
    nasty = '</script><img src=x onerror="window.hit = 1"><script>window.hit = 2</script>'
    own = one_set(nasty, endpoints=(nasty, "b", "c"), policies=(nasty, "knn"))
    tab.open(write_report(evaluation(own), tmp_path / "report.html"))
    tab.run(f"{PLANE}.querySelector('svg[role]').focus()")
    tab.press("ArrowRight")
    assert tab.run(f"{PLANE}.querySelector('.tip b').textContent") == nasty
    assert tab.run(
        "[typeof window.hit, document.querySelectorAll('img, svg script, .tip *:not(b):not(span)').length]"
    ) == [
        "undefined",
        0,
    ]
    assert tab.complaints == []


def test_keys_walk_through_a_chart(page):
    page.run(f"{PLANE}.querySelector('svg[role]').focus()")
    tip = f"{PLANE}.querySelector('.tip')"
    assert page.run(f"{tip}.hidden")
    page.press("ArrowRight")
    assert not page.run(f"{tip}.hidden")
    first = page.run(f"{tip}.innerText")
    assert first.startswith("knn")
    assert "price plays no part" in first
    page.press("ArrowRight")
    second = page.run(f"{tip}.innerText")
    assert "a perfect answer is worth 100 USD" in second
    assert "% model-3" in second
    page.press("ArrowDown")
    assert page.run(f"{tip}.innerText").startswith("linear")
    assert "linear" in page.run(f"{PLANE}.querySelector('[aria-live]').textContent")
    page.press("Escape")
    assert page.run(f"{tip}.hidden")


def test_the_pointer_finds_the_nearest_point(page):
    page.run(f"{PLANE}.scrollIntoView({{ behavior: 'instant' }})")
    x, y = page.run(
        "(() => { const dots = document.querySelectorAll('figure[data-chart=\"0-plane\"] .stage svg circle');"
        " const box = dots[0].getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + 3, y=y)
    assert page.run(f"{PLANE}.querySelector('.tip').innerText").startswith("knn\nUSD per 1,000 requests: 10\n")
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert page.run(f"{PLANE}.querySelector('.tip').hidden")


def test_a_legend_key_takes_its_series_away_and_back(page):
    key = f"[...{PLANE}.querySelectorAll('.key')].find(k => k.textContent === 'knn')"
    shapes = f"{PLANE}.querySelectorAll('.stage svg [stroke=\"var(--c0)\"]').length"
    before = page.run(shapes)
    assert before == 2, "the curve and its hull"
    page.run(f"{key}.focus()")
    page.press("Enter")
    assert page.run(f"[{shapes}, {key}.getAttribute('aria-pressed')]") == [0, "false"]
    page.press("Enter")
    assert page.run(f"[{shapes}, {key}.getAttribute('aria-pressed')]") == [before, "true"]


def test_the_cost_axis_can_be_linear(page):
    box = f"[...{PLANE}.querySelectorAll('label')].find(l => l.textContent.includes('logarithmic')).firstChild"
    texts = f"[...{PLANE}.querySelectorAll('.stage text')].map(t => t.textContent)"
    assert page.run(f"{box}.checked")
    assert "USD per 1,000 requests (logarithmic)" in page.run(texts)
    page.run(f"{box}.click()")
    assert "USD per 1,000 requests" in page.run(texts)


def test_a_column_head_sorts_its_table(page):
    table = "document.querySelector('table[data-file=\"alpha-summary\"]')"
    names = f"[...{table}.tBodies[0].rows].map(r => r.cells[0].textContent)"
    head = f"{table}.tHead.rows[0].cells[6].firstChild"
    page.run(f"{head}.focus()")
    page.press("Enter")
    assert page.run(names)[:3] == [*reversed(POLICIES)]
    page.press("Enter")
    assert page.run(names)[:3] == [*POLICIES]
    assert page.run(f"{table}.tHead.rows[0].cells[6].getAttribute('aria-sort')") == "ascending"


def test_a_chart_is_downloaded_as_picture_and_as_table(page, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    picture = page.download(f"{PLANE}.querySelector('.tools button').click()", folder)
    assert picture.name == "alpha-plane.png"
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    wide, high = struct.unpack(">II", content[16:24])
    assert wide == 2 * page.run(f"{PLANE}.querySelector('.stage svg').viewBox.baseVal.width")
    assert high > wide / 4
    assert len(content) > 20_000, "lines and letters, not an empty sheet"
    table = page.download(f"{PLANE}.querySelectorAll('.tools button')[1].click()", folder)
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {row["series"] for row in rows} >= {"knn", "knn (hull)", "zero router", "oracle", "single endpoints"}
    first = next(row for row in rows if row["series"] == "knn")
    assert float(first["USD per 1,000 requests"]) == pytest.approx(10.0)
    assert first["detail"].startswith("price plays no part; ")


def test_a_table_that_is_downloaded_holds_no_formula(tab, tmp_path):
    tab.complaints.clear()
    tab.open(write_report(evaluation(one_set("alpha", policies=("=1+1", 'say "x", y'))), tmp_path / "report.html"))
    button = "document.querySelector('table[data-file=\"alpha-summary\"]').closest('.scroll').nextSibling.firstChild"
    table = tab.download(f"{button}.click()", tmp_path)
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    assert [row[0] for row in rows[1:3]] == ["'=1+1", 'say "x", y']
    assert rows[1][1] == "0.83"
    assert tab.complaints == []
