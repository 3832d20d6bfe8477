"""The dial as a curve of cost and quality: points with intervals, what they are compared with, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.offpolicy import Estimate
from router_gateway.evaluation.paired import Bounds, interval

Ground = Literal["traffic", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one dial, or one baseline, brings per request. Estimates are None where `refused` says why.

    share : of the requests, by endpoint; ess : effective number of observations behind the figures
    quality_change, cost_change : against what is live at its dial, paired; the cost's is a share of it
    over_mix : quality over a coin between single endpoints that costs the same
    """

    worth_usd: float | None
    share: Mapping[str, float]
    ess: float
    refused: str = ""
    warning: str = ""
    quality: Estimate | None = None
    cost_usd: Estimate | None = None
    quality_change: Estimate | None = None
    cost_change: Estimate | None = None
    over_mix: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A policy at every dial. what : it is "live", a "candidate" or a "policy"; worth_usd : the dial it has now."""

    name: str
    what: str
    worth_usd: float
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The answer.

    learned, asked : decisions or prompts that policies learned from and were asked about; parts : of how many
        sessions, or folds
    singles : by endpoint, everything sent there; cheapest, logged : likewise, None where they have no meaning
    mix : the single endpoints between which a coin is worth flipping, cheapest first
    refused : why there is nothing, "" where there is something
    """

    on: Ground
    rule: str
    learned: int = 0
    asked: int = 0
    parts: int = 0
    lines: tuple[Line, ...] = ()
    singles: Mapping[str, Point] | None = None
    best_single: str | None = None
    cheapest: Point | None = None
    logged: Point | None = None
    mix: tuple[str, ...] = ()
    refused: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figured:
    """Figures of one dial or baseline, each float64 (1 + R,): the estimate, then what each resample made of it.

    bounds : between which the quality lies; refused, warning : as in `Point`
    """

    quality: Floats
    cost_usd: Floats
    bounds: Bounds
    share: Mapping[str, float]
    refused: str = ""
    warning: str = ""

    def point(
        self,
        worth_usd: float | None,
        *,
        now: tuple[Figured, Bounds] | None = None,
        mix: tuple[Floats, Bounds] | None = None,
    ) -> Point:
        """In words and intervals; `now` and `mix` : what it is compared with, and the range of the difference."""
        if self.refused:
            return Point(worth_usd=worth_usd, share=self.share, ess=self.bounds.seen, refused=self.refused)
        quality_change, cost_change = None, None
        if now is not None and not now[0].refused:
            quality_change = interval(self.quality - now[0].quality, now[1])
            with np.errstate(divide="ignore", invalid="ignore"):
                cost_change = _known(interval(self.cost_usd / now[0].cost_usd - 1.0))
        return Point(
            worth_usd=worth_usd,
            share=self.share,
            ess=self.bounds.seen,
            warning=self.warning,
            quality=interval(self.quality, self.bounds),
            cost_usd=interval(self.cost_usd),
            quality_change=quality_change,
            cost_change=cost_change,
            over_mix=None if mix is None else interval(self.quality - mix[0], mix[1]),
        )


def _known(found: Estimate) -> Estimate | None:
    """None where there was nothing to divide by."""
    return found if np.isfinite([found.value, found.low, found.high]).all() else None


def grid(worth_usd: Floats, spent_usd: Floats, points: int, own: Sequence[float]) -> list[float]:
    """About `points` dials, lowest first, over the range in which the dial changes anything, and `own` among them.

    worth_usd : many dials, dearest first; spent_usd : what each is expected to spend
    """
    same = _SAME * float(np.ptp(spent_usd))
    if same > 0:
        dearest = int(np.argmax(np.abs(spent_usd - spent_usd[0]) > same)) - 1  # the last dial that spends as the first
        unsettled = np.flatnonzero(np.abs(spent_usd - spent_usd[-1]) > same)
        cheapest = min(int(unsettled[-1]) + 1, len(worth_usd) - 1)
        low, high = float(worth_usd[cheapest]), float(worth_usd[max(dearest, 0)])
    else:
        low, high = min(own), max(own)
    low, high = min(low, *own), max(high, *own)
    if high < low * _APART:
        low, high = low / _APART, high * _APART
    return sorted({*(float(f"{worth:.3g}") for worth in np.geomspace(low, high, points)), *own})


_SAME = 0.005  # of the range of spends
_APART = 10.0  # times the dial, where nothing else says how far to look
