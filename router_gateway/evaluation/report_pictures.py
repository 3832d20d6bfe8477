"""The report's main charts as PNG, for documents that cannot hold a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.report_charts import Chart, by_set
from router_gateway.evaluation.report_tables import file_name
from router_gateway.evaluation.results import EvaluationResult, PartResult, PolicyResult, SetResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURED = ("plane", "gap", "calibration", "protocol-probes")
_WIDE, _HIGH, _ROW_HIGH = 8.0, 4.6, 0.36  # inches
_DPI = 150
_COLOURS = ("#0067a8", "#c24a00", "#007a55", "#b0458a", "#8a6500", "#5b4bb5", "#00798c", "#a3333d")
_MARKERS = ("o", "s", "^", "D")
_STYLES = ("-", ":", "--", "-.")
_NAMED_MAX = 12
_PALETTE = 128  # colours
_GREY = {"task_oracle": -3, "best_single": -4}
_OTHER_POINTS = -3  # the index of that series
_SMALL = 0.005
"""Bins of calibration with a smaller share of the largest one's outcomes say nothing by their place."""
CURVES_MAX = 6
"""Policies in a picture of curves, the best by the gap they close; in the others there is room for all."""


def check_pictures() -> None:
    """Raises ConfigError where matplotlib is not installed (it comes with the extra `evaluation`)."""
    try:
        from matplotlib.figure import Figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            ["matplotlib: not installed, so no pictures can be drawn"], hint="pip install 'router-gateway[evaluation]'"
        ) from error


def write_pictures(results: EvaluationResult, folder: Path | str) -> tuple[tuple[Path, ...], ...]:
    """Write `<set>-<chart>.png` for each set and each of PICTURED that it has; returns the paths, set by set.

    Raises ConfigError as `check_pictures` does.
    """
    check_pictures()
    from matplotlib.figure import Figure

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    by_set_written = []
    for own in map(_best_first, results.sets):
        charts, before = by_set(own), len(written)
        few = by_set(leading(own))
        for name in (name for name in PICTURED if name in charts):
            chart = _quiet(few[name], own) if charts[name]["kind"] == "plane" else charts[name]
            high = _HIGH if chart["kind"] == "plane" else 1.2 + _ROW_HIGH * len(chart["rows"])
            drawing = Figure(figsize=(_WIDE, high), dpi=_DPI, layout="constrained")  # no pyplot: nothing global
            axes = drawing.subplots()
            (_plane if chart["kind"] == "plane" else _dots)(axes, chart)
            axes.set_title(_plain(chart["title"]))
            path = _free(target, file_name(own.name, name), written)
            _save(drawing, path)
            written.append(path)
        by_set_written.append(tuple(written[before:]))
    return tuple(by_set_written)


def _save(drawing: Figure, path: Path) -> None:
    """With a palette: a drawing of lines has few colours, and is a third as large for it."""
    from PIL import Image

    buffer = BytesIO()
    drawing.savefig(buffer, format="png")
    whole = Image.open(buffer).convert("RGB")
    whole.quantize(_PALETTE, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def _quiet(chart: Chart, own: SetResult) -> Chart:
    """References without a colour, as a colour is a policy's; and a word where not all policies are drawn."""
    grey = {p.name: _GREY.get(p.name, -2) for p in own.policies if p.reference}
    count = sum(not p.reference for p in own.policies)
    note = f"the best {CURVES_MAX} of {count}" if count > CURVES_MAX else None
    series = [one | {"index": grey.get(one["name"], one["index"])} for one in chart["series"]]
    return chart | {"series": series, "note": note}


def _best_first(own: SetResult) -> SetResult:
    """So that a policy looks the same in the pictures of all policies and in those of the best."""
    return replace(own, policies=tuple(sorted(own.policies, key=by_gap)))


def by_gap(policy: PolicyResult) -> tuple[bool, float]:
    """Sorts policies before references, and the more of the gap one closes the earlier."""
    return policy.reference, -policy.gap_closed if math.isfinite(policy.gap_closed) else math.inf


def leading(own: SetResult, count: int = CURVES_MAX) -> SetResult:
    """The set as if only its first `count` policies, and the references, had been judged."""
    gone = {p.name for p in [p for p in own.policies if not p.reference][count:]}

    def part(whole: PartResult) -> PartResult:
        return replace(whole, aiq={name: value for name, value in whole.aiq.items() if name not in gone})

    return replace(
        own,
        policies=tuple(p for p in own.policies if p.name not in gone),
        protocols=tuple(replace(p, parts=tuple(map(part, p.parts))) for p in own.protocols),
    )


def _free(folder: Path, stem: str, written: list[Path]) -> Path:
    """The file of that name, numbered where another set of this run already took it."""
    path, number = folder / f"{stem}.png", 2
    while path in written:
        path, number = folder / f"{stem}-{number}.png", number + 1
    return path


def _plane(axes: Axes, chart: Chart) -> None:
    if chart.get("diagonal"):
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle=":")
    for one in (own for own in chart["series"] if own["name"] not in chart.get("off", ())):
        weight = one.get("weight") or [1.0] * len(one["x"])
        at = [i for i, x in enumerate(one["x"]) if None not in (x, one["y"][i]) and weight[i] >= _SMALL]
        x, y = [one["x"][i] for i in at], [one["y"][i] for i in at]
        colour, _, marker = _look(one["index"])
        if one["line"]:
            _curve(axes, one, at)
        else:
            axes.scatter(x, y, color=colour, marker=marker, s=24, zorder=3, label=_plain(one["name"]))
        if one.get("weight"):
            axes.scatter(x, y, s=[60 * weight[i] for i in at], color=colour, marker=marker)
        if "labels" in one and len(one["labels"]) <= _NAMED_MAX:
            _name(axes, [one["labels"][i] for i in at], x, y, above=one["index"] == _OTHER_POINTS)
    axes.margins(x=0.06)
    if chart.get("log"):
        _log(axes)
    if "xTicks" in chart:
        axes.set_xticks([at for at, _ in chart["xTicks"]], [_plain(text) for _, text in chart["xTicks"]])
    axes.set_xlabel(chart["xLabel"])
    axes.set_ylabel(chart["yLabel"])
    axes.grid(alpha=0.25)
    drawing = axes.get_figure()
    assert drawing is not None
    drawing.legend(loc="outside right upper", fontsize=8, frameon=False, title=chart.get("note"), title_fontsize=8)


def _log(axes: Axes) -> None:
    """Few ticks, written as an amount is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, one: Chart, at: Sequence[int]) -> None:
    """A hull as a line with the dials as dots, for what lies between two dials was not measured; else a plain line."""
    x, y = [one["x"][i] for i in at], [one["y"][i] for i in at]
    colour, style, _ = _look(one["index"])
    label = _plain(one["name"])
    if best := one.get("hull"):
        axes.plot(x, y, color=colour, marker=".", markersize=3, linestyle="", alpha=0.5)
        axes.plot(best["x"], best["y"], color=colour, linestyle=style, linewidth=1.8, label=label)
    else:
        axes.plot(x, y, color=colour, linestyle=style, linewidth=0.8 if one.get("weight") else 1.8, label=label)


def _name(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float], *, above: bool) -> None:
    """Names beside their points, on the left of those that are far to the right."""
    for name, a, b in zip(names, x, y, strict=True):
        right = a > max(x) / 2
        axes.annotate(
            _plain(name),
            (a, b),
            xytext=(-5 if right else 5, 4 if above else -9),
            textcoords="offset points",
            fontsize=7,
            ha="right" if right else "left",
        )


def _dots(axes: Axes, chart: Chart) -> None:
    rows = [row for row in chart["rows"] if row["value"] is not None][::-1]
    for at, row in enumerate(rows):
        colour, _, marker = _look(row["index"])
        if row["low"] is not None and row["high"] is not None:
            axes.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=2, alpha=0.5)
        axes.plot([row["value"]], [at], color=colour, marker=marker, linestyle="")
    axes.set_yticks(range(len(rows)), [_plain(row["name"]) for row in rows])
    axes.set_ylim(-0.5, len(rows) - 0.5)
    if chart.get("zero"):
        axes.axvline(0.0, color="#888888", linewidth=1, linestyle=":")
    axes.set_xlabel(chart["xLabel"])
    axes.grid(alpha=0.25, axis="x")


def _look(index: int) -> tuple[str, str, str]:
    """Colour, line and marker; references have negative numbers and no colour, as on the page."""
    if index < 0:
        return ("#1b1f24" if index == -1 else "#6b7280"), _STYLES[(-1 - index) % len(_STYLES)], _MARKERS[-index % 4]
    return (
        _COLOURS[index % len(_COLOURS)],
        _STYLES[math.floor(index / len(_COLOURS)) % len(_STYLES)],
        _MARKERS[index % 4],
    )


def _plain(text: str) -> str:
    """A name may hold dollars, and matplotlib reads what is between two of them as mathematics."""
    return text.replace("\\", "/").replace("$", r"\$")
