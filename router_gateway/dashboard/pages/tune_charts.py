"""The charts of the page Tune: cost against quality, with the dial's place on it, and who would answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from router_gateway.dashboard import words
from router_gateway.dashboard.charts import Chart, Series
from router_gateway.dashboard.readings import Reading

Curves = Mapping[str, Any]
"""An answer of GET /admin/api/curve."""

_GREY = 8
_COIN_STEPS = 24
_PER = 1000.0  # costs are told of so many requests

TITLES = {"traffic": "On your traffic", "reference": "On the reference set"}


def curve_chart(found: Curves, reading: Reading) -> Chart:
    """Lines with bands, single endpoints as points, the coin between them dashed, and where the dial stands."""
    lines = [_line(line, place) for place, line in enumerate(found["lines"], 1)]
    singles = {name: point for name, point in (found["singles"] or {}).items() if point["quality"]}
    extra = [_single(singles), _coin(singles, found["mix"])]
    if (logged := found["logged"]) and logged["quality"]:
        extra.append(Series(name="logged", points=[_place(logged)], kind="scatter", color=5, symbol_px=10))
    if reading.quality and reading.cost_usd:
        here = (reading.cost_usd.value * _PER, reading.quality.value)
        label = f"the dial at {words.money(reading.worth_usd)}"
        extra.append(Series(name="dial", points=[here], labels=[label], kind="scatter", color=2, symbol_px=18))
    return Chart(
        title=TITLES[found["on"]],
        unit="mean quality of an answer",
        series=[*lines, *(each for each in extra if each is not None)],
        x_kind="value",
        x_title="USD for 1,000 requests",
        form="percent",
        x_form="usd",
        log_x=_spread(lines, singles),
        about="Up is better, left is cheaper. Bands are 95 % intervals.",
    )


def share_chart(now: Mapping[str, float], then: Mapping[str, float]) -> Chart:
    """Who answers now, and who would."""
    names = sorted({*now, *then}, key=lambda name: (-then.get(name, 0.0), name))
    return Chart(
        title="Who answers",
        unit="share of the requests",
        x=names,
        x_kind="category",
        kind="bar",
        form="percent",
        y_min=0.0,
        y_max=1.0,
        series=[
            Series(name="now", values=[now.get(name, 0.0) for name in names], color=_GREY),
            Series(name="at this dial", values=[then.get(name, 0.0) for name in names], color=2),
        ],
    )


def _line(line: Mapping[str, Any], place: int) -> Series:
    points = [point for point in line["points"] if point["quality"]]
    label = line["name"] if line["what"] != "live" else f"{line['name']} (live)"
    return Series(
        name=label,
        points=[_place(point) for point in points],
        labels=[f"{label} at {words.money(point['worth_usd'])}" for point in points],
        low=[point["quality"]["low"] for point in points],
        high=[point["quality"]["high"] for point in points],
        color=(1, 3, 4, 6)[(place - 1) % 4],
        symbol_px=5,
    )


def _single(singles: Mapping[str, Mapping[str, Any]]) -> Series | None:
    if not singles:
        return None
    return Series(
        name="endpoint alone",
        points=[_place(point) for point in singles.values()],
        labels=[f"{name} alone" for name in singles],
        kind="scatter",
        color=_GREY,
    )


def _coin(singles: Mapping[str, Mapping[str, Any]], mix: Sequence[str]) -> Series | None:
    corners = [name for name in mix if name in singles]
    if len(corners) < 2:
        return None
    placed = sorted(_place(singles[name]) for name in corners)
    return Series(name="coin between", points=_between(placed), dashed=True, color=_GREY, symbol_px=1)


def _between(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The straight lines between corners, point by point: on a logarithmic axis they bend."""
    found = [corners[0]]
    for (x0, y0), (x1, y1) in pairwise(corners):
        shares = ((step / _COIN_STEPS) ** 2 for step in range(1, _COIN_STEPS + 1))
        found += [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in shares]
    return found


def _place(point: Mapping[str, Any]) -> tuple[float, float]:
    return point["cost_usd"]["value"] * _PER, point["quality"]["value"]


def _spread(lines: Sequence[Series], singles: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether costs lie so far apart that a plain axis would hide the cheap ones."""
    costs = [x for line in lines for x, _ in line.points] + [_place(point)[0] for point in singles.values()]
    return bool(costs) and min(costs) > 0 and max(costs) / min(costs) > 30
