"""What a canary shows: its sessions beside those of the live policy at the same time, by four measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.lifecycle.sequential import Bounds, asymptotic, bounded
from router_gateway.lifecycle.settings import Lifecycle, Margins

Name = Literal["quality", "errors", "cost", "first_token"]
NAMES: tuple[Name, ...] = get_args(Name)
Finding = Literal["worse", "no worse", "open"]
STEPS_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """What the sessions of one side brought, each measure one number per session, in order of arrival.

    quality : float64 in [0, 1], mean over its rated answers; of sessions with any
    errors : float64 in [0, 1], share of its requests that failed
    cost : float64 >= 0, USD, mean over its requests
    first_token : float64 > 0, ms, geometric mean over its answers; of sessions with any
    """

    quality: Floats
    errors: Floats
    cost: Floats
    first_token: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a measure showed after so many blocks, in its unit; see `Measure`."""

    blocks: int
    worse: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """By how much the candidate is worse. Absolute for quality and errors, relative for cost and first token.

    live, candidate : means over the blocks (geometric for first token); None before the first block
    worse : the estimate; below 0 the candidate is better
    lower, upper : one-sided bounds on it that hold at every look; None where nothing is claimed yet
    course : how it came to this, at most STEPS_MAX steps, the last being now
    """

    name: Name
    blocks: int
    live: float | None = None
    candidate: float | None = None
    worse: float | None = None
    lower: float | None = None
    upper: float | None = None
    margin: float
    course: tuple[Step, ...] = ()

    @property
    def finding(self) -> Finding:
        """What is proven, if anything: both sides of the margin are tested at every look."""
        if self.lower is not None and self.lower > self.margin:
            return "worse"
        return "no worse" if self.upper is not None and self.upper <= self.margin else "open"


def measure(
    live: Sessions, candidate: Sessions, group: tuple[int, int], margins: Margins, settings: Lifecycle
) -> tuple[Measure, ...]:
    """Every measure that has a margin.

    group : sessions of the candidate and of the live policy in a block. Blocks are filled in order of arrival, so
        that both halves of one are of the same time, and what changes for everybody cancels.
    The settings' alpha is divided by the number of stages and of measures (Bonferroni).
    """
    judged = [name for name in NAMES if getattr(margins, name) is not None]
    alpha = settings.alpha / (len(settings.shares) * max(len(judged), 1))
    found = []
    for name in judged:
        theirs, ours = _blocks(getattr(live, name), getattr(candidate, name), group, log=name == "first_token")
        found.append(_measure(name, theirs, ours, getattr(margins, name), alpha, settings))
    return tuple(found)


def _blocks(live: Floats, candidate: Floats, group: tuple[int, int], *, log: bool) -> tuple[Floats, Floats]:
    """Block means (B,) of both sides."""
    ours, theirs = group
    count = min(len(candidate) // ours, len(live) // theirs)
    sides = live[: count * theirs].reshape(count, theirs), candidate[: count * ours].reshape(count, ours)
    first, second = (np.log(side) if log else side for side in sides)
    return first.mean(axis=1), second.mean(axis=1)


def _measure(name: Name, live: Floats, candidate: Floats, margin: float, alpha: float, settings: Lifecycle) -> Measure:
    count = len(live)
    if not count:
        return Measure(name=name, blocks=0, margin=margin)
    theirs, ours = float(live.mean()), float(candidate.mean())
    if name in ("quality", "errors"):
        harm = live - candidate if name == "quality" else candidate - live
        bounds, scale, offset = bounded(harm, low=-1.0, high=1.0, alpha=alpha), 1.0, 0.0
        worse = float(harm.mean())
    elif name == "cost":  # tested as cost - (1 + margin) live cost > 0, which needs no division
        bounds = _unbounded(candidate - (1.0 + margin) * live, alpha, settings)
        scale, offset = 1.0 / theirs if theirs > 0 else np.inf, margin
        worse = ours / theirs - 1.0 if theirs > 0 else (np.inf if ours > 0 else 0.0)
    else:
        bounds, scale, offset = _unbounded(candidate - live, alpha, settings), 1.0, 0.0
        worse = float(np.expm1(ours - theirs))
        theirs, ours = float(np.exp(theirs)), float(np.exp(ours))

    def own(bound: float) -> float | None:
        """In the measure's unit."""
        number = _number(bound, scale, offset)
        return float(np.expm1(number)) if name == "first_token" and number is not None else number

    return Measure(
        name=name,
        blocks=count,
        live=theirs,
        candidate=ours,
        worse=float(worse),
        lower=own(bounds.lower[-1]),
        upper=own(bounds.upper[-1]),
        margin=margin,
        course=tuple(
            Step(blocks=t + 1, worse=_so_far(name, live, candidate, t + 1), lower=own(low), upper=own(high))
            for t, low, high in ((t, bounds.lower[t], bounds.upper[t]) for t in _looks(count))
        ),
    )


def _looks(count: int) -> list[int]:
    """Places of the blocks after which the course is told, the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, STEPS_MAX))})


def _so_far(name: Name, live: Floats, candidate: Floats, count: int) -> float | None:
    """The estimate after `count` blocks; None where there is nothing to divide by."""
    theirs, ours = float(live[:count].mean()), float(candidate[:count].mean())
    if name == "cost":
        return ours / theirs - 1.0 if theirs > 0 else None
    if name == "first_token":
        return float(np.expm1(ours - theirs))
    return theirs - ours if name == "quality" else ours - theirs


def _unbounded(values: Floats, alpha: float, settings: Lifecycle) -> Bounds:
    return asymptotic(values, alpha=alpha, first=settings.blocks_min, best_at=settings.window_blocks)


def _number(bound: float, scale: float, offset: float) -> float | None:
    """A bound in the measure's own unit; None where there is none."""
    if not np.isfinite(bound):
        return None
    if bound == 0.0:
        return offset
    return float(offset + bound * scale)
