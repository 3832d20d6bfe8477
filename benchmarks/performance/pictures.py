"""The two pictures of docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from performance.contenders import ALL
from performance.tables import LABELS
from performance.traffic import SCENARIOS

_WIDE, _HIGH, _DPI = 8.0, 4.6, 150  # inches, dots
_COLOURS = ("#9a9a9a", "#5b4bb5", "#0067a8", "#00798c", "#c24a00", "#8a6500")


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """`performance-throughput.png` and `performance-latency.png` in `folder`; logarithmic axes."""
    folder.mkdir(parents=True, exist_ok=True)
    found = results["http"]["scenarios"]
    every = [name for name, _, _ in SCENARIOS]
    whole = [name for name, _, stream in SCENARIOS if not stream]
    return [
        _bars(found, every, "rps", "requests a second", folder / "performance-throughput.png"),
        _bars(
            found, whole, "p50_ms", "median latency in ms (whisker: p99)", folder / "performance-latency.png", "p99_ms"
        ),
    ]


def _bars(
    found: dict[str, Any], scenarios: list[str], key: str, label: str, path: Path, whisker: str | None = None
) -> Path:
    """Groups of bars by load, one bar for each contender."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, _HIGH), layout="constrained")
    axes = figure.subplots()
    names = [name for name in ALL if any(name in found[s] for s in scenarios)]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        has = [(j, found[s][name]) for j, s in enumerate(scenarios) if name in found[s]]
        places = [j + (i - (len(names) - 1) / 2) * width for j, _ in has]
        heights = [own[key]["median"] for _, own in has]
        up = None
        if whisker:
            up = [[0.0] * len(has), [max(0.0, own[whisker]["median"] - own[key]["median"]) for _, own in has]]
        colour = _COLOURS[ALL.index(name)]
        axes.bar(places, heights, width, yerr=up, color=colour, label=LABELS[name].replace("*", ""), ecolor="#555555")
    axes.set_yscale("log")
    axes.set_xticks(range(len(scenarios)), [_words(s) for s in scenarios])
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small", ncols=2, loc="upper left", bbox_to_anchor=(0.0, -0.13), frameon=False)
    figure.savefig(path, dpi=_DPI)
    return path


def _words(scenario: str) -> str:
    head = "50-chunk streams,\n" if scenario.startswith("stream") else ""
    connections = scenario.rpartition("c")[2]
    return f"{head}{connections} connection{'' if connections == '1' else 's'}"
