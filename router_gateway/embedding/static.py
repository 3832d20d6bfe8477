"""The default encoder: token vectors trained to point where all-MiniLM-L6-v2 points, and a sketch of the words.

A table from the package, no model to run and nothing to download: about a hundredth of the transformer's time.
`benchmarks/static_table.py` makes the table (docs/adr/0014).
"""

from __future__ import annotations

import hashlib
import math
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router_gateway.core.errors import ConfigError
from router_gateway.core.types import Floats, Ints
from router_gateway.embedding import sketch
from router_gateway.embedding.canonical import clean, through_float16
from router_gateway.embedding.wordpiece import WordPieces

TABLE = Path(__file__).parent / "assets" / "static.npz"
"""Made from all-MiniLM-L6-v2 (Apache-2.0)."""

CHARS_MAX = 8192
"""Of a text's tail, the characters that are read: bounds the cost of one text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One vector per word piece: `rows` int8 (V, d) times `scale` float32 (d,); `vocabulary` of V pieces.

    `digest` is of all three: two tables are two spaces.
    """

    rows: NDArray[np.int8]
    scale: Floats
    vocabulary: tuple[str, ...]
    digest: str

    @classmethod
    def read(cls, path: Path) -> Table:
        """Raises ConfigError for a file that is not such a table."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                rows, scale, joined = file["rows"], file["scale"], file["vocabulary"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError([f"embedder: {path} is not a table of tokens: {type(error).__name__}"]) from error
        vocabulary = tuple(joined.tobytes().decode().split("\n"))
        if rows.dtype != np.int8 or rows.ndim != 2 or scale.shape != rows.shape[1:] or len(vocabulary) != len(rows):
            raise ConfigError([f"embedder: {path} is not a table of tokens: shapes do not fit"])
        digest = hashlib.blake2b(digest_size=4)
        for part in (rows, scale, joined):
            digest.update(np.ascontiguousarray(part).tobytes())
        return cls(rows=rows, scale=scale.astype(np.float32), vocabulary=vocabulary, digest=digest.hexdigest())

    def write(self, path: Path) -> None:
        """The file that `read` reads."""
        joined = np.frombuffer("\n".join(self.vocabulary).encode(), dtype=np.uint8)
        np.savez_compressed(path, rows=self.rows, scale=self.scale, vocabulary=joined)


class StaticEmbedder:
    """Texts to unit vectors of two halves, each normalised: what a text means, and how it is worded.

    table : its file; None for the one of the package

    The first half sums rows of the table, one per word piece; how much a word counts is the length of its row. The
    second is a `sketch`: it tells formats of tasks apart, which meaning does not (docs/encoder.md: what it brings).
    Sums are of whole numbers, so they are exact, and lengths are taken in float64: a text's vector is the same bit for
    bit in any company and, but for ties in rounding, on any machine. Calls from several threads run side by side.
    """

    def __init__(self, table: Path | None = None) -> None:
        self._path = table or TABLE
        self._lock = threading.Lock()
        self._table: Table | None = None
        self._scale: Floats
        self._pieces: WordPieces | None = None

    def load(self) -> None:
        """Read the table; idempotent. Raises ConfigError."""
        self._require()

    @property
    def loaded(self) -> bool:
        """Whether the table is in memory."""
        return self._pieces is not None

    @property
    def space(self) -> str:
        """As in "static/0123abcd/256+256/8192/f16": digest of the table, widths, characters read, precision. Loads."""
        table, _ = self._require()
        return f"static/{table.digest}/{len(table.scale)}+{sketch.WIDTH}/{CHARS_MAX}/f16"

    @property
    def width(self) -> int:
        """Components of a vector. Loads."""
        return len(self._require()[0].scale) + sketch.WIDTH

    def embed(self, texts: Sequence[str]) -> Floats:
        """float32 (Q, d), rows of unit length within float16 precision. Loads on first use."""
        table, pieces = self._require()
        own = len(table.scale)
        vectors = np.empty((len(texts), own + sketch.WIDTH), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            ids = np.array(pieces.ids(clean(text[-CHARS_MAX:])), dtype=np.int64)
            meaning = table.rows.take(ids, axis=0).sum(axis=0, dtype=np.int32) * self._scale
            _normalised(meaning.astype(np.float32), out=vector[:own])
            _normalised(sketch.sketch(ids), out=vector[own:])
        vectors *= np.float32(np.sqrt(0.5))
        return through_float16(vectors)

    def _require(self) -> tuple[Table, WordPieces]:
        if self._pieces is None or self._table is None:
            with self._lock:
                if self._pieces is None or self._table is None:
                    self._table = Table.read(self._path)
                    self._scale = self._table.scale.astype(np.float64)  # whole numbers times float32 pass through it
                    self._pieces = WordPieces(self._table.vocabulary)
        return self._table, self._pieces


def _normalised(half: Floats | Ints, *, out: Floats) -> None:
    """`half` at unit length into `out`, both (d,); what has none points along the first axis."""
    wide = half.astype(np.float64)  # processors add in different orders: in float32 that would show
    square = float(wide @ wide)
    if square > 0.0:
        np.divide(wide, math.sqrt(square), out=out, casting="same_kind")
    else:  # no words, or all of them cancelled
        out[:] = 0.0
        out[0] = 1.0
