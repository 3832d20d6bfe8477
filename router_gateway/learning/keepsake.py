"""What a process has learned beside its policies, kept in a file for the next one."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from router_gateway.core.errors import SnapshotMismatch

log = logging.getLogger(__name__)

_EVERY_S = 60.0
_BYTES_MAX = 64 * 2**20


class Keepsake:
    """Writes `state()` as JSON to `path` every minute and at the end; a kill loses a minute's learning.

    Processes that share the file each write what they know: the last one stands. A file that cannot be written or
    read is logged and no error: the next process learns anew.
    """

    def __init__(self, path: Path, state: Callable[[], Mapping[str, Any]], *, every_s: float = _EVERY_S) -> None:
        self._path, self._state, self._every_s = path, state, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keepsake", daemon=True)

    def give_back(self, restore: Callable[[Mapping[str, Any]], None]) -> None:
        """Hand `restore` what an earlier process left, if anything."""
        try:
            if self._path.stat().st_size > _BYTES_MAX:
                raise ValueError("larger than anything we write")
            restore(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        except (OSError, ValueError, SnapshotMismatch) as error:
            log.warning("%s is of no use: %s", self._path.name, type(error).__name__)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write once more and stop."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_EVERY_S)
        self.write()

    def write(self) -> None:
        """The file appears whole or stays as it was."""
        try:
            beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            beside.write_text(json.dumps(self._state(), allow_nan=False), encoding="utf-8")
            os.replace(beside, self._path)
        except (OSError, ValueError) as error:
            log.warning("%s could not be written: %s", self._path.name, type(error).__name__)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.write()
