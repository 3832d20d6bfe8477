"""Embeds many texts once: what the disk knows is read, the rest is shared among processes of one thread each.

Small encoders gain little from a second thread, so two processes beat two threads. The vectors are those of the
embedder that serves, and every finished chunk is on disk before the next is waited for: a run that is killed
goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from router_gateway.core.errors import ConfigError
from router_gateway.core.protocols import Embedder
from router_gateway.core.types import Floats
from router_gateway.embedding.cache import CachingEmbedder
from router_gateway.evaluation.vectors import BYTES_MAX, VectorStore, text_key

Advance = Callable[[int, int], None]
"""Called with (done, total)."""

_CHUNK_TEXTS = 32
_ALONE_TEXTS = 200  # fewer are embedded here: a worker takes longer to start than they take
_KEPT_TEXTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Which embedder to build, in words that can be sent to another process."""

    kind: Literal["static", "onnx", "onnx-int8", "sentence", "hashing"] = "static"
    model: str = "all-MiniLM-L6-v2"

    @classmethod
    def named(cls, kind: str) -> Encoder:
        """The encoder of that kind with its default model. Raises ConfigError for a kind there is not."""
        match kind:
            case "static" | "onnx" | "onnx-int8" | "sentence" | "hashing":
                return cls(kind=kind)
            case _:
                raise ConfigError([f"--embedder {kind}: there are static, onnx, onnx-int8, sentence and hashing"])

    def build(self) -> Embedder:
        """The embedder, on one thread."""
        if self.kind == "static":
            from router_gateway.embedding.static import StaticEmbedder

            return StaticEmbedder()
        if self.kind == "hashing":
            from router_gateway.embedding.hashing import HashingEmbedder

            return HashingEmbedder()
        if self.kind in ("onnx", "onnx-int8"):
            from router_gateway.embedding.onnx import OnnxEmbedder

            return OnnxEmbedder(self.model, threads=1, int8=self.kind == "onnx-int8")
        from router_gateway.embedding.sentence import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder(self.model, threads=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors of texts: float32 (Q, d) in `space`; `fresh` of them were not on disk."""

    embedding: Floats
    space: str
    fresh: int


def default_cache() -> Path:
    """The user's cache folder: $XDG_CACHE_HOME or ~/.cache, then router-gateway/vectors."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "router-gateway" / "vectors"


def embed_cached(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    folder: Path,
    workers: int = 1,
    bytes_max: int = BYTES_MAX,
    advance: Advance | None = None,
) -> Embedded:
    """Vectors of `texts`, from `folder` where it has them.

    workers : processes that embed what is missing; 1 embeds in this process
    bytes_max : bound on the file of this space, see `VectorStore`
    advance : called with (texts done, texts in all), texts found on disk counted as done
    """
    embedder = _built(encoder)
    store = VectorStore(folder, embedder.space, embedder.width, bytes_max=bytes_max)
    wanted = {text_key(text): text for text in texts}
    found = store.find(list(wanted))
    # the longest first: the last chunks are then short and the workers finish together
    missing = sorted((key for key in wanted if key not in found), key=lambda key: (-len(wanted[key]), key))
    done = len(found)
    tell = advance or (lambda _done, _total: None)
    tell(done, len(wanted))
    for keys, vectors in _chunks(encoder, [(key, wanted[key]) for key in missing], workers):
        store.append(keys, vectors)
        found.update(zip(keys, vectors, strict=True))
        done += len(keys)
        tell(done, len(wanted))
    rows = [found[text_key(text)] for text in texts]
    embedding = np.stack(rows) if rows else np.zeros((0, embedder.width), dtype=np.float32)
    return Embedded(embedding=embedding, space=embedder.space, fresh=len(missing))


@lru_cache(maxsize=2)
def repeating(encoder: Encoder) -> Embedder:
    """For few texts that are asked for again and again, as a policy's own are before every fit."""
    return CachingEmbedder(_built(encoder), _KEPT_TEXTS)


def _chunks(
    encoder: Encoder, missing: list[tuple[bytes, str]], workers: int
) -> Iterator[tuple[tuple[bytes, ...], Floats]]:
    """(keys, vectors) as they are finished."""
    parts = [missing[start : start + _CHUNK_TEXTS] for start in range(0, len(missing), _CHUNK_TEXTS)]
    if workers <= 1 or len(missing) < _ALONE_TEXTS:
        for part in parts:
            yield _embed(encoder, part)
        return
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", pre_dispatch="3*n_jobs")
    yield from pool(delayed(_embed)(encoder, part) for part in parts)


def _embed(encoder: Encoder, part: list[tuple[bytes, str]]) -> tuple[tuple[bytes, ...], Floats]:
    keys, texts = zip(*part, strict=True)
    return keys, _built(encoder).embed(texts)


@lru_cache(maxsize=2)
def _built(encoder: Encoder) -> Embedder:
    """One embedder per process and encoder: loading the weights takes seconds."""
    return encoder.build()
