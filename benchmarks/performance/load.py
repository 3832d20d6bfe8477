"""Runs the load generator on its core, and says what one run measured."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from performance.machine import Cores, pinned
from performance.native import program
from performance.problems import BenchmarkError

_GRACE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run; latencies in microseconds, from sending a request to the last byte of its answer."""

    next: int
    warm: int
    requests: int
    errors: int
    bad_status: int
    elapsed_s: float
    events: int
    mean_us: float
    min_us: float
    p50_us: float
    p90_us: float
    p99_us: float

    @property
    def answered(self) -> int:
        """All good answers, those of the warm-up too."""
        return self.requests + self.warm

    @property
    def rps(self) -> float:
        return self.requests / self.elapsed_s


def run(
    requests: Path,
    *,
    port: int,
    connections: int,
    cores: Cores,
    seconds: float,
    warmup_s: float = 0.0,
    requests_max: int = 0,
    warmup_requests: int = 0,
    first: int = 0,
) -> Measured:
    """Send `requests` from number `first` on over `connections`, each waiting for its answer.

    Raises BenchmarkError where the server breaks, or answers a request badly.
    """
    numbers = [port, connections, warmup_s, seconds, requests_max, warmup_requests, first]
    with pinned(cores.others):
        done = subprocess.run(
            [program("load"), *map(str, numbers), requests],
            capture_output=True,
            text=True,
            timeout=warmup_s + 10 * seconds + _GRACE_S,
        )
    if done.returncode:
        raise BenchmarkError(done.stderr.strip() or f"the load generator ended with {done.returncode}")
    measured = Measured(**json.loads(done.stdout))
    if not measured.requests + measured.errors:
        raise BenchmarkError(f"no answer in {measured.elapsed_s:.1f} s")
    if measured.errors:
        raise BenchmarkError(
            f"{measured.errors} of {measured.requests + measured.errors} requests failed (status {measured.bad_status})"
        )
    return measured
