"""The one thread that moves rows from the journal to the database, in batches.

A batch is one transaction of `INSERT … ON CONFLICT DO NOTHING`, so that a replay changes nothing. When
the database is away the batch is tried again until it is back, and the journal grows meanwhile. A row
that the database refuses is set aside alone: it never holds up the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from router_gateway.ledger import tables, totals
from router_gateway.ledger.connections import SQLITE_WRITES, error_name
from router_gateway.ledger.journal import Entry, Journal
from router_gateway.ledger.records import JOURNALLED, Record, Row, table_and_row

logger = logging.getLogger(__name__)

_BATCH_ROWS = 200
_LINGER_S = 0.05
_PAUSE_S = 1.0
_ADOPT_EVERY_S = 30.0
_BACKOFF_S = (0.1, 5.0)  # first pause and longest pause
_SPILL_ROWS_MAX = 10_000
_FEEDBACK_LOCK = 7_205_759_403_792_794  # any constant
_TABLES = {table.name: table for table in JOURNALLED}
_ACCOUNTED = (tables.decisions, tables.attempts)
_NUMBERED = (tables.feedback, tables.comparisons, tables.feedback_revocations)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterCounters:
    """Since the start. `rows_set_aside` were damaged or refused; `rows_lost` had neither disk nor memory."""

    rows_written: int
    rows_waiting: int
    bytes_waiting: int
    rows_set_aside: int
    rows_torn: int
    rows_lost: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """A parsed row and where it came from: a line of the journal, or memory (None)."""

    table: str
    row: Row
    entry: Entry | None


class Writer:
    """Call `start` once and `close` once; `journal` is closed by whoever opened it."""

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self._engine = engine.execution_options(**SQLITE_WRITES)
        self._journal = journal
        self._spill: deque[Record] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = False
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._rows_written = 0
        self._rows_lost = 0
        self._errors = 0

    @property
    def counters(self) -> WriterCounters:
        return WriterCounters(
            rows_written=self._rows_written,
            rows_waiting=self._journal.rows_waiting + len(self._spill),
            bytes_waiting=self._journal.bytes_waiting,
            rows_set_aside=self._journal.rows_corrupt,
            rows_torn=self._journal.rows_torn,
            rows_lost=self._rows_lost,
            errors=self._errors,
        )

    def start(self) -> None:
        self._thread.start()

    def spill(self, record: Record) -> None:
        """Take a row that the journal's disk refused, in memory: only for money already spent."""
        if len(self._spill) < _SPILL_ROWS_MAX and not self._ended:
            self._spill.append(record)
            return
        why = "the ledger is closed" if self._ended else "journal and memory are full"
        self._lose(record, why)

    def drain(self, timeout_s: float) -> bool:
        """Wait until the database has every row that was here at the call. False when time ran out."""
        mark = self._journal.mark()
        deadline = time.monotonic() + timeout_s
        with self._moved:
            while not (self._journal.reached(mark) and not self._spill):
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._thread.is_alive():
                    return False
                self._wake.set()
                self._moved.wait(left_s)
        return True

    def close(self, timeout_s: float) -> bool:
        """Drain, then end the thread. False when rows remain: in the journal, for the next start."""
        drained = self.drain(timeout_s)
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        self._ended = True
        while self._spill:
            self._lose(self._spill.popleft(), "the journal's disk refused it")
        return drained

    def _lose(self, record: Record, why: str) -> None:
        self._rows_lost += 1
        logger.critical("lost a paid attempt, %s: %s", why, _numbers(record))

    def _run(self) -> None:
        adopted_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                full = self._step()
                if time.monotonic() - adopted_at > _ADOPT_EVERY_S:
                    self._journal.adopt()
                    adopted_at = time.monotonic()
            except Exception as error:  # a bug or a failing disk: the thread that records money never ends by itself
                self._errors += 1
                logger.error("the ledger's writer failed: %s", type(error).__name__)
                full = False
                self._stopping.wait(_PAUSE_S)  # what fails once may go on failing: not twenty lines a second
            if not full:
                self._wake.wait(_LINGER_S)
                self._wake.clear()

    def _step(self) -> bool:
        """Move one batch; True when there may be more at once."""
        entries = self._journal.peek(_BATCH_ROWS)
        spilled = [self._spill[i] for i in range(min(len(self._spill), _BATCH_ROWS))]
        if not entries and not spilled:
            return False
        refused: list[Entry] = []
        pending = self._parse(entries, refused)
        pending += [_pending(record, None) for record in spilled]
        if not self._write(pending, refused):
            return False  # stopping with the database away: nothing is discarded
        for entry in refused:
            self._journal.set_aside(entry)
        with self._moved:
            self._journal.discard(entries)
            for _ in spilled:
                self._spill.popleft()
            self._moved.notify_all()
        return len(entries) == _BATCH_ROWS or bool(self._spill)

    def _parse(self, entries: Sequence[Entry], refused: list[Entry]) -> list[_Pending]:
        pending = []
        for entry in entries:
            try:
                if entry.record is None:
                    raise ValueError("damaged")
                pending.append(_pending(entry.record, entry))
            except ValueError:
                refused.append(entry)
        return pending

    def _write(self, pending: Sequence[_Pending], refused: list[Entry]) -> bool:
        """Insert the rows, however long it takes; False when told to stop before that."""
        pause_s, longest_s = _BACKOFF_S
        one_by_one = False
        position = 0
        while position < len(pending):
            part = pending[position : position + 1] if one_by_one else pending
            try:
                self._insert(part)
            except Exception as error:
                self._errors += 1
                if not _is_refusal(error):
                    logger.warning(
                        "the ledger's database is away (%s): %d rows wait",
                        error_name(error),
                        self._journal.rows_waiting,
                    )
                    if self._stopping.wait(pause_s):
                        return False
                    pause_s = min(2 * pause_s, longest_s)
                    continue
                if not one_by_one:
                    one_by_one = True
                    continue
                logger.error("the database refused a row of %s (%s)", part[0].table, error_name(error))
                if part[0].entry is None:
                    self._rows_lost += 1
                else:
                    refused.append(part[0].entry)
            else:
                self._rows_written += len(part)
                pause_s = _BACKOFF_S[0]
            position += len(part)
        return True

    def _insert(self, pending: Sequence[_Pending]) -> None:
        rows = {name: [item.row for item in pending if item.table == name] for name in _TABLES}
        with self._engine.begin() as connection:
            insert_all(connection, rows)


def insert_all(connection: Connection, rows: Mapping[str, list[Row]]) -> None:
    """Add the rows, by table, that are not there yet, and account for them, inside the caller's transaction."""
    decided = _added(connection, tables.decisions, rows.get(tables.decisions.name, []))
    tried = _added(connection, tables.attempts, rows.get(tables.attempts.name, []))
    for name, table in _TABLES.items():
        if table not in _ACCOUNTED and rows.get(name):
            insert_rows(connection, table, rows[name])
    if decided or tried:
        totals.book(connection, decided, tried)


def _added(connection: Connection, table: Table, rows: list[Row]) -> list[Row]:
    """Insert, and return those of the rows that were not there. Exact: what follows from a row follows once."""
    if not rows:
        return []
    key = [column.name for column in table.primary_key]
    first = {tuple(row[name] for name in key): row for row in reversed(rows)}  # who comes twice counts once
    mine = select(*table.primary_key).where(table.c.query_id.in_([row["query_id"] for row in first.values()]))
    if connection.dialect.name == "sqlite":  # its only writer is this transaction
        there = {tuple(row) for row in connection.execute(mine)}
        new = [row for identity, row in first.items() if identity not in there]
        if new:
            connection.execute(sqlite.insert(table), new)
        return new
    # RETURNING would do, but turns a batch of a prepared statement into one of 5,000 parameters: three times the time.
    connection.execute(postgresql.insert(table).on_conflict_do_nothing(), list(first.values()))
    of_this_transaction = text(f"{table.name}.xmin = pg_current_xact_id()::xid")
    there = {tuple(row) for row in connection.execute(mine.where(of_this_transaction))}
    return [row for identity, row in first.items() if identity in there]


def insert_rows(connection: Connection, table: Table, rows: list[Row]) -> None:
    """Add the rows that are not there yet, inside the caller's transaction."""
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)
        return
    if table in _NUMBERED:
        # `seq` is a watermark: with one transaction at a time, numbers become visible in their order.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _FEEDBACK_LOCK})
    connection.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)


def _pending(record: Mapping[str, Any], entry: Entry | None) -> _Pending:
    table, row = table_and_row(record)
    return _Pending(table=table, row=row, entry=entry)


def _is_refusal(error: Exception) -> bool:
    """Whether the row is at fault. Everything else (no connection, no table, no disk) may pass with time."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, StatementError | ValueError | TypeError | OverflowError)


def _numbers(record: Record) -> str:
    row = record["row"]
    return " ".join(f"{key}={row[key]}" for key in ("query_id", "number", "endpoint", "status", "cost_nusd"))
