"""The tables of an evaluation as Markdown, written between two marks of a document that is otherwise kept.

Names of sets, endpoints and policies come from data files: whatever means something in a table or in HTML is escaped.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.compared import YARDSTICK
from router_gateway.evaluation.report_charts import PER_THOUSAND, further
from router_gateway.evaluation.report_pictures import by_gap
from router_gateway.evaluation.results import EvaluationResult, PartResult, PolicyResult, ProtocolResult, SetResult

BEGIN = "<!-- tables: begin. Written by `router-gateway evaluate --tables`; what is changed here is lost. -->"
END = "<!-- tables: end -->"
NONE = "–"
_EMPTY = f"# Benchmarks\n\n{BEGIN}\n{END}\n"
_ZERO = "*zero router*"
_BOUNDS = {"zero_router": _ZERO, "oracle": "*oracle*"}
_MARKUP = re.compile(r"[\\|<>&*`\[\]#!~$]|(?<!\w)_|_(?!\w)")
"""What means something in Markdown; an underscore does only at a word's edge."""


def check_tables(path: Path | str) -> None:
    """Raises ConfigError unless there is nothing at `path` or a document with BEGIN and, after it, END, once each."""
    _around(Path(path))


def write_tables(results: EvaluationResult, path: Path | str, *, pictures: Sequence[Sequence[Path]] = ()) -> Path:
    """Replace what is between the marks of the document at `path`; without a document, begin one.

    pictures : files to show, set by set
    Raises ConfigError as `check_tables` does.
    """
    target = Path(path)
    before, after = _around(target)
    shown = [[os.path.relpath(own, target.parent) for own in files] for files in pictures] or [[] for _ in results.sets]
    sections = [_of_set(own, files) for own, files in zip(results.sets, shown, strict=True)]
    text = "\n\n".join([_how(results), *sections])
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    os.replace(partial, target)
    return target


def _around(path: Path) -> tuple[str, str]:
    text = path.read_text(encoding="utf-8") if path.exists() else _EMPTY
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ConfigError([f"{path}: tables need the lines {BEGIN!r} and, after it, {END!r}, once each"])
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]


def _how(results: EvaluationResult) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    notes = [f"- {_text(note)}" for note in results.notes]
    return "\n".join([f"Seeds: {', '.join(map(str, results.seeds))}. Made with {_text(versions)}.", *notes])


def _of_set(own: SetResult, pictures: Iterable[str]) -> str:
    learned = sorted((p for p in own.policies if not p.reference), key=by_gap)
    single = f" Best single endpoint by train: {_text(own.best_single)}." if own.best_single else ""
    free = "" if own.priced else " No cost is recorded, so every call counts as equally dear."
    lines = [
        f"## {_text(own.name)}",
        f"{own.queries:,} queries, {own.tasks_count:,} tasks, {len(own.endpoints):,} endpoints.{single}{free}",
        _headline(own, learned),
        "\n".join(f"![{_text(Path(p).stem)}]({p})" for p in pictures),
        _details("Estimates and effort", _estimates(learned)),
        _details("Told apart at the best single's cost?", _verdicts(learned)),
        _details("As other papers count", _papers(own, learned)),
        *(_details(_text(asked.title), _protocol(asked, {p.name for p in learned})) for asked in further(own)),
        "\n".join(f"- {_text(note)}" for note in own.notes),
    ]
    return "\n\n".join(line for line in lines if line)


def _headline(own: SetResult, learned: Sequence[PolicyResult]) -> str:
    heads = ["", "gap closed", "95 %", "AIQ", "over zero ± sd", "quality at zero price"]
    if own.priced:
        heads += ["USD/1,000 at the best single's quality", "saved", "least saved", "seeds", "score ms p50, p99"]
    else:
        heads += ["score ms p50, p99"]
    order = {name: at for at, name in enumerate(("task_oracle", "best_single", "random", "cheapest"))}
    references = sorted((p for p in own.policies if p.reference), key=lambda p: order.get(p.name, len(order)))
    rows = [_headline_row(p, priced=own.priced) for p in (*learned, *references)]
    rows.append([_ZERO, _share(0.0), "", _number(own.zero)])
    rows.append([_BOUNDS["oracle"], _share(1.0), "", _number(own.oracle), _number(own.oracle - own.zero)])
    return _table(heads, rows)


def _headline_row(p: PolicyResult, *, priced: bool) -> list[str]:
    def other(name: str) -> float:
        return p.other.get(name, math.nan)

    between = f"{_share(p.gap_closed_low)} to {_share(p.gap_closed_high)}" if math.isfinite(p.gap_closed_low) else ""
    sd = f" ± {_number(other('gain_sd'))}" if math.isfinite(other("gain_sd")) else ""
    timed = f"{p.score_ms_p50:.2f}, {p.score_ms_p99:.2f}" if math.isfinite(p.score_ms_p50) else ""
    costs = [
        _number(p.cost_at_best_single_quality * PER_THOUSAND, ".4g"),
        _share(other("cost_saved"), ".0%"),
        _share(other("cost_saved_min"), ".0%"),
        _share(other("reached_best_single_share"), ".0%"),
    ]
    return [
        f"*{_text(p.name)}*" if p.reference else _text(p.name),
        _share(p.gap_closed),
        between,
        _number(p.aiq),
        _number(other("gain")) + sd,
        _number(p.quality_at_zero_price),
        *(costs if priced else ()),
        timed,
    ]


def _estimates(learned: Sequence[PolicyResult]) -> str:
    rows = []
    for p in learned:
        ece, brier = (p.calibration.ece, p.calibration.brier) if p.calibration else (math.nan, math.nan)
        more = [p.other.get(name, math.nan) for name in ("coverage_95", "selection_entropy_bits_max", "fit_s")]
        wide = [_number(value, ".3g") for value in more[1:]]
        rows.append([_text(p.name), _number(ece), _number(brier), _share(more[0]), *wide])
    return _table(["", "ECE", "Brier", "inside 95 % interval", "entropy of shares, bits", "seconds to learn"], rows)


def _verdicts(learned: Sequence[PolicyResult]) -> str:
    heads = [""]
    for other in ("best single", YARDSTICK):
        heads += [f"ahead of {other}", "behind", "p"]
    rows = []
    for p in learned:
        cells = [_text(p.name)]
        for other in ("best_single", YARDSTICK):
            ahead, behind, chance = (p.other.get(f"vs_{other}_{name}", math.nan) for name in ("ahead", "behind", "p"))
            cells += [_number(ahead, ".0f"), _number(behind, ".0f"), _number(chance, ".3g")]
        rows.append(cells)
    return _table(heads, rows)


_OF_COST = {
    "area": "Area",
    "area50": "Area(50 %)",
    "qnc": "QNC",
    "audc": "AUDC",
    "aiq_routerbench_code": "AIQ, RouterBench's code",
    "apgr": "APGR",
    "cpt_50": "CPT(50 %)",
    "cpt_80": "CPT(80 %)",
    "cost_save": "CostSave",
    "arena_score": "Arena",
}
_OF_QUALITY = {
    "perf_gain": "PerfGain",
    "gain_over_best_single": "Gain@B",
    "gain_over_random": "Gain@R",
    "gap_to_oracle": "Gap@O",
    "normalised_gain": "µ_n",
}


def _papers(own: SetResult, learned: Sequence[PolicyResult]) -> str:
    """Where calls cost alike, only what does not speak of cost."""
    names = (_OF_COST if own.priced else {}) | _OF_QUALITY
    task_oracle = [p for p in own.policies if p.name == "task_oracle" and p.reference]
    rows = [
        [f"*{_text(p.name)}*" if p.reference else _text(p.name), *(_number(p.other.get(n, math.nan)) for n in names)]
        for p in (*learned, *task_oracle)
    ]
    if own.priced:
        rows.append([_ZERO, *(_number(own.zero_other.get(n, math.nan)) for n in names)])
    return _table(["", *(_text(name) for name in names.values())], rows)


def _protocol(asked: ProtocolResult, learned: set[str]) -> str:
    """AIQ by part, in brackets the share of the gap closed; sorted by the mean of that share."""
    if asked.skipped:
        return f"Not asked of this set: {_text(asked.skipped)}."
    names = dict.fromkeys(name for part in asked.parts for name in part.aiq)

    def closed(name: str) -> float:
        known = [part.gap_closed[name] for part in asked.parts if math.isfinite(part.gap_closed.get(name, math.nan))]
        return -sum(known) / len(known) if known else math.inf

    def cell(part: PartResult, name: str) -> str:
        same = part.unchanged.get(name, math.nan)
        asides = [
            _share(part.gap_closed.get(name, math.nan)),
            f"{_share(same, '.0%')} alike" if math.isfinite(same) else "",
        ]
        told = ", ".join(aside for aside in asides if aside not in ("", NONE))
        return _number(part.aiq.get(name, math.nan)) + (f" ({told})" if told else "")

    def label(name: str) -> str:
        return _text(name) if name in learned else _BOUNDS.get(name, f"*{_text(name)}*")

    order = sorted(names, key=lambda name: (name in _BOUNDS, name not in learned, closed(name)))
    rows = [[label(name), *(cell(part, name) for part in asked.parts)] for name in order]
    return _table(["", *(_text(part.name) or "AIQ (gap closed)" for part in asked.parts)], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Every row as wide as its head."""
    lines = [list(heads), ["---", *["--:"] * (len(heads) - 1)], *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join([*line, *[""] * (len(heads) - len(line))]) + " |" for line in lines)


def _details(title: str, inside: str) -> str:
    """Folded; the empty lines let Markdown be read inside HTML."""
    return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"


def _number(value: float, form: str = ".4f") -> str:
    """A dash where it is not defined; no sign on what rounds to zero."""
    text = f"{value:{form}}" if math.isfinite(value) else NONE
    return text.removeprefix("-") if text.strip("-0.%") == "" else text


def _share(value: float, form: str = ".1%") -> str:
    return _number(value, form).replace("%", " %")


def _text(text: str) -> str:
    """One line that means nothing but itself."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))
