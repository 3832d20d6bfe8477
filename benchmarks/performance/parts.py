"""The gateway's parts, each in a process of its own on one thread: encoders, the ledger's writer, imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from performance.contenders import Contender
from performance.machine import Cores, has_mapped, pinned

Say = Callable[[str], None]

_BENCHMARKS = Path(__file__).parents[1]
_IMPORTS = (
    "router_gateway.cli",
    "router_gateway.verbs.serving",
    "router_gateway.api.app",
    "router_gateway.ledger.ledger",
)
_S_MAX = 900.0
_HEAVY = ("libtorch", "onnxruntime", "faiss", "litellm")


def measure(cores: Cores, *, postgres: str | None, say: Say) -> dict[str, Any]:
    """Every part; what cannot be measured here is there with its reason."""
    found: dict[str, Any] = {"encoders": {}, "ledger": {}, "imports": {}}
    for kind in encoder_kinds():
        found["encoders"][kind] = _child(cores, "encoder", kind)
        say(f"encoder {kind}: {_short(found['encoders'][kind])}")
    for name, url in (("sqlite", "sqlite"), ("postgresql", postgres)):
        if url is not None:
            with tempfile.TemporaryDirectory(prefix="router-gateway-bench-") as folder:
                found["ledger"][name] = _child(cores, "ledger", url, folder)
            say(f"ledger {name}: {_short(found['ledger'][name])}")
    for name in _IMPORTS:
        found["imports"][name] = _child(cores, "import", name)
    found["empty_process_rss_mib"] = _child(cores, "import", "json")["rss_mib"]
    return found


def started(contenders: Sequence[Contender]) -> dict[str, Any]:
    """Time to the first answer and memory then; of the gateway also which heavy libraries it holds."""
    found: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        if contender.server is not None:
            found[contender.name] = {"ready_s": contender.server.ready_s, "rss_mib": contender.server.rss_mib()}
            if contender.server.name == "router-gateway":
                pid = contender.server.process.pid
                found[contender.name]["mapped"] = [name for name in _HEAVY if has_mapped(pid, name)]
    return found


def encoder_kinds() -> tuple[str, ...]:
    """The kinds of encoder that a configuration may name."""
    from router_gateway.config import Embedder

    return get_args(Embedder.model_fields["kind"].annotation)


def _child(cores: Cores, *arguments: str) -> dict[str, Any]:
    """What a fresh process prints, or {"left_out": its last words}."""
    environment = os.environ | {
        "PYTHONPATH": str(_BENCHMARKS),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with pinned(cores.proxy):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "performance.child", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_S_MAX,
        )
    if done.returncode:
        return {"left_out": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _short(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value['p50_ms']:.3f} ms" if isinstance(value, dict) else f"{key} {value:,.5g}"
        for key, value in found.items()
        if isinstance(value, dict | float | int)
    ) or str(found)
