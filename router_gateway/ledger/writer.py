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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from router_gateway.ledger.connections import SQLITE_WRITES, error_name
from router_gateway.ledger.inserts import Inserts
from router_gateway.ledger.journal import Entry, Journal
from router_gateway.ledger.layouts import StoredRow, stored_row
from router_gateway.ledger.records import Record
from router_gateway.ledger.segment import encode_payload

logger = logging.getLogger(__name__)

_BATCH_ROWS = 200
_BATCH_BYTES = 256 << 10  # long rows make a batch of fewer
_LINGER_S = 0.05
_BUSY_ROWS, _BUSY_LINGER_S = 20, 0.2  # a transaction costs as much as twenty rows: where there are many, fewer of them
_PAUSE_S = 1.0
_ADOPT_EVERY_S = 30.0
_BACKOFF_S = (0.1, 5.0)  # first pause and longest pause
_SPILL_ROWS_MAX = 10_000


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


class _Pending(NamedTuple):
    """A row and where it came from: a line of the journal, or memory (None)."""

    row: StoredRow
    entry: Entry | None


class Writer:
    """Call `start` once and `close` once; `journal` is closed by whoever opened it."""

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self._engine = engine.execution_options(**SQLITE_WRITES)
        self._inserts = Inserts(engine.dialect)
        self._journal = journal
        self._spill: deque[Record] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = False
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._rows_written = self._last_rows = 0
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
                self._wake.wait(_BUSY_LINGER_S if self._last_rows >= _BUSY_ROWS else _LINGER_S)
                self._wake.clear()

    def _step(self) -> bool:
        """Move one batch; True when there may be more at once."""
        entries = self._journal.peek(_BATCH_ROWS)
        self._last_rows = len(entries)
        spilled = [self._spill[i] for i in range(min(len(self._spill), _BATCH_ROWS))]
        if not entries and not spilled:
            return False
        refused: list[Entry] = []
        pending = self._parse(entries, refused)
        pending += [_Pending(stored_row(encode_payload(record)), None) for record in spilled]
        if not self._write(pending, refused):
            return False  # stopping with the database away: nothing is discarded
        for entry in refused:
            self._journal.set_aside(entry)
        with self._moved:
            self._journal.discard(entries)
            for _ in spilled:
                self._spill.popleft()
            self._moved.notify_all()
        return len(entries) == _BATCH_ROWS or self._journal.bytes_waiting > _BATCH_BYTES or bool(self._spill)

    def _parse(self, entries: Sequence[Entry], refused: list[Entry]) -> list[_Pending]:
        pending = []
        for entry in entries:
            try:
                if entry.payload is None:
                    raise ValueError("damaged")
                pending.append(_Pending(stored_row(entry.payload), entry))
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
                logger.error("the database refused a row of %s (%s)", part[0].row.table, error_name(error))
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
        statements = self._inserts.prepare([item.row for item in pending])
        with self._engine.begin() as connection:
            self._inserts.execute(connection, statements)


def _is_refusal(error: Exception) -> bool:
    """Whether the row is at fault. Everything else (no connection, no table, no disk) may pass with time."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, StatementError | ValueError | TypeError | OverflowError)


def _numbers(record: Record) -> str:
    row = record["row"]
    return " ".join(f"{key}={row[key]}" for key in ("query_id", "number", "endpoint", "status", "cost_nusd"))
