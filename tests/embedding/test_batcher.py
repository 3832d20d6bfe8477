import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from router_gateway.core.types import Floats
from router_gateway.embedding.batcher import Batcher, EmbedderClosed, EmbedderOverloaded
from router_gateway.embedding.cache import CachingEmbedder
from router_gateway.embedding.hashing import HashingEmbedder


class Gated:
    """A real embedder behind a gate, so that a test decides how long a call takes."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.inner = HashingEmbedder(width=32)
        self.space, self.width = self.inner.space, self.inner.width
        self.calls: list[list[str]] = []
        self.threads: set[int] = set()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def embed(self, texts: Sequence[str]) -> Floats:
        self.calls.append(list(texts))
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(30)
        if "bad" in texts:
            raise RuntimeError("the encoder broke")
        return self.inner.embed(texts)

    async def busy(self) -> None:
        """Return once a call is inside."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


async def _queued(batcher: Batcher, depth: int) -> None:
    async with asyncio.timeout(30):
        while batcher.queue_depth != depth:
            await asyncio.sleep(0)


async def test_an_idle_encoder_is_used_at_once():
    embedder = Gated(is_open=True)
    batcher = Batcher(embedder, wait_ms_max=60_000)  # a wait would run into the timeout below
    async with asyncio.timeout(30):
        vector = await batcher.embed_one("hello")
    assert np.array_equal(vector, embedder.inner.embed(["hello"])[0])
    await batcher.aclose()


async def test_arrivals_during_a_call_share_the_next():
    embedder = Gated()
    batcher = Batcher(embedder, batch_max=3)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(batcher.embed_one("first"))
        await embedder.busy()
        rest = [group.create_task(batcher.embed_one(text)) for text in ("a", "b", "a", "c", "d")]
        await _queued(batcher, 5)
        embedder.gate.set()
    assert embedder.calls == [["first"], ["a", "b", "c"], ["d"]]
    assert len(embedder.threads) == 1
    assert threading.get_ident() not in embedder.threads
    expected = embedder.inner.embed(["first", "a", "b", "a", "c", "d"])
    assert np.array_equal(np.stack([task.result() for task in [first, *rest]]), expected)
    await batcher.aclose()


async def test_duplicates_do_not_share_memory():
    embedder = Gated()
    batcher = Batcher(embedder)
    async with asyncio.TaskGroup() as group:
        group.create_task(batcher.embed_one("first"))
        await embedder.busy()
        one, two = (group.create_task(batcher.embed_one("same")) for _ in range(2))
        await _queued(batcher, 2)
        embedder.gate.set()
    one.result()[:] = 0.0
    assert np.array_equal(two.result(), embedder.inner.embed(["same"])[0])
    await batcher.aclose()


async def test_after_a_busy_spell_a_full_batch_ends_the_wait():
    embedder = Gated()
    batcher = Batcher(embedder, batch_max=2, wait_ms_max=600_000)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(batcher.embed_one("first"))
        await embedder.busy()
        group.create_task(batcher.embed_one("a"))
        await _queued(batcher, 1)
        embedder.gate.set()
        await first
        assert batcher.queue_depth == 1  # held: not full, and not waiting for long
        group.create_task(batcher.embed_one("b"))
    assert embedder.calls == [["first"], ["a", "b"]]
    await batcher.aclose()


async def test_a_held_batch_goes_when_its_time_is_up():
    embedder = Gated()
    batcher = Batcher(embedder, batch_max=8, wait_ms_max=20)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(batcher.embed_one("first"))
        await embedder.busy()
        group.create_task(batcher.embed_one("a"))
        await _queued(batcher, 1)
        embedder.gate.set()
    assert embedder.calls == [["first"], ["a"]]
    await batcher.aclose()


async def test_a_full_queue_refuses():
    embedder = Gated()
    batcher = Batcher(embedder, queue_max=2)
    async with asyncio.TaskGroup() as group:
        group.create_task(batcher.embed_one("first"))
        await embedder.busy()
        for text in "ab":
            group.create_task(batcher.embed_one(text))
        await _queued(batcher, 2)
        with pytest.raises(EmbedderOverloaded, match="2 texts"):
            await batcher.embed_one("c")
        embedder.gate.set()
    await batcher.aclose()


async def test_whoever_gives_up_frees_a_place_and_harms_nobody():
    embedder = Gated()
    batcher = Batcher(embedder, queue_max=2)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(batcher.embed_one("first"))
        await embedder.busy()
        impatient, patient = (group.create_task(batcher.embed_one(text)) for text in ("a", "b"))
        await _queued(batcher, 2)
        running.cancel()
        impatient.cancel()
        await asyncio.sleep(0)
        late = group.create_task(batcher.embed_one("c"))
        await asyncio.sleep(0)
        embedder.gate.set()
        assert np.array_equal(await patient, embedder.inner.embed(["b"])[0])
        assert np.array_equal(await late, embedder.inner.embed(["c"])[0])
    assert embedder.calls == [["first"], ["b", "c"]]
    assert running.cancelled()
    assert impatient.cancelled()
    await batcher.aclose()


async def test_an_error_reaches_its_batch_only():
    embedder = Gated()
    batcher = Batcher(embedder, batch_max=2)
    first = asyncio.ensure_future(batcher.embed_one("first"))
    await embedder.busy()
    others = [asyncio.ensure_future(batcher.embed_one(text)) for text in ("bad", "a", "b")]
    await _queued(batcher, 3)
    embedder.gate.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [isinstance(result, RuntimeError) for result in results] == [False, True, True, False]
    assert (await batcher.embed_one("again")).shape == (32,)
    await batcher.aclose()


async def test_a_missing_vector_is_an_error():
    class Short(Gated):
        def embed(self, texts: Sequence[str]) -> Floats:
            return super().embed(texts)[:0]

    batcher = Batcher(Short(is_open=True))
    with pytest.raises(ValueError, match="0 vectors for 1 texts"):
        await batcher.embed_one("a")
    await batcher.aclose()


async def test_a_remembered_text_does_not_queue():
    embedder = Gated(is_open=True)
    cache = CachingEmbedder(embedder, 8)
    batcher = Batcher(cache)
    known = await batcher.embed_one("known")
    embedder.gate.clear()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        embedder.entered = threading.Semaphore(0)
        group.create_task(batcher.embed_one("slow"))
        await embedder.busy()
        assert np.array_equal(await batcher.embed_one("known"), known)
        embedder.gate.set()
    assert (cache.hits, cache.misses) == (1, 2)
    await batcher.aclose()


async def test_closing_fails_those_who_wait_and_finishes_the_running():
    embedder = Gated()
    batcher = Batcher(embedder)
    running = asyncio.ensure_future(batcher.embed_one("first"))
    await embedder.busy()
    waiting = asyncio.ensure_future(batcher.embed_one("a"))
    await _queued(batcher, 1)
    closing = asyncio.ensure_future(batcher.aclose())
    with pytest.raises(EmbedderClosed):
        await waiting
    embedder.gate.set()
    await closing
    assert (await running).shape == (32,)
    with pytest.raises(EmbedderClosed):
        await batcher.embed_one("late")
    await batcher.aclose()


async def test_many_tasks_get_their_own_vectors():
    embedder = Gated(is_open=True)
    batcher = Batcher(embedder, batch_max=16, queue_max=300)
    texts = [f"text {i % 70}" for i in range(200)]
    vectors = await asyncio.gather(*(batcher.embed_one(text) for text in texts))
    assert np.array_equal(np.stack(vectors), embedder.inner.embed(texts))
    assert len(embedder.calls) < 20
    await batcher.aclose()


@pytest.mark.parametrize("settings", [{"batch_max": 0}, {"queue_max": 0}, {"wait_ms_max": -1}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="positive"):
        Batcher(HashingEmbedder(), **settings)
