"""What a candidate is made of, for estimates: the policy it scores with, and its changes of dial, rule and guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.ledger.candidates import Candidate, Candidates
from router_gateway.lifecycle.homes import Homes


@dataclass(frozen=True, slots=True, kw_only=True)
class Makings:
    """A candidate's parts.

    policy : the configured policy whose place it has or wants
    kind, params : of the policy that it scores with; None = the configured one with its configured parameters
    changes : of dial, rule and guard, complete
    """

    name: str
    policy: str
    kind: str | None
    params: Mapping[str, Any]
    changes: Mapping[str, Any]


def live(register: Candidates, homes: Homes, policy: str) -> Makings | None:
    """Of the candidate that is live in the place of a policy; None = the policy as configured.

    Raises SnapshotMismatch where its policy cannot be read, LedgerUnavailable.
    """
    rows = [row for row in register.standing() if row.policy == policy and row.state == "live"]
    return of(register, homes, rows[-1].candidate) if rows else None


def of(register: Candidates, homes: Homes, name: str) -> Makings:
    """Of a candidate in whatever state. Raises NotFound, SnapshotMismatch, LedgerUnavailable."""
    candidate = register.named(name)
    source = origin(candidate, {each.name: each for each in register.all()})
    if source is None:
        return Makings(name=name, policy=candidate.policy, kind=None, params={}, changes=candidate.changes)
    kind = (source.snapshot or "").partition("@")[0]
    folder = homes.of(source.name)
    manifest = folder.manifest(kind, folder.newest(kind) or 0)
    if manifest is None:
        raise SnapshotMismatch(f"the policy of {source.name!r} is not there")
    return Makings(name=name, policy=candidate.policy, kind=kind, params=manifest.params, changes=candidate.changes)


def origin(candidate: Candidate, candidates: Mapping[str, Candidate]) -> Candidate | None:
    """The candidate whose policy it scores with: itself, or the one it was drafted over; None = the configured one."""
    while candidate.snapshot is None:
        if candidate.base is None:
            return None
        candidate = candidates[candidate.base]
    return candidate
