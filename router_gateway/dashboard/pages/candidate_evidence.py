"""What a candidate's test shows: confidence sequences against their margins, and what it did in shadow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import Chart, Form, Series, chart
from router_gateway.dashboard.tables import Column, table

_TITLES = {"quality": "Quality", "errors": "Errors", "cost": "Cost", "first_token": "Time to first token"}
_UNITS = {
    "quality": "worse by, of a quality of 0 to 1",
    "errors": "worse by, share of requests",
    "cost": "dearer by, share of the live cost",
    "first_token": "slower by, share of the live time",
}
_TICKS_MAX = 7
_TONES = {"worse": "bad", "no worse": "good", "open": ""}
_COLUMNS = (
    Column(name="title", title="Measure"),
    Column(name="blocks", title="Blocks", form="count"),
    Column(name="live", title="Live"),
    Column(name="candidate", title="Candidate"),
    Column(name="worse", title="Worse by"),
    Column(name="bounds", title="Between"),
    Column(name="margin", title="Margin"),
    Column(name="finding", title="Shown", form="pill"),
)


def draw(found: Mapping[str, Any]) -> None:
    """A running test, else the one that its last move rested on; and its time in shadow."""
    recorded = found["last_move_on_evidence"]
    shown = found["canary"] or (recorded or {}).get("evidence")
    if shown is not None:
        _canary(shown, over=found["canary"] is None)
    if found["shadow"] is not None:
        _shadow(found["shadow"])
    if shown is None and found["shadow"] is None:
        parts.empty(
            "Not tried yet",
            "In shadow it decides beside the live policy; as a canary it has a share of the traffic and is compared.",
        )


def _canary(shown: Mapping[str, Any], *, over: bool) -> None:
    verdict = shown["verdict"]
    with parts.row():
        parts.text("What decided" if over else "So far:", "rg-dim")
        parts.text(str(verdict["why"]), tag="strong")
    sessions = words.count(shown["sessions_candidate"]), words.count(shown["sessions_live"])
    share = words.percent(shown["share"], digits=0)
    parts.text(
        f"{share} of the traffic: {sessions[0]} sessions beside {sessions[1]} of the live policy.", "rg-dim", tag="p"
    )
    made = table(_COLUMNS, label="Measures")
    made.show([_row(each) for each in shown["measures"]])
    with parts.grid(min_width="320px"):
        for each in shown["measures"]:
            if each.get("course"):
                chart(course_chart(each), height="220px")


def course_chart(measure: Mapping[str, Any]) -> Chart:
    """How a measure's estimate and bounds moved with the blocks, against its margin."""
    steps: Sequence[Mapping[str, Any]] = [step for step in measure["course"] if step["worse"] is not None]
    at = [float(step["blocks"]) for step in steps]
    series = [
        Series(name="worse by", points=[(x, step["worse"]) for x, step in zip(at, steps, strict=True)], color=1),
        *_bound("at least", "lower", steps, 6),
        *_bound("at most", "upper", steps, 3),
    ]
    if len(at) > 0:
        ends = [(at[0], measure["margin"]), (at[-1], measure["margin"])]
        series.append(Series(name="margin", points=ends, dashed=True, color=2, symbol_px=1))
    low, high = _window(steps, measure["margin"])
    relative: Form = "percent" if measure["name"] in ("cost", "first_token", "errors") else "plain"
    return Chart(
        title=_TITLES[measure["name"]],
        unit=_UNITS[measure["name"]],
        series=series,
        x_kind="value",
        x_title="blocks",
        x_form="count",
        form=relative,
        y_min=low,
        y_max=high,
        about="Harm is proven when the lower bound passes the margin, no harm when the upper one comes under it.",
    )


def _window(steps: Sequence[Mapping[str, Any]], margin: float) -> tuple[float, float]:
    """What of the y axis is shown: where the bounds have come to in the later half, not the wide ones of the start."""
    late = steps[len(steps) // 2 :]
    seen = [step[key] for step in late for key in ("worse", "lower", "upper") if step[key] is not None]
    low, high = min([*seen, margin, 0.0]), max([*seen, margin, 0.0])
    size = 10.0 ** math.floor(math.log10(max(high - low, 1e-6)))
    step = next(each * size for each in (0.2, 0.5, 1.0, 2.0) if (high - low) / (each * size) <= _TICKS_MAX)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _bound(name: str, key: str, steps: Sequence[Mapping[str, Any]], color: int) -> list[Series]:
    points = [(float(step["blocks"]), step[key]) for step in steps if step[key] is not None]
    return [Series(name=name, points=points, color=color, symbol_px=1)] if points else []


def _row(measure: Mapping[str, Any]) -> dict[str, Any]:
    name = measure["name"]
    return {
        "title": _TITLES[name],
        "blocks": measure["blocks"],
        "live": _level(name, measure["live"]),
        "candidate": _level(name, measure["candidate"]),
        "worse": _difference(name, measure["worse"]),
        "bounds": f"{_difference(name, measure['lower'])} and {_difference(name, measure['upper'])}",
        "margin": _difference(name, measure["margin"]),
        "finding": (measure["finding"], _TONES[measure["finding"]]),
    }


def _level(name: str, value: float | None) -> str:
    if name == "cost":
        return words.money(value)
    return words.duration_ms(value) if name == "first_token" else words.percent(value)


def _difference(name: str, value: float | None) -> str:
    return words.points(value) if name == "quality" else words.percent(value, signed=True)


def _shadow(shown: Mapping[str, Any]) -> None:
    with parts.card("In shadow"):
        parts.definition(
            [
                ("decisions", words.count(shown["decisions"])),
                ("failed", words.count(shown["failed"])),
                ("chose as the live policy did", words.percent(shown["agreed"])),
                ("quality it expected", _beside(shown, "expected_quality", words.percent)),
                ("cost it expected", _beside(shown, "expected_cost_usd", words.money)),
            ]
        )


def _beside(shown: Mapping[str, Any], key: str, say: Any) -> str:
    return f"{say(shown[key])}, the live policy {say(shown[f'live_{key}'])}"
