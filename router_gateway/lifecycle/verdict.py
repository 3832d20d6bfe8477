"""What follows from the evidence: go on, step back, or wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from router_gateway.lifecycle.measures import Measure
from router_gateway.lifecycle.settings import Lifecycle

Action = Literal["promote", "rollback", "wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, and why in words for an audit trail. `reason` is short and stable, for programs."""

    action: Action
    reason: str
    why: str


def decide(measures: Sequence[Measure], *, last_stage: bool, settings: Lifecycle) -> Verdict:
    """Harm proven on any measure: back. No harm proven on all: on. A full window without either: as the stage has it.

    A stage but the last is passed by a full window in which nothing spoke against the candidate; to be live takes
    proof that it is no worse than its margins allow.
    """
    harmed = [each for each in measures if each.finding == "worse"]
    if harmed:
        told = "; ".join(f"{each.name} is worse by {each.worse:.4f}, at least {each.lower:.4f}" for each in harmed)
        return Verdict(action="rollback", reason=f"worse:{harmed[0].name}", why=told)
    if not measures:
        return Verdict(action="wait", reason="unjudged", why="no measure has a margin: a person decides")
    short = [each for each in measures if each.blocks < settings.blocks_min]
    if short:
        told = ", ".join(f"{each.name} has {each.blocks} of {settings.blocks_min} blocks" for each in short)
        return Verdict(action="wait", reason="gathering", why=told)
    open_ones = [each.name for each in measures if each.finding == "open"]
    if not open_ones:
        return Verdict(action="promote", reason="no_worse", why="shown to be no worse on every measure")
    full = all(each.blocks >= settings.window_blocks for each in measures)
    if full and not last_stage:
        return Verdict(action="promote", reason="window_passed", why="a full window, and nothing spoke against it")
    if full and settings.undecided == "rollback":
        told = f"a full window did not show that it is no worse: {', '.join(open_ones)}"
        return Verdict(action="rollback", reason="undecided", why=told)
    state = "undecided" if full else "gathering"
    return Verdict(action="wait", reason=state, why=f"open: {', '.join(open_ones)}")
