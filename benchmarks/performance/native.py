"""The benchmark's two C programs, compiled where they are needed: nothing built is kept in the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from performance.problems import BenchmarkError

_SOURCES = Path(__file__).parent
_FLAGS = ("-O2", "-Wall", "-Wextra")


def cache() -> Path:
    """The user's cache folder: $XDG_CACHE_HOME or ~/.cache, then router-gateway/benchmark."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "router-gateway" / "benchmark"


def program(name: str) -> Path:
    """`name`.c as a program, compiled once for each text of it. Raises BenchmarkError without a C compiler."""
    source = _SOURCES / f"{name}.c"
    digest = hashlib.blake2b(source.read_bytes(), digest_size=6).hexdigest()
    target = cache() / f"{name}-{digest}"
    if target.exists():
        return target
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchmarkError("no C compiler (cc, gcc or clang): the benchmark's load generator and upstream are in C")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    done = subprocess.run([compiler, *_FLAGS, "-o", str(fresh), str(source)], capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"{source.name} does not compile (it needs Linux): {done.stderr.strip()[-500:]}")
    fresh.replace(target)
    return target
