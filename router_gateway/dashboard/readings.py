"""A curve read at any dial, between the points that were computed, and told in words. Nothing here asks the gateway."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router_gateway.dashboard import words

_SAME = 1e-6  # relative: this near, a dial is the one that was computed
_FIGURES = ("quality", "cost_usd", "quality_change", "cost_change", "over_mix")


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def flipped(self) -> Figure:
        """Of the opposite."""
        return Figure(-self.value, -self.high, -self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a curve says at one dial. `between`: it was read between two points; `refused`: why nothing can be said."""

    worth_usd: float
    between: bool = False
    refused: str = ""
    quality: Figure | None = None
    cost_usd: Figure | None = None
    quality_change: Figure | None = None
    cost_change: Figure | None = None
    over_mix: Figure | None = None
    ess: float = 0.0
    share: Mapping[str, float] = field(default_factory=dict)


def read(points: Sequence[Mapping[str, Any]], worth_usd: float) -> Reading:
    """A line's points (of GET /admin/api/curve), lowest dial first, read at a dial; beyond its ends it stays level."""
    if not points:
        return Reading(worth_usd=worth_usd, refused="nothing was computed")
    dials = [point["worth_usd"] for point in points]
    right = bisect.bisect_left(dials, worth_usd * (1 - _SAME))
    if right == len(dials):
        return _at(points[-1], worth_usd)
    if right == 0 or dials[right] <= worth_usd * (1 + _SAME):
        return _at(points[right], worth_usd)
    left, after = points[right - 1], points[right]
    part = math.log(worth_usd / dials[right - 1]) / math.log(dials[right] / dials[right - 1])
    if left["refused"] or after["refused"]:
        return _at(left if part < 0.5 else after, worth_usd)
    figures: dict[str, Any] = {name: _figure(left[name], after[name], part) for name in _FIGURES}
    return Reading(
        worth_usd=worth_usd,
        between=True,
        ess=_mixed(left["ess"], after["ess"], part),
        share={name: _mixed(left["share"][name], after["share"].get(name, 0.0), part) for name in left["share"]},
        **figures,
    )


def _at(point: Mapping[str, Any], worth_usd: float) -> Reading:
    figures: dict[str, Any] = {name: _figure(point[name], point[name], 0.0) for name in _FIGURES}
    return Reading(worth_usd=worth_usd, refused=point["refused"], ess=point["ess"], share=point["share"], **figures)


def _figure(left: Mapping[str, float] | None, right: Mapping[str, float] | None, part: float) -> Figure | None:
    if left is None or right is None:
        return None
    return Figure(*(_mixed(left[name], right[name], part) for name in ("value", "low", "high")))


def _mixed(left: float, right: float, part: float) -> float:
    return left + (right - left) * part


def change_in_words(reading: Reading, now_usd: float) -> str:
    """What changes against what is live, as a sentence of its own."""
    if reading.refused:
        return f"At this dial nothing can be said: {reading.refused.removeprefix('not identifiable: ')}."
    if reading.quality is None or reading.cost_usd is None:
        return "At this dial nothing can be said."
    if abs(reading.worth_usd / now_usd - 1) < _SAME:
        cost = words.money(reading.cost_usd.value * 1000)
        around = words.interval(reading.quality.low, reading.quality.high)
        quality = words.percent(reading.quality.value)
        return f"This is the dial that is live: {cost} for 1,000 requests, quality {quality} (95 % interval {around})."
    if reading.cost_change is None or reading.quality_change is None:
        return "What is live now cannot be valued on this log, so a change cannot be told."
    return f"{_cost(reading.cost_change)}, {_quality(reading.quality_change)}."


def coin_in_words(reading: Reading) -> str:
    """Whether routing beats a coin between single endpoints there; "" where that is not known."""
    found = reading.over_mix
    if found is None or reading.refused:
        return ""
    around = words.interval(found.low, found.high, words.points)
    if found.low > 0:
        return f"Routing brings {words.points(found.value)} more than a coin between endpoints at that cost ({around})."
    if found.high < 0:
        return f"A coin between endpoints would bring more at that cost ({words.points(found.value)}, {around})."
    return f"That routing brings more than a coin between endpoints at that cost is not shown ({around})."


def _cost(change: Figure) -> str:
    if change.high < 0:
        cheaper = change.flipped()
        around = words.interval(cheaper.low, cheaper.high)
        return f"{words.percent(cheaper.value)} cheaper (95 % interval {around})"
    around = words.interval(change.low, change.high, lambda share: words.percent(share, signed=True))
    if change.low > 0:
        around = words.interval(change.low, change.high)
        return f"{words.percent(change.value)} dearer (95 % interval {around})"
    return f"Cost about the same ({words.percent(change.value, signed=True)}, 95 % interval {around})"


def _quality(change: Figure) -> str:
    around = f"95 % interval {words.interval(change.low, change.high, words.points)}"
    size = _plain(change.value)
    if change.high < 0:
        return f"quality {size} lower (95 % interval {words.interval(change.high, change.low, _plain)})"
    if change.low > 0:
        return f"quality {size} higher (95 % interval {words.interval(change.low, change.high, _plain)})"
    if size == _plain(0.0):
        return f"quality about the same ({around})"
    return f"quality {size} {'lower' if change.value < 0 else 'higher'}, which may be chance ({around})"


def _plain(difference: float | None) -> str:
    """Points without a sign."""
    return words.points(None if difference is None else abs(difference)).lstrip("+")
