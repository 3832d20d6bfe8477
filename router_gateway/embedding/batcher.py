"""Concurrent requests share the encoder: their texts are embedded together, in one worker thread.

An idle encoder is used at once. While it works, arrivals collect; they form the next batch. So batches
grow with load by themselves and a lone request never waits for company. An encoder that has proved quick
(core/pace.py) is run on the spot instead: handing over would cost more than the work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from router_gateway.core.errors import GatewayError
from router_gateway.core.pace import Pace
from router_gateway.core.protocols import Embedder
from router_gateway.core.types import Floats
from router_gateway.embedding.cache import CachingEmbedder


class EmbedderOverloaded(GatewayError):
    """More texts wait for the encoder than `queue_max`; the caller routes without a vector."""

    code = "embedder_overloaded"
    status = 503


class EmbedderClosed(GatewayError):
    """The batcher was closed before the text was embedded."""

    code = "embedder_closed"
    status = 503


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiter:
    text: str
    arrived_s: float  # on the loop's clock
    vector: asyncio.Future[Floats]


class Batcher:
    """`embed_one` for many tasks of one event loop; at most one `embedder.embed` runs at a time.

    batch_max : distinct texts per call of the embedder
    wait_ms_max : after a busy spell, a batch that is not full yet may be held until its oldest text has
        waited this long; worth something only where a larger batch is cheaper per text (a GPU)
    queue_max : texts that may wait; one more raises EmbedderOverloaded
    """

    def __init__(
        self, embedder: Embedder, *, batch_max: int = 8, wait_ms_max: float = 0.0, queue_max: int = 256
    ) -> None:
        if batch_max < 1 or queue_max < 1 or wait_ms_max < 0:
            raise ValueError("batch_max and queue_max must be positive, wait_ms_max not negative")
        self._embedder = embedder
        self._batch_max = batch_max
        self._wait_s_max = wait_ms_max / 1000.0
        self._queue_max = queue_max
        self._queue: deque[_Waiter] = deque()
        self._running: asyncio.Future[list[Floats]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._pace = Pace()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")

    @property
    def queue_depth(self) -> int:
        """Texts waiting now, those being embedded not counted."""
        return len(self._queue)

    @property
    def at_once(self) -> bool:
        """Whether `embed_one` would not wait for anything."""
        return self._pace.quick and self._running is None and not self._queue

    async def embed_one(self, text: str) -> Floats:
        """float32 (d,). Raises EmbedderOverloaded, EmbedderClosed, or what the embedder raised."""
        if self._closed:
            raise EmbedderClosed("the embedder is closed")
        if isinstance(self._embedder, CachingEmbedder):
            known = self._embedder.known(text)  # a repeat does not queue behind a running batch
            if known is not None:
                return known
        if self.at_once:
            return self._embed([text])[0].copy()
        if len(self._queue) >= self._queue_max:
            self._drop_cancelled()
        if len(self._queue) >= self._queue_max:
            raise EmbedderOverloaded(f"{len(self._queue)} texts already wait for the embedder")
        loop = asyncio.get_running_loop()
        waiter = _Waiter(text=text, arrived_s=loop.time(), vector=loop.create_future())
        self._queue.append(waiter)
        if self._running is None and (self._timer is None or len(self._queue) >= self._batch_max):
            self._start()
        return await waiter.vector

    async def aclose(self) -> None:
        """Fail those who wait, let the running batch finish, end the thread; idempotent."""
        self._closed = True
        self._stop_timer()
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.vector.done():
                waiter.vector.set_exception(EmbedderClosed("the embedder is closed"))
        if self._running is not None:
            await asyncio.wait([self._running])
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        """Give the idle encoder its next batch, if anybody still waits."""
        self._stop_timer()
        batch: dict[str, list[_Waiter]] = {}
        self._drop_cancelled()  # whoever gave up costs nothing
        while self._queue and (len(batch) < self._batch_max or self._queue[0].text in batch):
            waiter = self._queue.popleft()
            batch.setdefault(waiter.text, []).append(waiter)
        if batch:
            loop = asyncio.get_running_loop()
            self._running = loop.run_in_executor(self._thread, self._embed, list(batch))
            self._running.add_done_callback(partial(self._deliver, list(batch.values())))

    def _embed(self, texts: list[str]) -> list[Floats]:
        vectors = self._pace.run(lambda: self._embedder.embed(texts), units=len(texts))
        if len(vectors) != len(texts):
            raise ValueError(f"the embedder returned {len(vectors)} vectors for {len(texts)} texts")
        return list(vectors)

    def _deliver(self, batch: list[list[_Waiter]], finished: asyncio.Future[list[Floats]]) -> None:
        self._running = None
        error = finished.exception()
        for position, waiters in enumerate(batch):
            for waiter in waiters:
                if waiter.vector.done():  # cancelled while the batch ran
                    continue
                if error is not None:
                    waiter.vector.set_exception(error)
                else:
                    waiter.vector.set_result(finished.result()[position].copy())
        self._start_or_hold()

    def _start_or_hold(self) -> None:
        self._drop_cancelled()
        if not self._queue:
            return
        loop = asyncio.get_running_loop()
        hold_s = self._queue[0].arrived_s + self._wait_s_max - loop.time()
        if len(self._queue) >= self._batch_max or hold_s <= 0:
            self._start()
        else:
            self._timer = loop.call_later(hold_s, self._start)

    def _drop_cancelled(self) -> None:
        if any(waiter.vector.done() for waiter in self._queue):
            self._queue = deque(waiter for waiter in self._queue if not waiter.vector.done())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
