"""The terms of a text, words and pairs of words, as hashed counts; those of texts learned from are remembered."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from threading import Lock
from zlib import crc32

import numpy as np

from router_gateway.core.types import Ints

BUCKETS = 2**16
_CHARACTERS_MAX = 8_000  # of a longer text the first and the last half of this many are read
_WORD = re.compile(r"\w+|[^\w\s]")
_PAIR = np.uint64(0x9E3779B97F4A7C15)  # an odd number whose bits look random (Knuth's multiplicative hashing)
_WORDS_REMEMBERED_MAX = 16_384  # checksums of common words: with the next bound, a few megabytes
_CHARACTERS_REMEMBERED_MAX = 32
_TERMS_REMEMBERED_MAX = 6_000_000  # of all texts together, 4 bytes each

Terms = tuple[Ints, Ints]
"""Buckets, ascending, and how often each occurs."""


def terms_of(text: str) -> Terms:
    """Of the words and pairs of neighbouring words of a text."""
    if len(text) > _CHARACTERS_MAX:
        text = f"{text[: _CHARACTERS_MAX // 2]} {text[-_CHARACTERS_MAX // 2 :]}"
    words = _WORD.findall(text.lower())
    if not words:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    sums = [_remembered(word) if len(word) <= _CHARACTERS_REMEMBERED_MAX else _checksum(word) for word in words]
    one = np.array(sums, dtype=np.uint64)
    two = (one[:-1] * _PAIR) ^ one[1:]
    bucket = ((np.concatenate([one, two]) * _PAIR) >> np.uint64(48)).astype(np.int64)
    bucket.sort()
    edge = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1], [True]]))
    return bucket[edge[:-1]], edge[1:] - edge[:-1]


class TermMemory:
    """Terms of the texts last read, at most `terms_max` in all: fits of many policies on one history read it once.

    A text is known by its digest; none is kept. Threads may share it.
    """

    def __init__(self, terms_max: int = _TERMS_REMEMBERED_MAX) -> None:
        self._terms_max = terms_max
        self._kept: OrderedDict[bytes, Terms] = OrderedDict()
        self._size = 0
        self._looked: tuple[bytes, Terms] | None = None
        self._lock = Lock()

    def __len__(self) -> int:
        """Terms kept."""
        return self._size

    def read(self, texts: Sequence[str]) -> list[Terms]:
        """`terms_of` each, kept for the next time."""
        return [self._read(text) for text in texts]

    def look(self, text: str) -> Terms:
        """`terms_of` one text, kept until the next: several policies score one request, then it is not seen again."""
        digest = _digest(text)
        if (kept := self._kept.get(digest)) is not None:
            return kept
        if (looked := self._looked) is None or looked[0] != digest:
            looked = self._looked = (digest, terms_of(text))
        return looked[1]

    def _read(self, text: str) -> Terms:
        digest = _digest(text)
        with self._lock:
            if (kept := self._kept.get(digest)) is not None:
                self._kept.move_to_end(digest)
                return kept
        bucket, count = terms_of(text)
        small = bucket.astype(np.uint16), count.astype(np.uint16)  # counts are below _CHARACTERS_MAX
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = small
                self._size += len(bucket)
            while self._size > self._terms_max:
                self._size -= len(self._kept.popitem(last=False)[1][0])
        return small


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _checksum(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass"))


_remembered = lru_cache(maxsize=_WORDS_REMEMBERED_MAX)(_checksum)
