"""Benchmarks of their own beside this one: a decision by stage, and the nearest neighbours of up to a million rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from performance.machine import Cores, pinned
from performance.ours import ROWS_SLOW, is_fast

_BENCHMARKS = Path(__file__).parents[1]
_S_MAX = 1800.0


def decision(cores: Cores) -> dict[str, Any]:
    """One decision from text to choice, by policy and stage, with the default encoder; `default` is its policy."""
    from router_gateway.config import Config, Embedder

    kind = Embedder().kind
    rows = [] if is_fast(kind) else ["--rows", str(ROWS_SLOW)]
    return _run(cores, "decision.py", "--encoder", kind, *rows) | {
        "default": Config.model_fields["policy"].default.name
    }


def scale(cores: Cores) -> dict[str, Any]:
    """Time, memory and faithfulness of the indexes by the number of rows. Takes minutes."""
    return _run(cores, "index_scale.py")


def _run(cores: Cores, script: str, *arguments: str) -> dict[str, Any]:
    """What the script writes, or {"left_out": its last words}."""
    with tempfile.TemporaryDirectory(prefix="router-gateway-bench-") as folder, pinned(cores.proxy):
        out = Path(folder) / "out.json"
        done = subprocess.run(
            [sys.executable, "-P", str(_BENCHMARKS / script), *arguments, "--out", str(out)],
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=_S_MAX,
        )
        if done.returncode:
            return {"left_out": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
        found: dict[str, Any] = json.loads(out.read_text())
        return found
