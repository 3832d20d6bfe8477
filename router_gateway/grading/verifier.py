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
_THREADS = 2
_WORDS = {True: "passed", False: "failed", None: "undecided"}


class Verifier:
    """`record` writes the feedback down; it is called in a thread. A full queue drops answers and counts them."""

    def __init__(self, record: Callable[[Feedback], None], *, waiting_max: int = _WAITING_MAX) -> None:
        self._record = record
        self._room = threading.BoundedSemaphore(waiting_max)
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="verifier")
        self._waiting: set[Future[str]] = set()
        self._counts: Counter[tuple[str, ...]] = Counter()

    def submit(self, query_id: UUID, tenant: str, checks: Sequence[Check], said: Said) -> bool:
        """Check the answer soon; False when too many are waiting already."""
        if not self._room.acquire(blocking=False):
            self._counts[("dropped",)] += 1
            return False
        work = self._threads.submit(self._verify, query_id, tenant, checks, said)
        self._waiting.add(work)
        work.add_done_callback(partial(self._verified, query_id))
        return True

    def counts(self) -> Mapping[tuple[str, ...], float]:
        """Answers by what became of them: passed, partly, failed, undecided, dropped, error."""
        return dict(self._counts)

    def drain(self) -> None:
        """Wait until everything submitted by now is checked."""
        wait(set(self._waiting))

    def close(self) -> None:
        """Check what is waiting, and stop."""
        self._threads.shutdown(wait=True)

    def _verify(self, query_id: UUID, tenant: str, checks: Sequence[Check], said: Said) -> str:
        text = said()
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

    def _verified(self, query_id: UUID, work: Future[str]) -> None:
        self._waiting.discard(work)
        self._room.release()
        error = work.exception()
        if error is None:
            self._counts[(work.result(),)] += 1
            return
        self._counts[("error",)] += 1  # its message may quote the answer
        log.error("%s is not verified: %s", query_id, error.code if isinstance(error, GatewayError) else type(error))


def feedback_id(query_id: UUID) -> UUID:
    """Under which the result will stand, known before there is one."""
    return named_uuid("verifier", str(query_id))
