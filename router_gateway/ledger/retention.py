"""Rows that go: old ones, the texts of old ones, and one tenant's; in small transactions, beside the writer.

Each batch opens the append-only triggers for itself alone: a row of the table `retention`, which no other transaction
ever sees. What rows added up to stays in `daily_totals`, and budgets keep their own sums. The learner's watermarks are
numbers of rows: SQLite would give the number of the newest row again, so that row stays, emptied.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, func, insert, or_, select, tuple_, update

from router_gateway.core.errors import RequestError
from router_gateway.ledger import totals
from router_gateway.ledger.connections import writing
from router_gateway.ledger.lifecycle_tables import shadow_decisions
from router_gateway.ledger.tables import (
    attempts,
    comparisons,
    decisions,
    feedback,
    feedback_revocations,
    judgements,
    open_calls,
    reservations,
    retention,
)

AGE_MIN = timedelta(days=8)
"""Younger rows may still be what an expired reservation is settled by (`reservations.sweep`)."""

FORGOTTEN = "forgotten"
"""The tenant that a forgotten one's totals are added to."""

_BATCH_ROWS = 500
_PAUSE_S = 0.02  # between two batches: the writer's turn
_NOBODY = UUID(int=0)
_OF_A_DECISION = (attempts, judgements, shadow_decisions, open_calls)
_SAID = (feedback, comparisons)
_EMPTY: dict[str, dict[str, Any]] = {
    "feedback": {"query_id": _NOBODY, "tenant": "", "quality": 0.0, "turn": None, "comment": None},
    "comparisons": {"query_id": _NOBODY, "tenant": "", "better": "", "worse": ""},
    "feedback_revocations": {"tenant": ""},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Rows that are gone, by table, or that lost their text. `left` are calls under way: their money is set aside."""

    rows: dict[str, int]
    texts: int = 0
    left: int = 0


Progress = Callable[[int], None]
"""Told, after each batch, how many decisions have been dealt with."""


def prune(
    engine: Engine,
    before: datetime,
    *,
    text_only: bool = False,
    progress: Progress = lambda _: None,
    pause_s: float = _PAUSE_S,
) -> Removed:
    """Remove decisions older than `before` (timezone-aware) with all that belongs to them, or only the texts.

    Texts are prompts and comments. Raises RequestError where rows of the last eight days would go, LedgerUnavailable.
    """
    if text_only:
        return _prune_texts(engine, before, progress, pause_s)
    if before > datetime.now(UTC) - AGE_MIN:
        raise RequestError("rows of the last 8 days still settle budgets", param="older_than", hint="--older-than 8d")
    removed = _Batches(engine, "prune", pause_s, progress).remove(decisions.c.at < before)
    for table in (attempts, *_SAID, judgements, shadow_decisions):  # what never had a decision
        known = select(decisions.c.query_id).where(decisions.c.query_id == table.c.query_id).exists()
        alone = and_(table.c.at < before, table.c.query_id != _NOBODY, ~known)
        _remove_alone(engine, table, alone, removed, pause_s)
    _settle_file(engine)
    return Removed(rows=dict(removed))


def forget(engine: Engine, tenant: str, *, progress: Progress = lambda _: None, pause_s: float = _PAUSE_S) -> Removed:
    """Remove every row of a tenant. What it spent stays in the totals, under the name `forgotten`.

    Calls under way for which money is set aside are left: once more, later, takes them too. Raises LedgerUnavailable.
    """
    batches = _Batches(engine, "forget", pause_s, progress)
    removed = batches.remove(decisions.c.tenant == tenant)
    for table in (*_SAID, judgements, feedback_revocations):
        alone = table.c.tenant == tenant
        if table is not feedback_revocations:  # of calls that are left
            mine = select(decisions.c.query_id).where(decisions.c.query_id == table.c.query_id).exists()
            alone = and_(alone, ~mine)
        _remove_alone(engine, table, alone, removed, pause_s)
    if not batches.left:
        with writing(engine) as connection:
            totals.forget_tenant(connection, tenant, FORGOTTEN)
    _settle_file(engine)
    return Removed(rows=dict(removed), left=batches.left)


@dataclass(slots=True)
class _Batches:
    """Removes decisions with what belongs to them, oldest first, a few hundred a transaction."""

    engine: Engine
    job: str
    pause_s: float
    progress: Progress
    left: int = 0

    def remove(self, wanted: ColumnElement[bool]) -> Counter[str]:
        removed: Counter[str] = Counter()
        after: tuple[datetime, UUID] | None = None
        while True:
            page = select(decisions.c.at, decisions.c.query_id).where(wanted, *_past(after))
            with writing(self.engine) as connection, _door(connection, self.job):
                ordered = page.order_by(decisions.c.at, decisions.c.query_id).limit(_BATCH_ROWS)
                found = connection.execute(ordered).all()
                ids = [row.query_id for row in found]
                held = set(connection.execute(_open_reservations(ids)).scalars()) if ids else set()
                removed.update(_remove_calls(connection, [each for each in ids if each not in held]))
            self.left += len(held)
            if len(found) < _BATCH_ROWS:
                return removed
            after = found[-1].at, found[-1].query_id
            self.progress(removed["decisions"])
            time.sleep(self.pause_s)


def _remove_calls(connection: Connection, ids: Sequence[UUID]) -> Counter[str]:
    removed: Counter[str] = Counter()
    if not ids:
        return removed
    for table in _SAID:
        said = connection.execute(select(table.c.id).where(table.c.query_id.in_(ids))).scalars().all()
        _remove_numbered(connection, feedback_revocations, feedback_revocations.c.id.in_(said), removed)
        _remove_numbered(connection, table, table.c.query_id.in_(ids), removed)
    for table in (*_OF_A_DECISION, reservations, decisions):
        gone = connection.execute(delete(table).where(table.c.query_id.in_(ids))).rowcount
        if table not in (open_calls, reservations):
            removed[table.name] += gone
    return removed


def _remove_alone(
    engine: Engine, table: Table, wanted: ColumnElement[bool], removed: Counter[str], pause_s: float
) -> None:
    """Remove rows that no decision leads to."""
    key = list(table.primary_key)
    while True:
        with writing(engine) as connection, _door(connection, "alone"):
            page = connection.execute(select(*key).where(wanted).limit(_BATCH_ROWS)).all()
            ours = tuple_(*key).in_([tuple(row) for row in page])
            if page and table.name in _EMPTY:
                before = removed[table.name]
                _remove_numbered(connection, table, ours, removed)
                if removed[table.name] == before:
                    return  # the last row of all: emptied
            elif page:
                removed[table.name] += connection.execute(delete(table).where(ours)).rowcount
        if len(page) < _BATCH_ROWS:
            return
        time.sleep(pause_s)


def _remove_numbered(connection: Connection, table: Table, wanted: ColumnElement[bool], removed: Counter[str]) -> None:
    """Remove rows of a table whose numbers are watermarks."""
    if connection.dialect.name == "sqlite":
        newest = connection.execute(select(func.max(table.c.seq))).scalar()
        emptied = connection.execute(update(table).where(wanted, table.c.seq == newest).values(_EMPTY[table.name]))
        removed[table.name] += emptied.rowcount
        wanted = and_(wanted, table.c.seq != newest)
    removed[table.name] += connection.execute(delete(table).where(wanted)).rowcount


def _prune_texts(engine: Engine, before: datetime, progress: Progress, pause_s: float) -> Removed:
    texts = 0
    after: tuple[datetime, UUID] | None = None
    while True:
        page = select(decisions.c.at, decisions.c.query_id).where(decisions.c.at < before, *_past(after))
        with writing(engine) as connection, _door(connection, "texts"):
            found = connection.execute(page.order_by(decisions.c.at, decisions.c.query_id).limit(_BATCH_ROWS)).all()
            ids = [row.query_id for row in found]
            written = and_(decisions.c.query_id.in_(ids), decisions.c.text.is_not(None))
            texts += connection.execute(update(decisions).where(written).values(text=None)).rowcount
            said = and_(feedback.c.query_id.in_(ids), feedback.c.comment.is_not(None))
            texts += connection.execute(update(feedback).where(said).values(comment=None)).rowcount
        if len(found) < _BATCH_ROWS:
            break
        after = found[-1].at, found[-1].query_id
        progress(texts)
        time.sleep(pause_s)
    _settle_file(engine)
    return Removed(rows={}, texts=texts)


def _past(after: tuple[datetime, UUID] | None) -> list[ColumnElement[bool]]:
    """Where the last batch ended."""
    if after is None:
        return []
    at, query_id = after
    return [decisions.c.at >= at, or_(decisions.c.at > at, decisions.c.query_id > query_id)]


def _open_reservations(ids: Sequence[UUID]) -> Any:
    unsettled = reservations.c.settled_nusd.is_(None)
    return select(reservations.c.query_id).where(reservations.c.query_id.in_(ids), unsettled).distinct()


@contextmanager
def _door(connection: Connection, job: str) -> Iterator[None]:
    """Let this transaction change append-only tables."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")  # what goes is overwritten, not just unlinked
    connection.execute(insert(retention).values(job=job))
    yield
    connection.execute(delete(retention).where(retention.c.job == job))


def _settle_file(engine: Engine) -> None:
    """SQLite: let the file itself have what was done, so that nothing of the rows stays in its log."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
