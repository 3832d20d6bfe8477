"""The judge: looks at canaries now and then, and moves them where the evidence is clear."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from router_gateway.core.errors import Conflict
from router_gateway.ledger.candidates import Transition
from router_gateway.lifecycle.desk import AUTHOR, Desk
from router_gateway.lifecycle.evidence import Evidence, ReadTrial, assess

log = logging.getLogger(__name__)

LEASE = "lifecycle"
_LEASE_S = 120.0


class Judge:
    """One process at a time judges, by a lease; whichever it is, the evidence is that of all.

    held : a context manager whose value says whether the lease is ours, for so many seconds
    """

    def __init__(self, desk: Desk, read: ReadTrial, held: Callable[[float], AbstractContextManager[bool]]) -> None:
        self._desk = desk
        self._read = read
        self._held = held

    def evidence(self, name: str) -> Evidence:
        """What a canary shows now. Raises NotFound, and Conflict for a candidate that is none."""
        candidate, stage = self._desk.register.named(name), self._desk.last(name)
        if stage.state != "canary":
            raise Conflict(f"{name!r} is {stage.state.replace('_', ' ')}: only a canary is compared with live traffic")
        trial = self._read(name, stage.at, self._desk.settings.rows_max)
        return assess(trial, candidate, stage, self._desk.settings)

    def step(self) -> list[Transition]:
        """Look at every canary once; what was moved. Raises LedgerUnavailable."""
        standing = [row for row in self._desk.register.standing() if row.state == "canary"]
        if not standing:
            return []
        with self._held(_LEASE_S) as ours:
            return [moved for row in standing if (moved := self._look(row)) is not None] if ours else []

    def _look(self, stage: Transition) -> Transition | None:
        try:
            found = self.evidence(stage.candidate)
            verdict = found.verdict
            if verdict.action == "wait":
                return None
            move = self._desk.promote if verdict.action == "promote" else self._desk.rollback
            moved = move(
                stage.candidate,
                author=AUTHOR,
                reason=verdict.reason,
                note=verdict.why,
                evidence=found.to_json(),
                expected=stage,
            )
        except Conflict as error:  # a person was faster
            log.info("%s stays as it is: %s", stage.candidate, error.message)
            return None
        level = logging.WARNING if verdict.action == "rollback" else logging.INFO
        log.log(level, "%s: %s to %s, since %s", moved.candidate, moved.before, moved.state, verdict.why)
        return moved
