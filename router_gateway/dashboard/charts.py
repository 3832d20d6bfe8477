"""Charts: a title, a unit, a legend, PNG and CSV, both themes, and the figures as a table for whoever cannot see them.

A chart is described here in a few words and drawn in the browser by assets/rg_chart.js with the ECharts that NiceGUI
brings. Names and values are data to it: they are drawn on a canvas or set as text, never read as HTML or script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import nicegui.elements.echart  # noqa: F401 - registers the module that rg_chart.js imports
from nicegui.element import Element

Number = float | int | None
Kind = Literal["line", "area", "bar", "scatter"]
Form = Literal["plain", "usd", "percent", "ms", "count"]
_POINTS_MAX = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series.

    values : one for each x of the chart, None where there is none
    points : (x, y) pairs instead, for `x_kind="value"`
    labels : of the points, one each, told in the tooltip
    low, high : an interval about each value or point, drawn as a band
    color : 1 to 8, of the theme; else by its place
    """

    name: str
    values: Sequence[Number] = ()
    points: Sequence[tuple[float, float]] = ()
    labels: Sequence[str] = ()
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    kind: Kind | None = None
    dashed: bool = False
    color: int | None = None
    symbol_px: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn.

    title, unit : what it shows, and in which unit (of y)
    x : instants as ISO 8601 (`x_kind="time"`) or names (`"category"`); with `"value"` series hold points
    form : how a y is told: usd, percent (of 1), ms, count or plain; `x_form` of an x that is a value
    stacked : series stand on each other
    about : what a reader should take from it, for screen readers
    log_x : a logarithmic x axis
    """

    title: str
    unit: str
    series: Sequence[Series]
    x: Sequence[str] = ()
    x_kind: Literal["time", "category", "value"] = "time"
    x_title: str = ""
    kind: Kind = "line"
    form: Form = "plain"
    x_form: Form = "plain"
    stacked: bool = False
    y_min: float | None = None
    y_max: float | None = None
    log_x: bool = False
    about: str = ""

    def __post_init__(self) -> None:
        if sum(len(s.values) + len(s.points) for s in self.series) > _POINTS_MAX:
            raise ValueError(f"a chart has at most {_POINTS_MAX} points")
        for series in self.series:
            for name in ("values", "low", "high"):
                given, wanted = getattr(series, name), len(series.points) if self.x_kind == "value" else len(self.x)
                if given and len(given) != wanted:
                    raise ValueError(f"{name} of a series: {len(given)} for {wanted} of x")


class ChartElement(Element, component="assets/rg_chart.js"):
    """The chart on the page. `show` puts another in its place without a flash; `on_point` tells of clicks."""

    def __init__(self, chart: Chart, *, height: str = "280px") -> None:
        super().__init__()
        self._props["height"] = height
        self._props["spec"] = _spec(chart)

    def show(self, chart: Chart) -> None:
        """Draw this instead."""
        spec = _spec(chart)
        if spec != self._props["spec"]:
            self._props["spec"] = spec


def chart(what: Chart, *, height: str = "280px") -> ChartElement:
    """Put a chart on the page. Events: `point` with {series, index, x, y} when a point is clicked."""
    return ChartElement(what, height=height)


def _spec(chart: Chart) -> dict[str, Any]:
    spec = asdict(chart)
    for series in spec["series"]:
        for name in ("values", "points", "labels", "low", "high"):
            series[name] = list(series[name])
    return {**spec, "x": list(spec["x"]), "series": list(spec["series"])}
