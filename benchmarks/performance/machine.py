"""Cores, CPU time and memory of processes, from /proc."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The proxy's core, and that of upstream and load generator; None where there are not two to pin to."""

    proxy: int | None
    others: int | None

    @property
    def said(self) -> str:
        if self.proxy is None:
            return "not pinned: fewer than two cores, so proxy, upstream and load share one and no figure means much"
        return f"proxy on core {self.proxy}, upstream and load on core {self.others}"


def two_cores() -> Cores:
    """The first two cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(proxy=allowed[0], others=allowed[1]) if len(allowed) > 1 else Cores(proxy=None, others=None)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes started inside run on `core` alone; None changes nothing."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # that thread has ended
            continue
        for child in children:
            found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    """User and system time of the process and its descendants, in steps of a clock tick (10 ms)."""
    total = 0.0
    for each in family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) * _TICK_S
    return total


def rss_mib(pid: int) -> float:
    """Resident memory of the process and its descendants; what they share is counted in each."""
    pages = 0
    for each in family(pid):
        try:
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def has_mapped(pid: int, library: str) -> bool:
    """Whether a file with `library` in its name is mapped into the process."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return any(library in line.rpartition("/")[2] for line in lines)


def described() -> dict[str, object]:
    """The machine, for whoever reads the figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
    }
