"""One self-contained HTML page from the results of an evaluation: nothing is fetched, nothing is sent.

Tables are HTML and readable without a script; charts are drawn by the page's own script from data embedded as
JSON. Names of sets, tasks and endpoints come from data files and are never trusted: HTML is escaped, JSON cannot
end its element, the script writes text nodes only, and the page's policy admits no other script or style.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from router_gateway.evaluation import report_tables as tables
from router_gateway.evaluation.glossary import MEANING
from router_gateway.evaluation.report_charts import Chart, by_set, further
from router_gateway.evaluation.results import EvaluationResult, SetResult

TITLE = "Routing evaluation"
_SCRIPTS = ("draw.js", "charts.js", "figure.js", "page.js")

WHY = {
    "plane": "Each point of a curve is one setting of the dial, thick lines are hulls (mixtures by coin flips), bands "
    "are ± 1 sd over seeds. A router that is not above the zero router has learned nothing.",
    "gap": "0 is what flipping a budgeted coin between endpoints achieves, 1 is knowing every answer beforehand.",
    "calibration": "On the diagonal predicted quality is quality observed; a dot's area is its share of outcomes.",
    "shares": "The likeliest endpoint of each test request, from answers worth little (left) to worth much (right).",
    "latency": "Scoring one query at a time, embedding not included.",
    "protocol-probes": "An endpoint arrives after training, known only by so many labelled prompts; all may be chosen.",
    "protocol-tasks": "Each task is asked of a policy that learned from all the others.",
    "protocol-dynamic": "Routing among endpoints that arrived after training, known by a tenth of the prompts.",
    "protocol-robustness": "The same test prompts as written and changed in ways that leave their meaning alone.",
}


def write_report(results: EvaluationResult, path: Path | str) -> Path:
    """Write the page to `path` (its folder is made), replacing what was there only once it is whole."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(page(results), encoding="utf-8")
    os.replace(partial, target)
    return target


def page(results: EvaluationResult) -> str:
    """The whole page."""
    charts: dict[str, Chart] = {}
    sections = []
    for number, own in enumerate(results.sets):
        drawn = by_set(own)
        charts.update({f"{number}-{name}": chart for name, chart in drawn.items()})
        sections.append(_section(number, own, drawn))
    script, style = "".join(map(_asset, _SCRIPTS)), _asset("page.css")
    overview = ["<h2>All sets</h2>", tables.overview(results)] if len(results.sets) > 1 else []
    return Template(_asset("page.html")).substitute(
        title=TITLE,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        nav=_nav(results),
        body="\n".join([*overview, *sections, _about(results)]),
        charts=_embedded(charts),
    )


def _section(number: int, own: SetResult, drawn: Mapping[str, Chart]) -> str:
    facts = f"{own.queries:,} queries, {own.tasks_count:,} tasks, {len(own.endpoints):,} endpoints."
    free = "" if own.priced else " No cost is recorded, so every call counts as equally dear and only quality differs."

    def chart(name: str) -> str:
        if name not in drawn:
            return ""
        why = WHY.get(name, "") if name != "plane" or own.priced else "Where price plays no part; mean over the test."
        return _figure(f"{number}-{name}", drawn[name]["title"], why, tables.file_name(own.name, name))

    lines = [
        f'<section id="set-{number}" aria-labelledby="set-{number}-name">',
        f'<h2 id="set-{number}-name">{escape(own.name)}</h2>',
        f'<p class="lead">{facts}{free}</p>',
        tables.summary(own),
        chart("plane"),
        f'<div class="pair">{chart("gap")}{chart("latency")}{chart("calibration")}{chart("shares")}</div>',
    ]
    if any(policy.other for policy in own.policies):
        lines.append(f"<details><summary>Further figures</summary>{tables.others(own)}{_meanings(own)}</details>")
    if own.tasks:
        lines += ["<h3>By task</h3>", tables.tasks(own)]
    for asked in further(own):
        lines.append(f"<h3>{escape(asked.title)}</h3>")
        if asked.skipped:
            lines.append(f'<p class="note">Not asked of this set: {escape(asked.skipped)}.</p>')
        if asked.parts:
            lines += [chart(f"protocol-{asked.name}"), tables.protocol(own, asked)]
    if own.notes:
        lines += ["<h3>What to know of the data</h3>", _list(own.notes)]
    return "\n".join([*lines, "</section>"])


def _figure(key: str, title: str, why: str, file: str) -> str:
    explained = f'<p class="why">{escape(why)}</p>' if why else ""
    return (
        f'<figure class="chart" data-chart="{escape(key)}" data-file="{escape(file)}">'
        f'<figcaption>{escape(title)}</figcaption>{explained}<div class="stage"></div></figure>'
    )


def _nav(results: EvaluationResult) -> str:
    sets = [f'<li><a href="#set-{i}">{escape(own.name)}</a></li>' for i, own in enumerate(results.sets)]
    return f'<nav aria-label="Sets"><ul>{"".join(sets)}<li><a href="#about">How it was made</a></li></ul></nav>'


def _about(results: EvaluationResult) -> str:
    facts = [("seeds", ", ".join(map(str, results.seeds)))]
    if results.command:
        facts.insert(0, ("command", results.command))
    facts += sorted(results.versions.items())
    facts += [
        (f"{own.name}: {policy.name}", json.dumps(dict(policy.parameters), default=str))
        for own in results.sets
        for policy in own.policies
        if policy.parameters
    ]
    listed = "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(v)}</code></dd>" for k, v in facts)
    notes = [
        "AIQ is the mean height of a router's hull between the cost of the cheapest endpoint and that of the dearest "
        "one on the zero router; left of the router's first point it is the zero router. It is not the AIQ of "
        "RouterBench's code, nor an Area or AUDC.",
        "The zero router flips budgeted coins between endpoints and reads no prompt. The oracle knows every outcome "
        "and is swept over the same trade-off.",
        *results.notes,
    ]
    return f'<section id="about"><h2>How it was made</h2><dl>{listed}</dl>{_list(notes)}</section>'


def _meanings(own: SetResult) -> str:
    names = dict.fromkeys(name for policy in own.policies for name in policy.other)
    told = [f"<dt>{escape(n)}</dt><dd>{escape(MEANING[n])}</dd>" for n in names if n in MEANING]
    return f"<dl>{''.join(told)}</dl>" if told else ""


def _list(sentences: tuple[str, ...] | list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _embedded(charts: Mapping[str, Chart]) -> str:
    """JSON that is safe inside a script element: nothing in it can be read as markup."""
    text = json.dumps(charts, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files("router_gateway.evaluation").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
