from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from router_gateway.evaluation.report import page, write_report
from router_gateway.evaluation.report_charts import STACKED_MAX, by_set
from tests.evaluation.made import DIALS, evaluation, one_set

VOID = {"meta", "input", "br", "img", "link"}
NASTY = '<img src=x onerror="alert(1)">'
ENDING = "</script><script>alert(2)</script>"


class Read(HTMLParser):
    """Elements with their attributes and text; fails on an end that fits no beginning."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[tuple[str, int]] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, at in self._open:
            self.texts[at] = self.texts.get(at, "") + data

    def of(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (own, self.texts.get(at, ""))
            for at, (name, own) in enumerate(self.elements)
            if name == tag and all(own.get(key) == value for key, value in attributes.items())
        ]


def charts_of(read: Read) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read.of("script", id="charts")[0][1])
    return found


def row(text: str, table: str, name: str) -> list[tuple[str, str]]:
    """(shown, value) of a row's cells in the table of that file name."""
    body = re.search(rf'data-file="{table}".*?</table>', text, re.S)
    assert body
    cells = re.search(rf'<th scope="row">{name}</th>(.*?)</tr>', body[0], re.S)
    assert cells
    return [(re.sub("<.*?>", "", s), v) for v, s in re.findall(r'<td[^>]*data-value="(.*?)">(.*?)</td>', cells[1])]


def test_every_figure_has_its_chart_and_every_chart_its_figure():
    read = Read(page(evaluation()))
    figures = [own["data-chart"] for own, _ in read.of("figure")]
    assert len(set(figures)) == len(figures)
    assert set(figures) == set(charts_of(read))
    assert {f"0-{name}" for name in ("plane", "gap", "calibration", "shares", "latency", "protocol-probes")} <= {
        *figures
    }
    assert len(read.of("section")) == 3
    assert [text for _, text in read.of("h2")] == ["All sets", "alpha", "beta", "How it was made"]


def test_the_page_names_no_other_place_and_admits_only_its_own_script_and_style():
    text = page(evaluation())
    read = Read(text)
    targets = [v for _, own in read.elements for k, v in own.items() if k in ("src", "href", "action", "data")]
    assert targets
    assert all(str(target).startswith("#") for target in targets)
    policy = read.of("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"] or ""
    inline = [text for own, text in read.of("script") if "type" not in own] + [read.of("style")[0][1]]
    assert len(inline) == 2
    for own in inline:
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket", text)


def test_summary_rows_hold_the_figures():
    text = page(evaluation())
    knn = row(text, "alpha-summary", "knn")
    assert [v for _, v in knn] == ["0.83", "0.12", "0.8125", "4.7", "0.53", "0.25", "1.5"]
    assert [s for s, _ in knn] == [
        "0.8300 ± 0.0041",
        "12.0% 9.0% to 16.0%",
        "0.8125",
        "4.7 in 67% of seeds",
        "53%",
        "0.25",
        "1.5",
    ]
    assert row(text, "alpha-summary", "clusters")[3] == ("–", "")
    assert row(text, "alpha-summary", "zero router")[0] == ("0.7700", "0.77")
    assert row(text, "alpha-further", "random") == [("–", "")] * 3
    assert row(text, "alpha-tasks", "riddles")[-1] == ("–", "")
    assert row(text, "alpha-robustness", "linear")[1] == ("0.7900 93% alike", "0.79")
    assert row(text, "overview", "linear")[0] == ("0.8200 9.0%", "0.82")
    assert row(text, "beta-summary", "knn")[3:5] == [("–", "")] * 2, "no costs, so nothing is saved"


def test_only_the_best_policy_of_a_column_is_marked():
    text = page(evaluation(one_set("alpha")))
    assert len(re.findall('class="best"', re.search(r'data-file="alpha-summary".*?</table>', text, re.S)[0])) == 1
    assert re.search(r'<th scope="row">knn</th><td class="best"', text)


def test_what_was_not_asked_and_how_it_was_made_is_said():
    read = Read(page(evaluation()))
    paragraphs = [text for _, text in read.of("p")]
    assert "Not asked of this set: fewer than four endpoints." in paragraphs
    about = read.of("section", id="about")[0][1]
    for said in ("router-gateway evaluate alpha.csv --seeds 3", "0, 1, 2", "2.4.6", "alpha: mine failed", '{"k": 20}'):
        assert said in about
    assert "70/30" not in "".join(text for _, text in read.of("h3")), "the pooled split is what all the rest is of"


@pytest.mark.parametrize("name", [NASTY, ENDING, "a & b", "'\"`", "\u2028$style ${x}", "=1+1"])
def test_names_are_text_and_nothing_else(name: str):
    plain = Read(page(evaluation(one_set("alpha", endpoints=("a", "b", "c"), policies=("p",)))))
    own = one_set(name, endpoints=(name, "b", "c"), policies=(name,))
    read = Read(page(evaluation(own)))
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in plain.elements]
    assert {key for _, attributes in read.elements for key in attributes} == {
        key for _, attributes in plain.elements for key in attributes
    }
    assert read.of("h2", id="set-0-name")[0][1] == name
    chart = charts_of(read)["0-plane"]
    assert chart["series"][0]["name"] == name
    assert name in next(one for one in chart["series"] if one["name"] == "single endpoints")["labels"]


def test_curves_are_in_dollars_per_thousand_and_keep_their_order():
    own = one_set("alpha")
    curve = next(one for one in by_set(own)["plane"]["series"] if one["name"] == "knn")
    assert own.policies[0].curve is not None
    assert curve["x"] == pytest.approx([c * 1000 for c in own.policies[0].curve.cost_usd], rel=1e-5)
    assert len(curve["x"]) == len(curve["y"]) == len(curve["sd"]) == len(curve["info"]) == DIALS
    assert curve["info"][0][0] == "price plays no part"
    assert curve["info"][1][0] == "a perfect answer is worth 100 USD"
    assert curve["hull"]["y"] == sorted(curve["hull"]["y"])
    names = [one["name"] for one in by_set(own)["plane"]["series"]]
    assert names == ["knn", "linear", "clusters", "zero router", "oracle", "single endpoints", "other references"]


def test_without_costs_quality_alone_is_drawn():
    chart = by_set(one_set("beta", priced=False))["plane"]
    assert chart["kind"] == "dots"
    values = [line["value"] for line in chart["rows"] if line["value"] is not None]
    assert values == sorted(values, reverse=True)
    assert {line["name"] for line in chart["rows"]} >= {"knn", "model-0", "best_single", "random", "oracle"}


def test_many_endpoints_share_a_layer_and_layers_sum_to_one():
    chart = by_set(one_set("many", endpoints=31))["shares"]
    assert len(chart["names"]) == STACKED_MAX + 1
    assert chart["names"][-1] == f"{31 - STACKED_MAX} others"
    for variant in chart["variants"]:
        assert len(variant["x"]) == DIALS - 1, "the dial without price has no place on a scale of dollars"
        assert variant["x"] == sorted(variant["x"])
        assert [sum(column) for column in zip(*variant["shares"], strict=True)] == pytest.approx(
            [1.0] * (DIALS - 1), abs=1e-4
        )


def test_a_set_with_next_to_nothing_still_has_a_page():
    own = one_set("bare", endpoints=2, policies=())
    read = Read(page(evaluation(own)))
    assert set(charts_of(read)) >= {"0-plane"}
    assert "0-gap" not in charts_of(read)


def test_writing_replaces_the_file_whole_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "report.html"
    assert write_report(evaluation(), target) == target
    first = target.read_bytes()
    write_report(evaluation(one_set("other")), target)
    assert target.read_bytes() != first
    write_report(evaluation(), target)
    assert target.read_bytes() == first, "the same results give the same page"
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_what_rounds_to_zero_has_no_sign():
    own = one_set("alpha")
    level = replace(own.policies[1], gap_closed=-0.0001, gap_closed_low=-0.0004, gap_closed_high=0.0004)
    text = page(evaluation(replace(own, policies=(own.policies[0], level))))
    assert row(text, "alpha-summary", "linear")[1] == ("0.0% 0.0% to 0.0%", "-0.0001")


def test_far_references_do_not_flatten_a_protocol():
    chart = by_set(one_set("alpha"))["protocol-probes"]
    assert "oracle" in {one["name"] for one in chart["series"]} & set(chart["off"])
