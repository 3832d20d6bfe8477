"""An embedder without a model: deterministic feature hashing, for tests and for running without weights.

Signed hashing keeps inner products unbiased in spite of collisions (Weinberger et al., "Feature hashing
for large scale multitask learning", ICML 2009). It knows spelling, not meaning.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.embedding.canonical import clean, through_float16

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HashingEmbedder:
    """Words, pairs of words and character trigrams, hashed into `width` signed buckets.

    Only the last `chars_max` characters are read, so that the cost of one text has a bound.
    """

    width: int = 256
    chars_max: int = 8192
    space: str = field(init=False)

    def __post_init__(self) -> None:
        if self.width < 1 or self.chars_max < 1:
            raise ValueError("width and chars_max must be positive")
        object.__setattr__(self, "space", f"hashing/words2-chars3/{self.width}/{self.chars_max}/f16")

    def embed(self, texts: Sequence[str]) -> Floats:
        """float32 (Q, width), rows of unit length within float16 precision."""
        vectors = np.zeros((len(texts), self.width), dtype=np.float64)
        for row, text in zip(vectors, texts, strict=True):
            for feature, count in Counter(_features(clean(text[-self.chars_max :]))).items():
                bucket, sign = self._bucket(feature)
                row[bucket] += sign * (1.0 + np.log(count))  # a repeated word says less each time
            length = float(np.linalg.norm(row))
            if length == 0.0:  # no features, or all of them cancelled
                row[self._bucket("")[0]] = length = 1.0
            row /= length
        return through_float16(vectors)

    def _bucket(self, feature: str) -> tuple[int, float]:
        digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big")
        return (number >> 1) % self.width, 1.0 if number & 1 else -1.0


def _features(text: str) -> Iterator[str]:
    words = _WORD.findall(text.casefold())
    for word in words:
        yield f"w {word}"
    for first, second in itertools.pairwise(words):
        yield f"b {first} {second}"
    line = " ".join(words)
    for start in range(len(line) - 2):
        yield f"c {line[start : start + 3]}"
