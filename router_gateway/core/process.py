"""A process that ends with its parent, and names for processes that another one can check.

By its name, a holder of shared work that was killed is known to be gone.

A number alone is not enough, since numbers are given again. With the kernel's boot, the namespaces in which number and
clock count, and the instant at which the process began, a name is never given twice.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

_PROC = Path("/proc")
_SEPARATOR = "/"


_STDIN = 0


def end_with_parent() -> None:
    """Send ourselves SIGTERM when standard input ends: the parent holds its other side, and is gone, killed or not."""

    def wait() -> None:
        # not sys.stdin: the interpreter could not take its lock from this thread when it ends for another reason
        while os.read(_STDIN, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="parent-watch").start()


def process_name() -> str:
    """The name of the process that asks; empty where the system does not tell (no Linux)."""
    place, pid = _place(), os.getpid()
    begun = _begun(pid)
    return "" if place is None or begun is None else _SEPARATOR.join((place, str(pid), begun))


def is_gone(name: str) -> bool:
    """Whether the process of that name has provably ended. False says nothing: it may run on another machine."""
    place, pid, begun = name.rsplit(_SEPARATOR, 2) if name.count(_SEPARATOR) >= 2 else ("", "", "")
    if not pid.isdecimal() or place != _place():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # it is there, and somebody else's
        pass
    return _begun(int(pid)) not in (begun, None)


def _place() -> str | None:
    """The kernel since it booted, and the namespaces in which it counts processes and time for us."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return " ".join([boot, *(os.readlink(_PROC / "self/ns" / kind) for kind in ("pid", "time"))])
    except OSError:
        return None


def _begun(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; "ended" for one that only waits for its parent to notice.

    None when it cannot be read: it is not ours to look at, or has just gone.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]
