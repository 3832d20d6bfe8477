"""Candidates in shadow: they decide live requests once more, in a thread of their own, and serve nothing."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from router_gateway.core.errors import GatewayError
from router_gateway.core.types import Decision, Floats, Query
from router_gateway.ledger.shadows import ShadowRow, Shadows
from router_gateway.routing.router import Router

log = logging.getLogger(__name__)

_QUEUE_MAX = 1_000
_BATCH_MAX = 200
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A live decision, and all that a router needs to decide it once more."""

    routers: Sequence[Router]
    query: Query
    vector: Floats
    earlier: Floats | None
    decision: Decision


class Shadowing:
    """`offer` costs a request one look into a dictionary where nothing is in shadow, else a place in a queue.

    When the queue is full the request is passed over (`dropped`): shadows may lag, requests may not.
    """

    def __init__(self, shadows: Shadows, *, rows_max: int) -> None:
        self._shadows = shadows
        self._rows_max = rows_max
        self._routers: Mapping[str, Sequence[Router]] = {}
        self._counts: dict[str, int] = {}
        self._queue: queue.Queue[Seen | None] = queue.Queue(_QUEUE_MAX)
        self.dropped = 0

    def watch(self, routers: Mapping[str, Sequence[Router]]) -> None:
        """The routers of the candidates in shadow, by the policy that they would replace."""
        self._routers = routers

    def offer(self, policy: str, query: Query, vector: Floats, earlier: Floats | None, decision: Decision) -> None:
        """Have the candidates of `policy` decide this query as well, some time soon."""
        routers = self._routers.get(policy)
        if not routers or decision.policy == "none" or query.preferences.win_threshold is not None:
            return
        seen = Seen(routers=routers, query=query, vector=vector, earlier=earlier, decision=decision)
        try:
            self._queue.put_nowait(seen)
        except queue.Full:
            self.dropped += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Decide in a thread for as long as the context lasts."""
        thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        thread.start()
        try:
            yield
        finally:
            try:
                self._queue.put(None, timeout=_JOIN_S)
            except queue.Full:
                log.warning("the shadow is behind and is left there")
            thread.join(_JOIN_S)

    def drain(self) -> int:
        """Decide and write what waits, here and now; the number of rows."""
        waiting: list[Seen | None] = []
        while len(waiting) < _BATCH_MAX:
            try:
                waiting.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return self._work([seen for seen in waiting if seen is not None])

    def _run(self) -> None:
        while (seen := self._queue.get()) is not None:
            batch, ended = [seen], False
            while len(batch) < _BATCH_MAX and not ended:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                ended = more is None
                batch += [] if more is None else [more]
            try:
                self._work(batch)
            except GatewayError as error:
                log.warning("%d shadow decisions are lost: %s", len(batch), error.code)
            except Exception as error:  # a bug: the thread goes on
                log.error("a shadow failed: %s", type(error).__name__)
            if ended:
                return

    def _work(self, batch: Sequence[Seen]) -> int:
        rows = [row for seen in batch for router in seen.routers if (row := self._decide(seen, router)) is not None]
        if rows:
            self._shadows.add(rows)
        return len(rows)

    def _decide(self, seen: Seen, router: Router) -> ShadowRow | None:
        """None once the candidate has all the rows it may have."""
        candidate = router.candidate or ""
        if candidate not in self._counts:
            self._counts[candidate] = self._shadows.count(candidate)
        if self._counts[candidate] >= self._rows_max:
            return None
        self._counts[candidate] += 1
        live, started = seen.decision, time.perf_counter()
        own, error = None, None
        try:
            own = router.route([seen.query], seen.vector[None, :], seen.earlier)[0]
        except Exception as failure:  # it may be anybody's code, and nobody waits for it
            error = failure.code if isinstance(failure, GatewayError) else type(failure).__name__
        latency_ms = (time.perf_counter() - started) * 1e3
        return ShadowRow(
            candidate=candidate,
            query_id=live.query_id,
            at=datetime.now(UTC),
            policy="none" if own is None else own.policy,
            endpoint=None if own is None else own.endpoint,
            propensity=None if own is None else own.propensity,
            quality=None if own is None else _of(own, own.quality, own.endpoint),
            cost_usd=None if own is None else _of(own, own.cost_usd, own.endpoint),
            probability_of_served=None if own is None else _of(own, own.probability, live.endpoint),
            served=live.endpoint,
            served_quality=_of(live, live.quality, live.endpoint),
            served_cost_usd=_of(live, live.cost_usd, live.endpoint),
            latency_ms=latency_ms,
            error=error,
        )


def _of(decision: Decision, values: Sequence[float], endpoint: str) -> float | None:
    """The endpoint's value, None where it was not scored."""
    return values[decision.endpoints.index(endpoint)] if values and endpoint in decision.endpoints else None
