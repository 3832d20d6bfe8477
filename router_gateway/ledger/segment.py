"""One append-only file of the journal, and the format of its lines.

A line is the CRC-32 of the payload in eight hex digits, a space, the payload (compact JSON in UTF-8) and
a newline. One line is one `write(2)`: a killed process leaves whole lines and at most one torn tail.
A process holds an exclusive `flock` on every segment it owns, so a lock that can be had means that
the owner is dead; the kernel releases it however the process ended.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from router_gateway.core.ids import uuid7

SUFFIX = ".journal"
LINE_BYTES_MAX = 1 << 20
_COUNT_CHUNK_BYTES = 1 << 20


def encode_payload(record: Mapping[str, Any]) -> bytes:
    """Compact JSON."""
    try:
        return orjson.dumps(record)
    except orjson.JSONEncodeError:
        return json.dumps(record, separators=(",", ":")).encode("ascii")


def encode(record: Mapping[str, Any]) -> bytes:
    """Raise ValueError for a record longer than LINE_BYTES_MAX.

    Numbers are finite: JSON has no others, and they would come back as null. An integer beyond 64 bits is kept: no
    column holds it, but the row that has it is not to vanish.
    """
    payload = encode_payload(record)
    line = b"%08x %s\n" % (zlib.crc32(payload), payload)
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"a journal record of {len(line)} bytes exceeds {LINE_BYTES_MAX}")
    return line


def payload_of(line: bytes) -> bytes | None:
    """The encoded record of one whole line, or None when it is damaged."""
    payload = line[9:-1]
    try:
        if line[8:9] != b" " or line[-1:] != b"\n" or int(line[:8], 16) != zlib.crc32(payload):
            return None
    except ValueError:
        return None
    return payload


@dataclass(slots=True, eq=False, kw_only=True)
class Segment:
    """An open, locked segment, in bytes: `size` of complete appends, `offset` of what the database has.

    `synced` are those that a power cut no longer takes.
    """

    path: Path
    fd: int
    size: int
    offset: int = 0
    synced: int = 0
    live: bool

    @classmethod
    def create(cls, directory: Path) -> Segment:
        """A new, empty, locked segment. Raises OSError when the disk will not have it."""
        while True:
            path = directory / f"{uuid7()}{SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _lock(fd):
                return cls(path=path, fd=fd, size=0, live=True)
            os.close(fd)  # a neighbour looking for orphans was quicker; it removes the empty file

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """The segment of a process that is gone, or None when its owner lives (or it has just been removed)."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if not _lock(fd) or os.fstat(fd).st_nlink == 0:
            os.close(fd)
            return None
        return cls(path=path, fd=fd, size=os.fstat(fd).st_size, live=False)  # not synced: who knows what its owner did

    def append(self, line: bytes) -> None:
        """One write. When it comes out short (disk full) the segment is as before, and OSError is raised."""
        try:
            written = os.write(self.fd, line)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        if written != len(line):
            os.ftruncate(self.fd, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def read(self, length: int) -> bytes:
        """`length` bytes from `offset` on; within `size` they are complete appends."""
        return os.pread(self.fd, length, self.offset)

    def rows(self) -> int:
        """Lines in the file, by its newlines."""
        count = position = 0
        while chunk := os.pread(self.fd, _COUNT_CHUNK_BYTES, position):
            count += chunk.count(b"\n")
            position += len(chunk)
        return count

    @property
    def finished(self) -> bool:
        """Whether the database has all of it."""
        return self.offset >= self.size

    def close(self) -> None:
        """Release the lock; the file is removed first when it is finished, so that nobody adopts it."""
        if self.finished:
            self.path.unlink(missing_ok=True)
        os.close(self.fd)


def sync(fd: int) -> None:
    """Return when the disk has the file (or the folder). Raises OSError."""
    whole = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: its fsync stops at the disk's own cache
    if whole is not None:
        fcntl.fcntl(fd, whole)
    else:
        os.fdatasync(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
