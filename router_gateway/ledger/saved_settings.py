"""Settings saved while the gateway runs: whole states, append-only, the newest one in force in all processes.

What a setting may be is checked where it is known (brain.py); here it is only made sure that, of two people who
save at once, one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from router_gateway.core.errors import Conflict, NotFound
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.tables import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One row: `changes` is what was asked (None lifts a setting), `state` all that is saved from here on (JSON).

    restores : the id of the row whose state came back, None = it was not a rollback
    """

    id: int
    at: datetime
    author: str
    note: str
    changes: Mapping[str, Any]
    state: Mapping[str, Any]
    restores: int | None = None


class SavedSettings:
    """All methods block on the database, and raise LedgerUnavailable when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest_id(self) -> int:
        """The id of the row in force, 0 = nothing was ever saved."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.coalesce(func.max(settings.c.seq), 0))).scalar_one())

    def newest(self) -> Saved | None:
        """The row in force."""
        return next(iter(self.history(limit=1)), None)

    def at(self, row_id: int) -> Saved:
        """The row of that id. Raises NotFound."""
        with reading(self._engine) as connection:
            row = connection.execute(select(settings).where(settings.c.seq == row_id)).first()
        if row is None:
            raise NotFound(f"no settings were saved as {row_id}", param="id")
        return _saved(row)

    def history(self, *, limit: int = 100) -> list[Saved]:
        """The newest first."""
        query = select(settings).order_by(settings.c.seq.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [_saved(row) for row in connection.execute(query)]

    def save(self, changes: Mapping[str, Any], *, author: str, note: str = "", base: int | None = None) -> Saved:
        """Lay `changes` (JSON; None lifts a setting) over what is saved.

        base : the id that the author saw; None = whatever is newest
        Raises Conflict where another row is the newest by now.
        """
        before = self.newest()
        state = {**({} if before is None else before.state), **changes}
        kept = {name: value for name, value in state.items() if value is not None}
        return self._append(before, base, author=author, note=note, changes=dict(changes), state=kept)

    def roll_back(self, row_id: int, *, author: str, note: str = "") -> Saved:
        """Save the state of an earlier row anew; 0 is the state before the first one. Raises NotFound, Conflict."""
        state = {} if row_id == 0 else dict(self.at(row_id).state)
        before = self.newest()
        held = {} if before is None else before.state
        changes = {name: state.get(name) for name in sorted({*held, *state}) if held.get(name) != state.get(name)}
        return self._append(before, None, author=author, note=note, changes=changes, state=state, restores=row_id)

    def _append(self, before: Saved | None, base: int | None, **values: Any) -> Saved:
        newest = 0 if before is None else before.id
        if base is not None and base != newest:
            raise _outrun()
        row = {**values, "base": newest, "at": datetime.now(UTC)}
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(settings).values(row))
                found = connection.execute(select(settings).where(settings.c.base == newest)).one()
        except IntegrityError:
            raise _outrun() from None
        return _saved(found)


def _outrun() -> Conflict:
    return Conflict("somebody else saved settings just now", param="base", hint="look again, then repeat")


def _saved(row: Row[Any]) -> Saved:
    return Saved(
        id=row.seq,
        at=row.at,
        author=row.author,
        note=row.note,
        changes=row.changes,
        state=row.state,
        restores=row.restores,
    )
