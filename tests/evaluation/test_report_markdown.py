from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.report_markdown import BEGIN, END, check_tables, write_tables
from tests.evaluation.made import evaluation, one_set


def tables_of(text: str) -> list[list[list[str]]]:
    """Cells of every table, its rule left out; fails on a table whose rows are not equally wide."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.M):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().split("\n")]
        assert len({len(row) for row in rows}) == 1
        assert set("".join(rows[1])) <= {"-", ":"}
        found.append([rows[0], *rows[2:]])
    return found


def test_prose_is_kept_and_tables_are_replaced(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Mine\n\nbefore\n\n{BEGIN}\nold figures\n{END}\n\nafter\n", encoding="utf-8")
    write_tables(evaluation(), page)
    once = page.read_text(encoding="utf-8")
    assert once.startswith(f"# Mine\n\nbefore\n\n{BEGIN}\n")
    assert once.endswith(f"{END}\n\nafter\n")
    assert "old figures" not in once
    write_tables(evaluation(), page)
    assert page.read_text(encoding="utf-8") == once


def test_without_a_document_one_is_begun(tmp_path: Path) -> None:
    page = write_tables(evaluation(), tmp_path / "docs" / "new.md")
    assert page.read_text(encoding="utf-8").startswith("# Benchmarks\n")
    check_tables(page)


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_document_without_both_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"page\.md: tables need"):
        write_tables(evaluation(), page)
    assert page.read_text(encoding="utf-8") == text


def test_policies_stand_by_the_gap_they_close_and_each_has_one_line(tmp_path: Path) -> None:
    names = [f"policy-{i:02}" for i in range(20)]
    own = one_set("alpha", policies=names)
    own = replace(own, policies=own.policies[::-1])
    text = write_tables(evaluation(own), tmp_path / "page.md").read_text(encoding="utf-8")
    headline = tables_of(text)[0]
    assert [row[0] for row in headline[1:]] == [*names, "*random*", "*zero router*", "*oracle*"]
    first = dict(zip(headline[0], headline[1], strict=True))
    assert first["gap closed"] == "12.0 %"
    assert first["95 %"] == "9.0 % to 16.0 %"
    assert first["AIQ"] == "0.8300"
    assert first["USD/1,000 at the best single's quality"] == "4.7"
    assert first["seeds"] == "67 %"
    assert first["least saved"] == "–", "not known here"
    assert first["score ms p50, p99"] == "0.25, 1.50"


def test_a_set_without_costs_speaks_of_none(tmp_path: Path) -> None:
    own = one_set("beta", priced=False)
    own = replace(own, policies=tuple(replace(p, other={**p.other, "area": 0.5}) for p in own.policies))
    text = write_tables(evaluation(own), tmp_path / "page.md").read_text(encoding="utf-8")
    assert not {"saved", "seeds", "Area", "QNC", "CostSave"} & {head for table in tables_of(text) for head in table[0]}
    assert "every call counts as equally dear" in text


def test_protocols_have_a_table_each_or_say_why_not(tmp_path: Path) -> None:
    text = write_tables(evaluation(one_set("alpha")), tmp_path / "page.md").read_text(encoding="utf-8")
    assert "Not asked of this set: fewer than four endpoints." in text
    by_head = {tuple(table[0]): table for table in tables_of(text)}
    probes = by_head["", "10", "20", "all"]
    assert probes[-1] == ["*oracle*", "0.9500", "0.9500", "0.9500"]
    robust = by_head["", "as written", "typos"]
    assert robust[1] == ["knn", "0.8000 (100 % alike)", "0.8000 (93 % alike)"]


@pytest.mark.parametrize("name", ["a|b", "<b>", "*a*", "_a_", "[a](b)", "a\nb", "`a`", "a\\|b", "# a", "a&amp;b"])
def test_names_are_text_and_nothing_else(tmp_path: Path, name: str) -> None:
    own = one_set(name, endpoints=("a", "b", name), policies=(name, "p_q"))
    text = write_tables(evaluation(own), tmp_path / "page.md").read_text(encoding="utf-8")
    rows = tables_of(text)[0]
    shown = re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), rows[1][0])
    assert shown == " ".join(name.split())
    assert rows[1][0] == shown or not set(rows[1][0]) & set("|<>*`[]\\")
    assert rows[2][0] == "p_q"


def test_pictures_are_shown_from_where_the_page_lies(tmp_path: Path) -> None:
    pictures = [[tmp_path / "images" / "alpha-plane.png"]]
    text = write_tables(evaluation(one_set("alpha")), tmp_path / "docs" / "page.md", pictures=pictures).read_text(
        "utf-8"
    )
    assert "![alpha-plane](../images/alpha-plane.png)" in text


def test_what_is_not_known_is_a_dash(tmp_path: Path) -> None:
    own = one_set("alpha")
    own = replace(own, policies=tuple(replace(p, aiq=math.nan, gap_closed=math.nan) for p in own.policies))
    text = write_tables(evaluation(own), tmp_path / "page.md").read_text(encoding="utf-8")
    assert "nan" not in text
    assert tables_of(text)[0][1][1] == "–"
