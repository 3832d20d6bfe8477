import threading
from collections.abc import Sequence

import numpy as np
import pytest

from router_gateway.core.types import Floats
from router_gateway.embedding.cache import CachingEmbedder
from router_gateway.embedding.hashing import HashingEmbedder


class Recorded:
    """A real embedder that notes what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.inner = HashingEmbedder(width=32)
        self.space = self.inner.space
        self.width = self.inner.width

    def embed(self, texts: Sequence[str]) -> Floats:
        self.calls.append(list(texts))
        return self.inner.embed(texts)


def test_repeats_are_not_embedded_again():
    inner = Recorded()
    cache = CachingEmbedder(inner, 10)
    first = cache.embed(["a", "b", "a"])
    second = cache.embed(["b", "c"])
    assert inner.calls == [["a", "b"], ["c"]]
    assert (cache.hits, cache.misses) == (1, 3)
    assert np.array_equal(first, inner.inner.embed(["a", "b", "a"]))
    assert np.array_equal(second, inner.inner.embed(["b", "c"]))


def test_the_least_recently_used_entry_goes():
    inner = Recorded()
    cache = CachingEmbedder(inner, 2)
    for text in ("a", "b", "a", "c"):
        cache.embed([text])
    assert len(cache) == 2
    assert cache.known("a") is not None
    assert cache.known("b") is None


def test_more_texts_than_entries_still_answer():
    cache = CachingEmbedder(Recorded(), 1)
    texts = [str(i) for i in range(5)]
    assert np.array_equal(cache.embed(texts), HashingEmbedder(width=32).embed(texts))
    assert len(cache) == 1


def test_known_counts_hits_only_and_is_protected():
    cache = CachingEmbedder(Recorded(), 4)
    assert cache.known("a") is None
    cache.embed(["a"])
    vector = cache.known("a")
    assert vector is not None
    assert (cache.hits, cache.misses) == (1, 1)
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 9.0


def test_changing_a_result_leaves_the_memory_alone():
    cache = CachingEmbedder(Recorded(), 4)
    expected = cache.embed(["a"]).copy()
    cache.embed(["a"])[:] = 7.0
    assert np.array_equal(cache.embed(["a"]), expected)


def test_odd_texts_and_none():
    cache = CachingEmbedder(Recorded(), 4)
    assert cache.embed(["", "\x00", "\ud800"]).shape == (3, 32)
    assert cache.embed([]).shape == (0, 32)
    assert (cache.space, cache.width) == (HashingEmbedder(width=32).space, 32)


def test_threads_share_it():
    cache = CachingEmbedder(Recorded(), 8)
    expected = {text: HashingEmbedder(width=32).embed([text])[0] for text in "abcdefghijkl"}
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(t for t, v in expected.items() if not np.array_equal(cache.embed([t])[0], v))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cache) == 8


def test_a_cache_of_nothing_is_refused():
    with pytest.raises(ValueError, match="positive"):
        CachingEmbedder(Recorded(), 0)
