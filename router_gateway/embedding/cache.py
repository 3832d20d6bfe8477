"""Repeats are answered from memory: a bounded LRU of vectors in front of any embedder."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from router_gateway.core.protocols import Embedder
from router_gateway.core.types import Floats
from router_gateway.embedding.canonical import clean


class CachingEmbedder:
    """`embedder` with the vectors of its `entries_max` most recently used texts; safe across threads.

    Keys are digests, so no prompt text is held. One embedder has one space: vectors of two never mix.
    An entry of d components takes about 4 d + 200 bytes.
    """

    def __init__(self, embedder: Embedder, entries_max: int) -> None:
        if entries_max < 1:
            raise ValueError("entries_max must be positive")
        self._embedder = embedder
        self._entries_max = entries_max
        self._vectors: OrderedDict[bytes, Floats] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = 0
        self._misses = 0

    @property
    def space(self) -> str:
        return self._embedder.space

    @property
    def width(self) -> int:
        return self._embedder.width

    @property
    def hits(self) -> int:
        """Texts answered from memory so far."""
        return self._hits

    @property
    def misses(self) -> int:
        """Texts that had to be embedded so far."""
        return self._misses

    def __len__(self) -> int:
        return len(self._vectors)

    def known(self, text: str) -> Floats | None:
        """The text's vector, float32 (d,), if it is in memory; counted as a hit, never as a miss."""
        return self._look_up(_digest(text))

    def embed(self, texts: Sequence[str]) -> Floats:
        """float32 (Q, d); texts not in memory are embedded in one call, each of them once."""
        keys = [_digest(text) for text in texts]
        found: dict[bytes, Floats] = {}
        missing: dict[bytes, str] = {}
        for key, text in zip(keys, texts, strict=True):
            vector = self._look_up(key)
            if vector is not None:
                found[key] = vector
            else:
                missing[key] = text
        if missing:
            fresh = self._embedder.embed(list(missing.values()))
            found.update(zip(missing, (row.copy() for row in fresh), strict=True))
            self._remember({key: found[key] for key in missing})
        if not keys:
            return np.zeros((0, self.width), dtype=np.float32)
        return found[keys[0]][None].copy() if len(keys) == 1 else np.stack([found[key] for key in keys])

    def _look_up(self, key: bytes) -> Floats | None:
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
                self._hits += 1
            return vector

    def _remember(self, fresh: dict[bytes, Floats]) -> None:
        with self._lock:
            self._misses += len(fresh)
            for key, vector in fresh.items():
                vector.flags.writeable = False  # `known` hands it out uncopied
                self._vectors[key] = vector
                self._vectors.move_to_end(key)
            while len(self._vectors) > self._entries_max:
                self._vectors.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(clean(text).encode(), digest_size=16).digest()
