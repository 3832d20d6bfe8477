"""What onboardings have found, step by step: append-only, and seen by all processes, whoever asks the probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, insert, select
from sqlalchemy.exc import IntegrityError

from router_gateway.core.errors import NotFound
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.onboarding_tables import onboarding_steps

STARTED, STOP = 0, -1
STEPS_MAX = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row: how far an onboarding had come. `found` is JSON."""

    onboarding_id: UUID
    number: int
    endpoint: str
    state: str
    author: str
    found: Mapping[str, Any]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class OnboardingRows:
    """All methods block on the database, and raise LedgerUnavailable when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def append(self, step: Step) -> None:
        """Write a step down; one that is there already (asked to stop twice) stays as it is."""
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(onboarding_steps).values({n: getattr(step, n) for n in Step.__slots__}))
        except IntegrityError:
            return

    def steps(self, onboarding_id: UUID) -> list[Step]:
        """All steps by number, -1 left out. Raises NotFound."""
        of = onboarding_steps.c
        rows = select(onboarding_steps).where(of.onboarding_id == onboarding_id, of.number >= STARTED)
        with reading(self._engine) as connection:
            found = [_step(row) for row in connection.execute(rows.order_by(of.number).limit(STEPS_MAX))]
        if not found:
            raise NotFound(f"no onboarding {onboarding_id}", param="id")
        return found

    def stop_asked(self, onboarding_id: UUID) -> bool:
        """Whether somebody wants it to stop."""
        of = onboarding_steps.c
        row = select(of.number).where(of.onboarding_id == onboarding_id, of.number == STOP)
        with reading(self._engine) as connection:
            return connection.execute(row).first() is not None

    def newest(self, limit: int) -> Sequence[UUID]:
        """The onboardings begun last, newest first."""
        of = onboarding_steps.c
        begun = select(of.onboarding_id).where(of.number == STARTED).order_by(of.at.desc()).limit(limit)
        with reading(self._engine) as connection:
            return list(connection.execute(begun).scalars())


def _step(row: Row[Any]) -> Step:
    return Step(**{name: getattr(row, name) for name in Step.__slots__})
