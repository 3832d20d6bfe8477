"""Candidates, transitions and evidence as JSON values: the same for the admin API, the CLI and a dashboard."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.ledger.candidates import Candidate, Transition
from router_gateway.ledger.shadows import Shadows
from router_gateway.lifecycle import makings
from router_gateway.lifecycle.desk import Desk
from router_gateway.lifecycle.judge import Judge

_TRAIL_MAX = 1_000


def candidates(desk: Desk, policy: str | None = None) -> list[dict[str, Any]]:
    """Every candidate with where it stands, newest first. Blocks on the database."""
    last = {row.candidate: row for row in desk.register.standing()}
    found = [each for each in reversed(desk.register.all()) if policy in (None, each.policy)]
    return [candidate(each, last[each.name]) for each in found]


def candidate(one: Candidate, last: Transition) -> dict[str, Any]:
    """A candidate and where it stands."""
    values = {**asdict(one), "at": one.at.isoformat()}
    return {**values, "state": last.state, "share": last.share, "since": last.at.isoformat(), "reason": last.reason}


def fitted(desk: Desk, name: str) -> dict[str, Any]:
    """`kind` and `params` of the policy that a candidate scores with; both None for the configured one's.

    Of one that is still fitted, or could not be, what was asked for. Raises NotFound.
    """
    for row in desk.register.trail(candidate=name, limit=_TRAIL_MAX):
        if row.state in ("fitting", "failed") and row.evidence:
            return {"kind": row.evidence["kind"], "params": row.evidence["params"]}
    try:
        made = makings.of(desk.register, desk.homes, name)
    except SnapshotMismatch:  # it cannot be read here; `failing` says so
        return {"kind": None, "params": None}
    return {"kind": made.kind, "params": None if made.kind is None else dict(made.params)}


def transition(row: Transition) -> dict[str, Any]:
    """One line of the trail."""
    return {**asdict(row), "at": row.at.isoformat()}


def trail(desk: Desk, name: str) -> list[dict[str, Any]]:
    """A candidate's transitions, newest first. Raises NotFound."""
    desk.register.named(name)
    return [transition(row) for row in desk.register.trail(candidate=name, limit=_TRAIL_MAX)]


def evidence(desk: Desk, judge: Judge, shadows: Shadows, name: str) -> dict[str, Any]:
    """What a candidate shows: as a canary now, else what its last move rested on; and what it did in shadow.

    Raises NotFound. Blocks on the database.
    """
    last = desk.last(name)
    now = judge.evidence(name).to_json() if last.state == "canary" else None
    rows = desk.register.trail(candidate=name, limit=_TRAIL_MAX)
    recorded = next((transition(row) for row in rows if "measures" in (row.evidence or {})), None)
    shadow = shadows.summary(name)
    return {
        "candidate": name,
        "state": last.state,
        "canary": now,
        "last_move_on_evidence": recorded,
        "shadow": shadow if shadow["decisions"] else None,
    }
