"""The journal: every row is here first. It is the queue between requests and the database as well.

Request threads append, one thread reads (`peek`, then `discard` once the database has the rows). What
a crash leaves behind is found at the next start and replayed; rows carry ids, so a replay is harmless
(docs/adr/0009-the-journal-is-the-queue.md). Appends survive a killed process; a power cut they survive once
`sync` has returned, which syncing.py calls beside the requests.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router_gateway.core.errors import LedgerFull
from router_gateway.ledger.segment import LINE_BYTES_MAX, SUFFIX, Segment, encode, payload_of, sync

logger = logging.getLogger(__name__)

_SEGMENT_BYTES = 8 << 20
_READ_BYTES = 512 << 10  # of which a batch takes most
_SIDE_BYTES_MAX = 64 << 20
_SIDE_SUFFIX = ".corrupt"
_LOOK_EVERY_S = 0.5  # at the room on the disk


class Entry(NamedTuple):
    """One line of a segment. `payload` is None when the line is damaged; `torn` when it lacks its end."""

    segment: Segment
    end: int
    line: bytes
    payload: bytes | None
    torn: bool


class Journal:
    """Append-only segments in `directory` (mode 0700), which several processes may share.

    `bytes_max` bounds what waits for the database; the disk may hold one segment more. While the disk has fewer than
    `disk_free_bytes_min` bytes left, ordinary appends are refused: what is left is for calls that are under way.
    """

    def __init__(
        self,
        directory: Path,
        *,
        bytes_max: int,
        segment_bytes: int = _SEGMENT_BYTES,
        disk_free_bytes_min: int = 0,
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._disk_free_bytes_min = disk_free_bytes_min
        self.disk_is_full = False
        self._look_again_s = 0.0
        self._lock = threading.Lock()
        self._segments: list[Segment] = []  # in the order in which they are read; the live one is among them
        self._live: Segment | None = None
        self._closed = False
        self._folder_synced = False
        self._doubtful: set[Segment] = set()
        self.touched = threading.Event()  # there is something to sync
        self._bytes_waiting = 0
        self._rows_waiting = 0
        self.rows_torn = 0
        self.rows_corrupt = 0
        self.adopt()

    @property
    def bytes_waiting(self) -> int:
        """Bytes that the database does not have yet."""
        return self._bytes_waiting

    @property
    def rows_waiting(self) -> int:
        """Rows that the database does not have yet."""
        return self._rows_waiting

    @property
    def has_room(self) -> bool:
        """Whether an ordinary append would be taken."""
        if self._disk_free_bytes_min and time.monotonic() >= self._look_again_s:
            self._look_at_disk()
        return self._bytes_waiting < self._bytes_max and not self.disk_is_full

    def _look_at_disk(self) -> None:
        self._look_again_s = time.monotonic() + _LOOK_EVERY_S
        disk = os.statvfs(self._directory)
        full = disk.f_bavail * disk.f_frsize < self._disk_free_bytes_min
        if full and not self.disk_is_full:
            logger.error("the journal's disk is full: paid calls are refused until there is room")
        self.disk_is_full = full

    def append(self, record: Mapping[str, Any], *, beyond_bound: bool = False) -> None:
        """Write one record; when this returns, a killed process no longer loses it.

        Raises LedgerFull at the bound (unless `beyond_bound`: money already spent is always recorded)
        and when the disk refuses, ValueError for a record of more than 1 MiB.
        """
        line = encode(record)
        with self._lock:
            if self._closed:
                raise LedgerFull("the ledger is closed")
            if not beyond_bound and not self.has_room:
                why = "the journal's disk is full" if self.disk_is_full else "the journal is full"
                raise LedgerFull(why, hint="the database is away or too slow; look at its log")
            try:
                self._live_segment().append(line)
            except OSError as error:
                raise LedgerFull(f"the journal cannot be written: {error.strerror or error}") from None
            self._bytes_waiting += len(line)
            self._rows_waiting += 1
        if not self.touched.is_set():
            self.touched.set()

    def sync(self) -> None:
        """Return when a power cut no longer takes the rows appended before the call.

        Raises OSError when the disk fails: now, or earlier for rows that the database does not have yet, since the
        kernel says it only once and nobody knows what the disk has of them. Later rows go to another file.
        """
        with self._lock:
            self._doubtful.intersection_update(self._segments)
            if self._doubtful:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            unsynced = [(s, s.size, os.dup(s.fd)) for s in self._segments if s.synced < s.size]
            folder_synced, self._folder_synced = self._folder_synced, True
        try:
            for segment, size, fd in unsynced:
                sync(fd)
                segment.synced = size
            if not folder_synced:
                _sync_folder(self._directory)
        except OSError:
            with self._lock:
                self._folder_synced = False
                self._doubtful |= {segment for segment, size, _ in unsynced if segment.synced < size}
                if (live := self._live) in self._doubtful and live is not None:
                    self._live, live.live = None, False
                    self._remove_if_done(live)
            raise
        finally:
            for _, _, fd in unsynced:  # our own descriptors: the writer may close a segment's at any time
                os.close(fd)

    def _live_segment(self) -> Segment:
        live = self._live
        if live is not None and live.size < self._segment_bytes:
            return live
        fresh = Segment.create(self._directory)
        if live is not None:
            live.live = False
            self._remove_if_done(live)
        self._live = fresh
        self._folder_synced = False
        self._segments.append(fresh)
        return fresh

    def adopt(self) -> int:
        """Take over the segments of processes that are gone; returns how many."""
        found = 0
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            segment = Segment.adopt(path)
            if segment is None:
                continue
            found += 1
            rows = segment.rows()
            with self._lock:
                self._segments.append(segment)
                self._bytes_waiting += segment.size
                self._rows_waiting += rows
                self._remove_if_done(segment)
        if found:
            logger.info("adopted %d journal segments, %d rows wait", found, self._rows_waiting)
        return found

    def peek(self, rows_max: int) -> list[Entry]:
        """The next rows, oldest segment first. For one reading thread; returns them again until discarded."""
        with self._lock:
            segment = next((s for s in self._segments if not s.finished), None)
            if segment is None:
                return []
            unread = segment.size - segment.offset
        chunk, at_end = segment.read(min(unread, _READ_BYTES)), unread <= _READ_BYTES
        if not at_end and b"\n" not in chunk:
            chunk, at_end = segment.read(min(unread, 2 * LINE_BYTES_MAX)), unread <= 2 * LINE_BYTES_MAX
        entries: list[Entry] = []
        position = 0
        while position < len(chunk) and len(entries) < rows_max:
            newline = chunk.find(b"\n", position)
            if newline < 0 and not at_end and entries:
                break  # the line goes on past the chunk: the next peek begins with it
            torn = newline < 0
            stop = len(chunk) if torn else newline + 1
            line = chunk[position:stop]
            position = stop
            entries.append(Entry(segment, segment.offset + stop, line, payload_of(line), torn and at_end))
        return entries

    def discard(self, entries: Sequence[Entry]) -> None:
        """The database (or the side file) has these: never read them again, and remove finished segments."""
        with self._lock:
            for entry in entries:
                segment = entry.segment
                self._bytes_waiting -= entry.end - segment.offset
                self._rows_waiting -= entry.line.endswith(b"\n")
                segment.offset = entry.end
            for segment in {entry.segment for entry in entries}:
                self._remove_if_done(segment)

    def _remove_if_done(self, segment: Segment) -> None:
        if segment.finished and not segment.live:
            self._segments.remove(segment)
            segment.close()

    def set_aside(self, entry: Entry) -> None:
        """Keep a line that cannot be stored in a side file for a person to look at; never raises."""
        if entry.torn:
            self.rows_torn += 1
            logger.warning("skipped the torn last line of %s (%d bytes)", entry.segment.path.name, len(entry.line))
            return
        self.rows_corrupt += 1
        path = entry.segment.path.with_suffix(_SIDE_SUFFIX)
        try:
            used = sum(side.stat().st_size for side in self._directory.glob(f"*{_SIDE_SUFFIX}"))
            if used + len(entry.line) > _SIDE_BYTES_MAX:
                raise OSError(f"side files exceed {_SIDE_BYTES_MAX} bytes")
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as side:
                side.write(entry.line)
        except OSError as error:
            logger.error("lost a journal line of %d bytes that could not be stored: %s", len(entry.line), error)
        else:
            logger.error("a journal line of %d bytes could not be stored: see %s", len(entry.line), path.name)

    def mark(self) -> dict[Segment, int]:
        """How far the journal goes now; for `reached`."""
        with self._lock:
            return {segment: segment.size for segment in self._segments if not segment.finished}

    def reached(self, mark: Mapping[Segment, int]) -> bool:
        """Whether the database has everything that was there at `mark`."""
        return all(segment.offset >= size for segment, size in mark.items())

    def close(self) -> None:
        """Refuse further appends and release the segments; finished ones are removed, others wait for a start."""
        with self._lock:
            self._closed = True
            for segment in self._segments:
                segment.close()
            self._segments.clear()
            self._live = None


def _sync_folder(directory: Path) -> None:
    """A file survives only where its name does."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
