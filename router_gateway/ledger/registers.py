"""A small register beside the ledger: snapshots of policies.

It is written at once rather than through the journal: whoever saves one waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, Select, insert, select
from sqlalchemy.exc import IntegrityError

from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.tables import snapshots

_SNAPSHOTS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRow:
    """Where one version of a learned policy lies. `path` is as the learner gave it."""

    name: str
    version: int
    at: datetime
    path: str
    embedding_space: str
    note: str


class Registers:
    """Append-only: the newest row of a name counts. All methods block, and may raise LedgerUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_snapshot(self, *, name: str, version: int, path: str, embedding_space: str, note: str = "") -> SnapshotRow:
        """Register a snapshot. Raises ValueError when another process has taken name and version."""
        row = SnapshotRow(
            name=name, version=version, at=datetime.now(UTC), path=path, embedding_space=embedding_space, note=note
        )
        values = {field: getattr(row, field) for field in SnapshotRow.__slots__}
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(snapshots).values(values))
        except IntegrityError:
            raise ValueError(f"snapshot {name}@{version} exists already") from None
        return row

    def latest_snapshot(self, name: str) -> SnapshotRow | None:
        """The highest version of that name."""
        return next(iter(self.snapshots(name)), None)

    def snapshots(self, name: str) -> list[SnapshotRow]:
        """All versions of that name, newest first, at most 1,000."""
        query = _of(name).order_by(snapshots.c.version.desc()).limit(_SNAPSHOTS_MAX)
        with reading(self._engine) as connection:
            return [_snapshot(row) for row in connection.execute(query)]


def _of(name: str) -> Select[Any]:
    return select(snapshots).where(snapshots.c.name == name)


def _snapshot(row: Row[Any]) -> SnapshotRow:
    return SnapshotRow(**{field: getattr(row, field) for field in SnapshotRow.__slots__})
