"""The register of candidates and the trail of their transitions: append-only, and shared by all processes.

What a transition may be is said in lifecycle/; here it is only made sure that, of two that race, one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from router_gateway.core.errors import Conflict, NotFound
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.lifecycle_tables import candidates, transitions

CANDIDATES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What may come into service. It never changes: another dial is another candidate.

    policy : name of the live policy that it would replace
    snapshot : "knn@3", the snapshot it was made from; None = it scores with the policy of `base`
    base : the candidate that was live when it was drafted, None = the policy as configured
    changes : of dial, rule and guard, complete (those of `base` included); JSON
    margins : by measure, where they are not the configured ones; JSON
    """

    name: str
    policy: str
    snapshot: str | None = None
    base: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    margins: Mapping[str, Any] = field(default_factory=dict)
    author: str
    note: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One line of the trail. `number` counts within the policy; `share` is of the traffic, in a canary."""

    policy: str
    number: int
    candidate: str
    before: str
    state: str
    share: float | None = None
    author: str
    reason: str
    note: str = ""
    evidence: Mapping[str, Any] | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Candidates:
    """All methods block on the database, and raise LedgerUnavailable when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, candidate: Candidate, first: Transition) -> None:
        """Register a candidate with its first transition. Raises Conflict where the name is taken."""
        try:
            with writing(self._engine) as connection:
                if connection.execute(select(func.count()).select_from(candidates)).scalar_one() >= CANDIDATES_MAX:
                    raise Conflict(f"there are {CANDIDATES_MAX} candidates already")
                connection.execute(insert(candidates).values(_values(candidate)))
                connection.execute(insert(transitions).values(_values(first)))
        except IntegrityError:
            if self._known(candidate.name):
                raise Conflict(f"a candidate {candidate.name!r} exists already", param="name") from None
            raise _outrun() from None

    def append(self, *rows: Transition) -> None:
        """Append transitions of one policy, all or none. Raises Conflict where one of these numbers is taken."""
        try:
            with writing(self._engine) as connection:
                for row in rows:
                    connection.execute(insert(transitions).values(_values(row)))
        except IntegrityError:
            raise _outrun() from None

    def named(self, name: str) -> Candidate:
        """Raises NotFound."""
        with reading(self._engine) as connection:
            row = connection.execute(select(candidates).where(candidates.c.name == name)).first()
        if row is None:
            raise NotFound(f"no candidate {name[:100]!r}", param="name")
        return _candidate(row)

    def all(self) -> list[Candidate]:
        """Every candidate, oldest first."""
        with reading(self._engine) as connection:
            return [_candidate(row) for row in connection.execute(select(candidates).order_by(candidates.c.at))]

    def newest(self) -> int:
        """A number that grows with every transition: as long as it stays, nothing has happened."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.coalesce(func.max(transitions.c.seq), 0))).scalar_one())

    def standing(self) -> Sequence[Transition]:
        """The last transition of every candidate, oldest first."""
        last = select(func.max(transitions.c.seq)).group_by(transitions.c.candidate)
        query = select(transitions).where(transitions.c.seq.in_(last)).order_by(transitions.c.seq)
        with reading(self._engine) as connection:
            return [_transition(row) for row in connection.execute(query)]

    def numbers(self) -> Mapping[str, int]:
        """By policy the number of its last transition."""
        query = select(transitions.c.policy, func.max(transitions.c.number)).group_by(transitions.c.policy)
        with reading(self._engine) as connection:
            return {policy: int(number) for policy, number in connection.execute(query)}

    def trail(
        self, *, candidate: str | None = None, policy: str | None = None, limit: int = 100
    ) -> Sequence[Transition]:
        """The newest transitions first, of one candidate or policy or of all."""
        query = select(transitions).order_by(transitions.c.seq.desc()).limit(limit)
        if candidate is not None:
            query = query.where(transitions.c.candidate == candidate)
        if policy is not None:
            query = query.where(transitions.c.policy == policy)
        with reading(self._engine) as connection:
            return [_transition(row) for row in connection.execute(query)]

    def _known(self, name: str) -> bool:
        with reading(self._engine) as connection:
            return connection.execute(select(candidates.c.name).where(candidates.c.name == name)).first() is not None


def _outrun() -> Conflict:
    return Conflict("somebody else moved a candidate of this policy just now", hint="look again, then repeat")


def _values(row: Candidate | Transition) -> dict[str, Any]:
    return {name: getattr(row, name) for name in type(row).__slots__}


def _candidate(row: Row[Any]) -> Candidate:
    return Candidate(**{name: getattr(row, name) for name in Candidate.__slots__})


def _transition(row: Row[Any]) -> Transition:
    return Transition(**{name: getattr(row, name) for name in Transition.__slots__})
