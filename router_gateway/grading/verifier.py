"""Runs the checks that a request asked for on its answer, once that is whole and beside the request."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from router_gateway.core.checks import Check
from router_gateway.core.errors import GatewayError
from router_gateway.core.ids import named_uuid
from router_gateway.core.types import Feedback
from router_gateway.grading.heard import Said

log = logging.getLogger(__name__)

_WAITING_MAX = 1_000
_WAITING_BYTES_MAX = 256 * 1024 * 1024
_THREADS = 2
_CLOSE_S = 5.0
_WORDS = {True: "passed", False: "failed", None: "undecided"}


class Verifier:
    """`record` writes the feedback down; it is called in a thread. A full queue drops answers and counts them."""

    def __init__(self, record: Callable[[Feedback], None], *, waiting_max: int = _WAITING_MAX) -> None:
        self._record = record
        self._room = threading.BoundedSemaphore(waiting_max)
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="verifier")
        self._waiting: set[Future[str]] = set()
        self._lock = threading.Lock()
        self._bytes_waiting = 0
        self._counts: Counter[tuple[str, ...]] = Counter()

    def submit(self, query_id: UUID, tenant: str, checks: Sequence[Check], said: Said) -> bool:
        """Check the answer soon; False when too many are waiting already."""
        crowded = self._bytes_waiting + said.bytes_held > _WAITING_BYTES_MAX
        if crowded or not self._room.acquire(blocking=False):
            self._counts[("dropped",)] += 1
            return False
        with self._lock:
            self._bytes_waiting += said.bytes_held
        work = self._threads.submit(self._verify, query_id, tenant, checks, said)
        self._waiting.add(work)
        work.add_done_callback(partial(self._verified, query_id, said.bytes_held))
        return True

    def counts(self) -> Mapping[tuple[str, ...], float]:
        """Answers by what became of them: passed, partly, failed, undecided, dropped, error."""
        return dict(self._counts)

    def drain(self) -> None:
        """Wait until everything submitted by now is checked."""
        wait(set(self._waiting))

    def close(self) -> None:
        """Check what is waiting, as far as that is quick, and stop."""
        wait(set(self._waiting), timeout=_CLOSE_S)
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _verify(self, query_id: UUID, tenant: str, checks: Sequence[Check], said: Said) -> str:
        text = said.text()
        results = [None if text is None else check.passes(text) for check in checks]
        decided = [result for result in results if result is not None]
        if not decided:
            return "undecided"
        told = "; ".join(f"{check.kind} {_WORDS[result]}" for check, result in zip(checks, results, strict=True))
        quality = sum(decided) / len(decided)
        self._record(
            Feedback(
                id=feedback_id(query_id),
                query_id=query_id,
                at=datetime.now(UTC),
                quality=quality,
                source="verifier",
                tenant=tenant,
                comment=told,
            )
        )
        return {1.0: "passed", 0.0: "failed"}.get(quality, "partly")

    def _verified(self, query_id: UUID, size: int, work: Future[str]) -> None:
        self._waiting.discard(work)
        self._room.release()
        with self._lock:
            self._bytes_waiting -= size
        if work.cancelled():  # the gateway stops
            self._counts[("dropped",)] += 1
            return
        error = work.exception()
        if error is None:
            self._counts[(work.result(),)] += 1
            return
        self._counts[("error",)] += 1  # its message may quote the answer
        log.error("%s is not verified: %s", query_id, error.code if isinstance(error, GatewayError) else type(error))


def feedback_id(query_id: UUID) -> UUID:
    """Under which the result will stand, known before there is one."""
    return named_uuid("verifier", str(query_id))
