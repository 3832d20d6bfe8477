"""The page's tables as HTML: readable without a script, sortable with one. Every text is escaped here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from router_gateway.evaluation.report_charts import PER_THOUSAND
from router_gateway.evaluation.results import EvaluationResult, PartResult, PolicyResult, ProtocolResult, SetResult

NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is shown, and what it is sorted and exported by ("" where there is no value)."""

    text: str
    value: str
    aside: str = ""
    best: bool = False


def figure(value: float, form: str = ".4f", *, aside: str = "", best: bool = False) -> Cell:
    """A number, or a dash where it is not defined; `aside` follows in small print."""
    if not math.isfinite(value):
        return Cell(text=NONE, value="")
    return Cell(text=_number(value, form), value=f"{value:.10g}", aside=aside, best=best)


def _number(value: float, form: str) -> str:
    """Without the sign that formatting leaves on what rounds to zero."""
    text = f"{value:{form}}"
    return text.removeprefix("-") if text.strip("-0.%") == "" else text


def table(caption: str, heads: Sequence[str], rows: Iterable[tuple[str, bool, Sequence[Cell]]], *, file: str) -> str:
    """HTML of a table; a row is (name, whether it is a reference, cells)."""
    lines = [
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">',
        f'<table class="sortable" data-file="{escape(file)}"><caption><span>{escape(caption)}</span></caption>',
        "<thead><tr>" + "".join(f'<th scope="col">{escape(head)}</th>' for head in heads) + "</tr></thead><tbody>",
    ]
    for name, reference, cells in rows:
        opening = '<tr class="reference">' if reference else "<tr>"
        lines.append(f'{opening}<th scope="row">{escape(name)}</th>{"".join(map(_cell, cells))}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _cell(cell: Cell) -> str:
    aside = f" <small>{escape(cell.aside)}</small>" if cell.aside else ""
    best = ' class="best"' if cell.best else ""
    return f'<td{best} data-value="{escape(cell.value)}">{escape(cell.text)}{aside}</td>'


def summary(own: SetResult) -> str:
    """Every policy and reference of a set with its headline figures; the best policy of a column is bold."""
    learned = [p for p in own.policies if not p.reference]
    single = next((p for p in own.singles if p.name == own.best_single), None)
    single_cost = single.cost_usd if single else math.nan
    best_aiq = max((p.aiq for p in learned if math.isfinite(p.aiq)), default=math.nan)
    rows: list[tuple[str, bool, Sequence[Cell]]] = [
        (p.name, p.reference, _headline(p, single_cost, priced=own.priced, best=not p.reference and p.aiq == best_aiq))
        for p in sorted(own.policies, key=lambda p: (p.reference, -_or(p.aiq, -math.inf)))
    ]
    nothing = [figure(math.nan)] * 5
    rows.append(("zero router", True, [figure(own.zero), figure(0.0, ".1%"), *nothing]))
    rows.append(("oracle", True, [figure(own.oracle), figure(1.0, ".1%"), *nothing]))
    heads = [
        "",
        "AIQ",
        "gap closed",
        "quality at zero price",
        "USD per 1,000 at the best single's quality",
        "saved against best single",
        "score ms, p50",
        "score ms, p99",
    ]
    best = f"; best single endpoint (by train): {own.best_single}" if own.best_single else ""
    return table(f"Summary of {own.name}: means over seeds{best}", heads, rows, file=file_name(own.name, "summary"))


def _headline(policy: PolicyResult, single_cost_usd: float, *, priced: bool, best: bool) -> list[Cell]:
    sd = f"± {policy.aiq_sd:.4f}" if math.isfinite(policy.aiq_sd) else ""
    low, high = policy.gap_closed_low, policy.gap_closed_high
    between = f"{_number(low, '.1%')} to {_number(high, '.1%')}" if math.isfinite(low + high) else ""
    cost = policy.cost_at_best_single_quality if priced else math.nan
    share = policy.other.get("cost_at_best_single_quality_share", cost / single_cost_usd if single_cost_usd else cost)
    reached = policy.other.get("reached_best_single_share", 1.0)
    least = policy.other.get("cost_saved_min", math.nan)
    sure = f"least {_number(least, '.0%')}" if math.isfinite(least) and not policy.reference else ""
    return [
        figure(policy.aiq, aside=sd, best=best),
        figure(policy.gap_closed, ".1%", aside=between),
        figure(policy.quality_at_zero_price),
        figure(cost * PER_THOUSAND, ".4g", aside=f"in {reached:.0%} of seeds" if reached < 1.0 else ""),
        figure(1.0 - share if priced else math.nan, ".0%", aside=sure),
        figure(policy.score_ms_p50, ".3g"),
        figure(policy.score_ms_p99, ".3g"),
    ]


def others(own: SetResult) -> str:
    """Every further figure by the name of its metric; costs in USD per request here, as in the JSON."""
    names = list(dict.fromkeys(name for policy in own.policies for name in policy.other))
    rows = [
        (policy.name, policy.reference, [figure(policy.other.get(name, math.nan), ".4g") for name in names])
        for policy in sorted(own.policies, key=lambda p: p.reference)
    ]
    rows.append(("zero router", True, [figure(own.zero_other.get(name, math.nan), ".4g") for name in names]))
    caption = "Further figures, means over seeds; costs in USD per request"
    return table(caption, ["", *names], rows, file=file_name(own.name, "further"))


def tasks(own: SetResult) -> str:
    """Quality by task and row; the best policy of a task is bold."""
    learned = {p.name for p in own.policies if not p.reference}
    names = sorted(dict.fromkeys(n for task in own.tasks for n in task.quality), key=lambda n: n not in learned)
    rows: list[tuple[str, bool, Sequence[Cell]]] = []
    for task in own.tasks:
        best = max((q for n, q in task.quality.items() if n in learned and math.isfinite(q)), default=math.nan)
        cells = [
            figure(task.quality.get(n, math.nan), best=n in learned and task.quality.get(n) == best) for n in names
        ]
        rows.append((task.name, False, [figure(task.queries, ",.0f"), *cells]))
    caption = f"Mean quality by task, {own.tasks_at}"
    return table(caption, ["task", "queries", *names], rows, file=file_name(own.name, "tasks"))


def protocol(own: SetResult, asked: ProtocolResult) -> str:
    """AIQ of every policy in every part of a protocol, and decisions that perturbations left alone."""
    learned = {p.name for p in own.policies if not p.reference}
    names = sorted(dict.fromkeys(n for part in asked.parts for n in part.aiq), key=lambda n: n not in learned)
    parts = [part.name or "AIQ" for part in asked.parts]
    rows = [(n, n not in learned, [_part(part, n) for part in asked.parts]) for n in names]
    caption = f"{asked.title}: AIQ"
    if any(part.gap_closed for part in asked.parts):
        caption += ", and the share of the gap closed"
    if any(part.unchanged for part in asked.parts):
        caption += ", and the share of decisions that stay as they were"
    return table(caption, ["", *parts], rows, file=file_name(own.name, asked.name))


def _part(part: PartResult, name: str) -> Cell:
    sd, closed, same = (m.get(name, math.nan) for m in (part.aiq_sd, part.gap_closed, part.unchanged))
    asides = [
        f"± {sd:.4f}" if math.isfinite(sd) else "",
        _number(closed, ".0%") if math.isfinite(closed) else "",
        f"{same:.0%} alike" if math.isfinite(same) else "",
    ]
    return figure(part.aiq.get(name, math.nan), aside=", ".join(a for a in asides if a))


def overview(results: EvaluationResult) -> str:
    """Policies against sets: AIQ, and the share of the gap closed in small print."""
    names = list(dict.fromkeys(p.name for own in results.sets for p in own.policies if not p.reference))
    rows: list[tuple[str, bool, Sequence[Cell]]] = []
    for name in names:
        found = [next((p for p in own.policies if p.name == name), None) for own in results.sets]
        cells = [
            figure(p.aiq, aside=_number(p.gap_closed, ".1%") if math.isfinite(p.gap_closed) else "")
            if p
            else figure(math.nan)
            for p in found
        ]
        rows.append((name, False, cells))
    rows.append(("zero router", True, [figure(own.zero) for own in results.sets]))
    rows.append(("oracle", True, [figure(own.oracle) for own in results.sets]))
    caption = "AIQ by set; in small print the share of the gap from zero router to oracle that is closed"
    return table(caption, ["", *(own.name for own in results.sets)], rows, file="overview")


def file_name(*parts: str) -> str:
    """A name every file system takes, from names that may hold anything."""
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("._")[:60] or "unnamed" for part in parts)


def _or(value: float, other: float) -> float:
    return value if math.isfinite(value) else other
