"""The thread that makes the journal survive a power cut: one fsync for all rows that came meanwhile.

With an interval the rows of that time are synced together, and nobody waits. With an interval of 0 the thread syncs
whenever there is something, and `durable` waits for it: requests that come while the disk is at work share the next
sync (group commit), beside the event loop and not on it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from router_gateway.core.errors import LedgerFull
from router_gateway.ledger.journal import Journal

logger = logging.getLogger(__name__)

Waiter = Callable[[LedgerFull | None], None]


class Syncer:
    """Call `start` once and `close` once; `interval_ms` None never syncs: then the kernel decides."""

    def __init__(self, journal: Journal, interval_ms: float | None) -> None:
        self._journal = journal
        self.interval_ms = interval_ms
        self._interval_s = None if interval_ms is None else interval_ms / 1000
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._thread = threading.Thread(target=self._run, name="ledger-syncer", daemon=True)
        self._failing = False
        self.syncs = 0
        self.errors = 0

    def start(self) -> None:
        if self._interval_s is not None:
            self._thread.start()

    async def durable(self) -> None:
        """Return once every row recorded before the call is on the disk; at once where rows are synced by interval.

        Raises LedgerFull when the disk fails: what was to follow the row must not happen.
        """
        if self._interval_s != 0:
            return
        loop = asyncio.get_running_loop()
        synced: asyncio.Future[None] = loop.create_future()

        def tell(error: LedgerFull | None) -> None:
            if synced.done():  # whoever waited has gone
                return
            if error is None:
                synced.set_result(None)
            else:
                synced.set_exception(error)

        with self._lock:
            self._waiters.append(lambda error: _call(loop, tell, error))
        self._journal.touched.set()
        await synced

    def close(self) -> None:
        """Sync what there is, and stop."""
        self._stopping.set()
        self._journal.touched.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._sync()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._journal.touched.wait()
            if self._interval_s:
                self._stopping.wait(self._interval_s)
            self._sync()

    def _sync(self) -> None:
        self._journal.touched.clear()
        with self._lock:
            waiters, self._waiters = self._waiters, []
        error: LedgerFull | None = None
        try:
            self._journal.sync()
            self.syncs += 1
            self._failing = False
        except OSError as failure:
            self.errors += 1
            if not self._failing:  # once, not ten times a second
                logger.error("the journal could not be synced to its disk: %s", failure.strerror or failure)
            self._failing = True
            error = LedgerFull(f"the journal cannot be written: {failure.strerror or failure}")
        for tell in waiters:
            tell(error)


def _call(loop: asyncio.AbstractEventLoop, tell: Callable[[LedgerFull | None], None], error: LedgerFull | None) -> None:
    try:
        loop.call_soon_threadsafe(tell, error)
    except RuntimeError:
        """The loop is closed: nobody waits any more."""
