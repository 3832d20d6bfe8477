"""Vectors on disk, by the digest of their text: one file per embedding space, safe to append to and to kill.

The file is a NumPy array (`.npy`) of records (key, vector), so the index can never disagree with the vectors.
Its header holds the number of records and is rewritten last: whatever a killed process left behind the last
counted record is overwritten by the next append. Components are float16, which is what embedders return.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from router_gateway.core.errors import DataError
from router_gateway.core.types import Floats
from router_gateway.embedding.canonical import clean

BYTES_MAX = 2 * 1024**3
_KEY_BYTES = 16
_COPY_RECORDS = 4096


def text_key(text: str) -> bytes:
    """16 bytes that stand for the text an embedder would read."""
    return hashlib.blake2b(clean(text).encode(), digest_size=_KEY_BYTES).digest()


class VectorStore:
    """The vectors of one embedding space.

    folder : holds one file per space; made on first use
    bytes_max : bound on this space's file; when an append would pass it, the oldest records are dropped

    Several processes may share a folder: appends take a lock, readers see whole records only.
    """

    def __init__(self, folder: Path, space: str, width: int, *, bytes_max: int = BYTES_MAX) -> None:
        self._record = np.dtype([("key", f"V{_KEY_BYTES}"), ("vector", "<f2", (width,))])
        if bytes_max < self._record.itemsize * 2:
            raise ValueError(f"bytes_max must leave room for two records of {self._record.itemsize} bytes")
        self.space, self.width = space, width
        self._records_max = bytes_max // self._record.itemsize
        self.path = folder / f"{_slug(space)}.npy"
        folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._table())

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Floats]:
        """float32 (d,) of every key that is there."""
        table = self._table()
        place = {key.tobytes(): row for row, key in enumerate(table["key"])}
        known = [key for key in dict.fromkeys(keys) if key in place]
        if not known:
            return {}
        vectors = table["vector"][[place[key] for key in known]].astype(np.float32)
        return dict(zip(known, vectors, strict=True))

    def append(self, keys: Sequence[bytes], vectors: Floats) -> None:
        """Add records; a key that is there already is left as it is.

        vectors : (n, d), finite; rounded to float16. Raises ValueError for another shape.
        """
        if vectors.shape != (len(keys), self.width):
            raise ValueError(f"{len(keys)} keys need vectors ({len(keys)}, {self.width}), not {vectors.shape}")
        with self._lock():
            table = self._table()
            present = {key.tobytes() for key in table["key"]}
            fresh = {key: row for row, key in enumerate(keys) if key not in present}
            records = np.empty(len(fresh), dtype=self._record)
            records["key"] = np.array(list(fresh), dtype=f"V{_KEY_BYTES}")
            records["vector"] = vectors[list(fresh.values())].astype(np.float16)
            records = records[-self._records_max :]
            if len(table) + len(records) > self._records_max:
                self._make_room(table, len(records))
                table = self._table()
            if len(records):
                self._write(len(table), records)

    def _table(self) -> NDArray[np.void]:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return np.empty(0, dtype=self._record)
        try:
            table: NDArray[np.void] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(
                [f"{self.path}: not a readable cache of vectors"], hint="delete the file; it is made again"
            ) from error
        if table.dtype != self._record:
            raise DataError(
                [f"{self.path}: holds vectors of another width than {self.width}"],
                hint="delete the file; it is made again",
            )
        return table

    def _write(self, before: int, records: NDArray[np.void]) -> None:
        """Records first, then the header that counts them, each on the disk before the next step."""
        self.path.touch()
        with self.path.open("r+b") as file:
            start = self._header(file, before)
            file.seek(start + before * self._record.itemsize)
            file.write(records.tobytes())
            _flush(file)
            self._header(file, before + len(records))
            _flush(file)

    def _header(self, file: BinaryIO, count: int) -> int:
        """Write the header and return its length; NumPy pads it so that a larger count fits in place."""
        file.seek(0)
        npy.write_array_header_1_0(
            file, {"descr": npy.dtype_to_descr(self._record), "fortran_order": False, "shape": (count,)}
        )
        return file.tell()

    def _make_room(self, table: NDArray[np.void], wanted: int) -> None:
        """Keep the newest records only, leaving a quarter of the bound free so that this is rare."""
        keep = max(0, min(self._records_max - wanted, self._records_max * 3 // 4))
        kept = table[len(table) - keep :]
        aside = self.path.with_suffix(".tmp")
        with aside.open("w+b") as file:
            self._header(file, len(kept))
            for start in range(0, len(kept), _COPY_RECORDS):
                file.write(kept[start : start + _COPY_RECORDS].tobytes())
            _flush(file)
        os.replace(aside, self.path)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        import fcntl  # POSIX; a process that dies lets go of it

        with self.path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _slug(space: str) -> str:
    """A file name that says the space to a reader and differs for different spaces."""
    digest = hashlib.blake2b(space.encode(), digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', space)[:80]}-{digest}"


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
