"""The trail of what admins did over the admin API: append-only, in the ledger's database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, insert, select

from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.tables import admin_events

_WORDS_CHARS_MAX = 2_000
"""Of an author, a subject and a note; what is longer is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEvent:
    """Who did what to what, when and why. `detail` is JSON, never a secret; `id` counts up, 0 = not written yet."""

    author: str
    action: str
    subject: str = ""
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: int = 0


class AdminEvents:
    """All methods block on the database, and raise LedgerUnavailable when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def append(self, event: AdminEvent) -> None:
        """Write it down."""
        values = {
            "at": event.at,
            "author": event.author[:_WORDS_CHARS_MAX],
            "action": event.action[:_WORDS_CHARS_MAX],
            "subject": event.subject[:_WORDS_CHARS_MAX],
            "note": event.note[:_WORDS_CHARS_MAX],
            "detail": dict(event.detail),
        }
        with writing(self._engine) as connection:
            connection.execute(insert(admin_events).values(values))

    def newest(self, *, limit: int = 100, before: int | None = None, action: str | None = None) -> list[AdminEvent]:
        """The newest first; `before` an id, to read on; `action` by its name or the part before its dot."""
        query = select(admin_events).order_by(admin_events.c.seq.desc()).limit(limit)
        if before is not None:
            query = query.where(admin_events.c.seq < before)
        if action is not None:
            query = query.where(
                (admin_events.c.action == action) | admin_events.c.action.startswith(f"{action}.", autoescape=True)
            )
        with reading(self._engine) as connection:
            return [_event(row) for row in connection.execute(query)]


def _event(row: Row[Any]) -> AdminEvent:
    return AdminEvent(
        id=row.seq,
        at=row.at,
        author=row.author,
        action=row.action,
        subject=row.subject,
        note=row.note,
        detail=row.detail,
    )
