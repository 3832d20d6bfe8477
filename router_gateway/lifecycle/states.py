"""The states of a candidate and what may follow on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from router_gateway.core.errors import Conflict
from router_gateway.ledger.candidates import Transition

State = Literal["fitting", "failed", "draft", "shadow", "canary", "live", "rolled_back", "retired"]

NEW = "none"
"""Before the first transition."""

MAY_BECOME: Mapping[str, frozenset[str]] = {
    NEW: frozenset({"draft", "fitting"}),
    "fitting": frozenset({"draft", "failed"}),
    "failed": frozenset({"retired"}),
    "draft": frozenset({"shadow", "canary", "retired"}),
    "shadow": frozenset({"canary", "retired"}),
    "canary": frozenset({"canary", "live", "rolled_back", "retired"}),
    "live": frozenset({"rolled_back", "retired"}),  # retired by a successor alone
    "rolled_back": frozenset({"shadow", "canary", "retired"}),
    "retired": frozenset({"live"}),  # restored, when its successor is rolled back
}

SUPERSEDED, RESTORED = "superseded", "restored"
"""Reasons of what happens to the candidate that was live before."""


def check(candidate: str, before: str, state: State) -> None:
    """Raise Conflict where `state` may not follow on `before`."""
    if state not in MAY_BECOME[before]:
        may = ", ".join(sorted(MAY_BECOME[before])) or "nothing"
        raise Conflict(f"{candidate!r} is {before.replace('_', ' ')}: from there it may become {may}, not {state}")


def previous(candidate: str, trail: Sequence[Transition]) -> str | None:
    """Who was live before `candidate` was promoted, from its policy's trail, newest first; None = as configured."""
    by_number = {row.number: row for row in trail}
    for row in trail:
        if row.candidate == candidate and row.state == "live" and row.reason != RESTORED:
            before = by_number.get(row.number - 1)
            return before.candidate if before is not None and before.reason == SUPERSEDED else None
    return None
