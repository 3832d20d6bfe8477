"""The report's main charts as PNG, for documents that cannot hold a page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.report_charts import Chart, by_set
from router_gateway.evaluation.report_tables import file_name
from router_gateway.evaluation.results import EvaluationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURED = ("plane", "gap", "calibration", "protocol-probes")
_WIDE, _HIGH, _ROW_HIGH = 8.0, 4.6, 0.36  # inches
_DPI = 150
_COLOURS = ("#0067a8", "#c24a00", "#007a55", "#b0458a", "#8a6500", "#5b4bb5", "#00798c", "#a3333d")
_MARKERS = ("o", "s", "^", "D")
_STYLES = ("-", ":", "--", "-.")
_NAMED_MAX = 12


def write_pictures(results: EvaluationResult, folder: Path | str) -> tuple[Path, ...]:
    """Write `<set>-<chart>.png` for each set and each of PICTURED that it has; returns the paths.

    Raises ConfigError where matplotlib is not installed (it comes with the extra `evaluation`).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            ["matplotlib: not installed, so no pictures can be drawn"], hint="pip install 'router-gateway[evaluation]'"
        ) from error
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for own in results.sets:
        charts = by_set(own)
        for name in (name for name in PICTURED if name in charts):
            chart = charts[name]
            high = _HIGH if chart["kind"] == "plane" else 1.2 + _ROW_HIGH * len(chart["rows"])
            drawing = Figure(figsize=(_WIDE, high), dpi=_DPI, layout="constrained")  # no pyplot: nothing global
            axes = drawing.subplots()
            (_plane if chart["kind"] == "plane" else _dots)(axes, chart)
            axes.set_title(_plain(chart["title"]))
            path = _free(target, file_name(own.name, name), written)
            drawing.savefig(path, metadata={"Software": None})
            written.append(path)
    return tuple(written)


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
        at = [i for i, (x, y) in enumerate(zip(one["x"], one["y"], strict=True)) if None not in (x, y)]
        x, y = [one["x"][i] for i in at], [one["y"][i] for i in at]
        colour, style, marker = _look(one["index"])
        best = one.get("hull")
        label = _plain(one["name"])
        if one["line"]:
            axes.plot(
                x, y, color=colour, linestyle=style, linewidth=0.8 if best else 1.8, label=None if best else label
            )
        else:
            axes.scatter(x, y, color=colour, marker=marker, s=24, zorder=3, label=label)
        if best:
            axes.plot(best["x"], best["y"], color=colour, linestyle=style, linewidth=2, label=label)
        if one.get("sd") and one["line"] and chart.get("bands", True):
            sd = [one["sd"][i] or 0.0 for i in at]
            low, high = ([b + sign * s for b, s in zip(y, sd, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        if one.get("weight"):
            axes.scatter(x, y, s=[60 * one["weight"][i] for i in at], color=colour, marker=marker)
        if len(one.get("labels", ())) <= _NAMED_MAX:
            for name, a, b in zip((one["labels"][i] for i in at) if "labels" in one else (), x, y, strict=False):
                axes.annotate(
                    _plain(name),
                    (a, b),
                    xytext=(5, 4 if one["index"] == -3 else -8),
                    textcoords="offset points",
                    fontsize=7,
                )
    axes.margins(x=0.1)  # room for the names of the outermost points
    if chart.get("log"):
        axes.set_xscale("log")
    if "xTicks" in chart:
        axes.set_xticks([at for at, _ in chart["xTicks"]], [_plain(text) for _, text in chart["xTicks"]])
    axes.set_xlabel(chart["xLabel"])
    axes.set_ylabel(chart["yLabel"])
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


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
