"""The ledger as the gateway sees it: three ways in, a handful of questions, one way out."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar
from uuid import UUID

from sqlalchemy import Engine

from router_gateway.core.errors import LedgerFull, LedgerUnavailable
from router_gateway.core.experience import Experience
from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Attempt, Comparison, Decision, Feedback, Floats, Query, Revocation
from router_gateway.ledger import reads
from router_gateway.ledger.engine import open_engine, schema_is_current
from router_gateway.ledger.journal import Journal
from router_gateway.ledger.learnable import read_experience
from router_gateway.ledger.reads import DecisionRecord, Said, TokenMeans
from router_gateway.ledger.records import (
    attempt_record,
    comparison_record,
    decision_record,
    feedback_record,
    judgement_record,
    revocation_record,
)
from router_gateway.ledger.syncing import Syncer
from router_gateway.ledger.writer import Writer, WriterCounters

logger = logging.getLogger(__name__)

_ROOM_POLL_S = 0.02
_FRESH_S = 2.0  # how long `decision` waits for a row that may still be in the journal
_RECENT_MAX = 10_000

Found = TypeVar("Found")


class Ledger:
    """Appends go to the local journal in microseconds and may be called from any thread or event loop.

    Reads go to the database, block, and belong in a thread; the database lags the journal by about 50 ms.
    They raise LedgerUnavailable when the database is away.
    """

    def __init__(
        self, engine: Engine, journal: Journal, *, store_text: bool, sync_interval_ms: float | None = None
    ) -> None:
        self.engine = engine
        self._journal = journal
        self._writer = Writer(engine, journal)
        self._syncer = Syncer(journal, sync_interval_ms)
        self._store_text = store_text
        self._recent = _Recent()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        directory: Path,
        journal_bytes_max: int = 256 << 20,
        store_text: bool = False,
        sync_interval_ms: float | None = None,
        disk_free_bytes_min: int = 0,
    ) -> Self:
        """Start writing to the database at `url` through a journal in `directory`, a local disk.

        sync_interval_ms : a power cut costs the rows of that time at most; 0 for none, None for what the kernel does
        disk_free_bytes_min : with less room on that disk no further decision is taken

        A database that is away is no error here: see `ready`. Raises ConfigError for an unusable URL.
        """
        journal = Journal(directory, bytes_max=journal_bytes_max, disk_free_bytes_min=disk_free_bytes_min)
        ledger = cls(open_engine(url), journal, store_text=store_text, sync_interval_ms=sync_interval_ms)
        ledger.start()
        return ledger

    def start(self) -> None:
        """Start the writer and the syncer; `open` does."""
        self._writer.start()
        self._syncer.start()

    def record_decision(
        self,
        query: Query,
        decision: Decision,
        *,
        requested_model: str,
        embedding: Floats | None,
        expected_nusd: int | None = None,
    ) -> None:
        """To be called before money is spent. Raises LedgerFull: then nothing may be spent.

        expected_nusd : what the call will cost, as far as anybody knows: its price if its outcome never gets known
        """
        self._journal.append(
            decision_record(
                query,
                decision,
                requested_model=requested_model,
                embedding=embedding,
                store_text=self._store_text,
                expected_nusd=expected_nusd,
            )
        )
        if query.session is not None:
            self._recent.decided(decision.query_id, query.session)

    def record_attempt(self, attempt: Attempt) -> None:
        """Never refused, since the money is spent: a full journal is exceeded, a full disk bypassed."""
        record = attempt_record(attempt)
        try:
            self._journal.append(record, beyond_bound=True)
        except LedgerFull as error:
            logger.error("an attempt goes to the database from memory: %s", error)
            self._writer.spill(record)
        if attempt.status == 200:
            self._recent.answered(attempt)

    def record_feedback(self, feedback: Feedback) -> None:
        """Raises LedgerFull when the journal is at its bound."""
        self._journal.append(feedback_record(feedback))

    def record_comparison(self, comparison: Comparison) -> None:
        """Raises LedgerFull when the journal is at its bound."""
        self._journal.append(comparison_record(comparison))

    def record_judgement(self, judgement: Judgement) -> None:
        """Raises LedgerFull when the journal is at its bound."""
        self._journal.append(judgement_record(judgement))

    def record_revocation(self, revocation: Revocation) -> None:
        """Take back a feedback or comparison; once more changes nothing. Raises LedgerFull."""
        self._journal.append(revocation_record(revocation))

    @property
    def waits_for_disk(self) -> bool:
        """Whether `durable` waits for anything."""
        return self._syncer.interval_ms == 0

    async def durable(self) -> None:
        """Return once a power cut no longer takes what was recorded, where `sync_interval_ms` is 0; else at once.

        Raises LedgerFull when the disk fails.
        """
        await self._syncer.durable()

    async def wait_for_room(self, timeout_s: float) -> None:
        """Return as soon as a decision would be taken. Raises LedgerFull when that takes longer."""
        deadline = time.monotonic() + timeout_s
        while not self._journal.has_room:
            if self._journal.disk_is_full:
                raise LedgerFull("the ledger cannot record another paid call: its disk is full", hint="try later")
            if time.monotonic() >= deadline:
                raise LedgerFull(
                    "the ledger cannot record another paid call", hint="its database is away or too slow; try later"
                )
            await asyncio.sleep(_ROOM_POLL_S)

    def decision(self, query_id: UUID) -> DecisionRecord | None:
        """The decision with its attempts and feedback; waits a moment for the journal before saying None."""
        return self._fresh(lambda: reads.read_decision(self.engine, query_id))

    def said(self, feedback_id: UUID) -> Said | None:
        """Whose the feedback or comparison of that id is; waits a moment for the journal before saying None."""
        return self._fresh(lambda: reads.read_said(self.engine, feedback_id))

    def last_endpoint(self, session: str) -> str | None:
        """The endpoint that answered last in this session, or None.

        This process's own answers count at once, other processes' as soon as the database has them.
        """
        known = [self._recent.answer(session)]
        try:
            known.append(reads.last_answer(self.engine, session))
        except LedgerUnavailable as error:
            logger.warning("only this process's answers are known: %s", error)
        return max((answer for answer in known if answer is not None), default=(None, None))[1]

    def last_endpoint_here(self, session: str) -> str | None:
        """The same of this process's own recent answers; asks no database."""
        answer = self._recent.answer(session)
        return None if answer is None else answer[1]

    def spend_since(self, at: datetime, *, tenant: str | None = None) -> int:
        """Nano-dollars spent from `at` (timezone-aware) on, by one tenant or by all."""
        return reads.spend_nusd(self.engine, at, tenant)

    def experience_since(
        self,
        watermark: int = 0,
        *,
        embedding_space: str | None = None,
        rows_max: int = 50_000,
        settle_s: float = 60.0,
    ) -> tuple[Experience, int]:
        """What feedback past `watermark` (0 = all) teaches, and the watermark to ask with next time.

        One embedding space only: the named one, else that of the newest decision. At most `rows_max`
        feedback rows are read; there may be more while the watermark still moves. Feedback whose
        answer is not in the database yet is waited for, `settle_s` at most. Without any outcome the
        Experience is empty, with embeddings of shape (0, 0).
        """
        return read_experience(
            self.engine, watermark, embedding_space=embedding_space, rows_max=rows_max, settle_s=settle_s
        )

    def output_tokens(self) -> Mapping[str, TokenMeans]:
        """By endpoint: calls counted, mean output tokens, mean prompt tokens; to warm the cost model."""
        return reads.output_tokens(self.engine)

    def ready(self) -> bool:
        """Whether the database answers and has the newest tables."""
        try:
            return schema_is_current(self.engine)
        except LedgerUnavailable as error:
            logger.warning("not ready: %s", error)
            return False

    def _fresh(self, look: Callable[[], Found | None]) -> Found | None:
        found = look()
        if found is None:
            if self._writer.counters.rows_waiting:
                self.drain(_FRESH_S)
            found = look()  # or written between the first look and the count
        return found

    @property
    def has_room(self) -> bool:
        """Whether a decision would be taken now."""
        return self._journal.has_room

    @property
    def disk_is_full(self) -> bool:
        """Whether decisions are refused for want of room on the journal's disk."""
        return self._journal.disk_is_full

    @property
    def sync_errors(self) -> int:
        """How often the disk failed to make the journal durable, since the start."""
        return self._syncer.errors

    @property
    def counters(self) -> WriterCounters:
        return self._writer.counters

    def drain(self, timeout_s: float = 10.0) -> bool:
        """Wait until the database has every row recorded before the call; False when time ran out."""
        return self._writer.drain(timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Drain and stop. False when rows remain in the journal; the next start replays them."""
        drained = self._writer.close(timeout_s)
        self._syncer.close()
        self._journal.close()
        self.engine.dispose()
        return drained


class _Recent:
    """Who answered last, by session: the next turn of a tool loop can come before the database knows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: OrderedDict[UUID, str] = OrderedDict()
        self._answers: OrderedDict[str, tuple[datetime, str]] = OrderedDict()

    def decided(self, query_id: UUID, session: str) -> None:
        with self._lock:
            self._sessions[query_id] = session
            if len(self._sessions) > _RECENT_MAX:
                self._sessions.popitem(last=False)

    def answered(self, attempt: Attempt) -> None:
        with self._lock:
            session = self._sessions.get(attempt.query_id)
            if session is None:
                return
            self._answers[session] = (attempt.at, attempt.endpoint)
            self._answers.move_to_end(session)
            if len(self._answers) > _RECENT_MAX:
                self._answers.popitem(last=False)

    def answer(self, session: str) -> tuple[datetime, str] | None:
        with self._lock:
            return self._answers.get(session)
