"""The gateway as its users start it: a configuration, a key, `router-gateway serve`, in front of eleven endpoints.

Encoder and policy are the defaults unless named. Training outcomes are made up: each endpoint is good at some prompts,
and the dearer are better at more of them, so that routing has something to learn and to choose between.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from performance.machine import Cores, free_port
from performance.problems import BenchmarkError
from performance.server import Server, start
from performance.texts import texts

ENDPOINTS = 11
ROWS_FAST, ROWS_SLOW = 30_000, 2_000
_FAST_ENCODERS = ("static", "hashing")
_KINDS = 8  # of prompts
_PROGRAM = Path(sys.executable).with_name("router-gateway")
_PRICES_USD = np.geomspace(0.05, 10.0, ENDPOINTS)  # per million tokens, input; output costs four times as much
_TOKENS = (100, 50)  # input and output of every recorded answer
PINNED = "endpoint-5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the run says about the gateway's configuration; None leaves the default."""

    embedder: str | None = None
    policy: str | None = None
    rows: int | None = None


def configure(directory: Path, upstream_port: int, choice: Choice) -> tuple[Path, dict[str, Any]]:
    """Write outcomes and configuration into `directory`; returns the file and what was chosen, for the record."""
    from router_gateway import config as configuration

    settings: dict[str, Any] = {
        "state_dir": str(directory / "state"),
        "server": {"port": free_port()},
        "training": {"outcomes": str(directory / "outcomes.parquet")},
        "default_endpoint": PINNED,
        "endpoints": [_endpoint(i, upstream_port) for i in range(ENDPOINTS)],
    }
    if choice.embedder:
        settings["embedder"] = {"kind": choice.embedder}
    if choice.policy:
        settings["policy"] = {"name": choice.policy}
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings))
    loaded = configuration.load(path)
    rows = choice.rows or (ROWS_FAST if is_fast(loaded.embedder.kind) else ROWS_SLOW)
    _write_outcomes(directory / "outcomes.parquet", rows)
    return path, {
        "port": loaded.server.port,
        "embedder": loaded.embedder.kind,
        "policy": loaded.policy.name,
        "rule": loaded.rule.name,
        "endpoints": ENDPOINTS,
        "training_rows": rows,
        "is_default": choice.embedder is None and choice.policy is None,
    }


def is_fast(kind: str) -> bool:
    """Whether that encoder embeds tens of thousands of prompts in moments rather than minutes."""
    return kind in _FAST_ENCODERS


def create_key(config: Path) -> str:
    """An API key, made as users make one."""
    done = subprocess.run([_PROGRAM, "keys", "create", "benchmark", "--config", config], capture_output=True, text=True)
    found = [word for word in done.stdout.split() if word.startswith("rg-")]
    if done.returncode or not found:
        raise BenchmarkError(f"router-gateway keys create: {done.stderr.strip()[-500:]}")
    return found[0]


def serve(config: Path, port: int, key: str, cores: Cores) -> Server:
    """`router-gateway serve`, once it has answered."""
    return start(
        "router-gateway",
        [str(_PROGRAM), "serve", "--config", str(config)],
        port=port,
        model="auto",
        headers={"Authorization": f"Bearer {key}"},
        cores=cores,
        directory=config.parent,
        environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
    )


def _endpoint(number: int, upstream_port: int) -> dict[str, Any]:
    return {
        "name": f"endpoint-{number}",
        "model": f"maker/model-{number}",
        "base_url": f"http://127.0.0.1:{upstream_port}/v1",
        "price_input_usd_per_mtok": float(_PRICES_USD[number]),
        "price_output_usd_per_mtok": float(4 * _PRICES_USD[number]),
        "context_tokens_max": 128_000,
        "offers": ["tools", "json"],
    }


def _write_outcomes(path: Path, rows: int) -> None:
    """`rows` prompts answered by all endpoints, in the common schema (datasets/README.md)."""
    rng = np.random.default_rng(0)
    prompts = texts(rows, tokens=100, seed=1, part="val")
    kind = rng.integers(0, _KINDS, rows)
    chance = np.clip(np.linspace(0.45, 0.75, ENDPOINTS) + rng.normal(0.0, 0.15, (_KINDS, ENDPOINTS)), 0.05, 0.95)
    score = (rng.random((rows, ENDPOINTS)) < chance[kind]).astype(np.float64)
    cost_usd = _PRICES_USD * (_TOKENS[0] + 4 * _TOKENS[1]) / 1e6
    every = np.repeat(np.arange(rows), ENDPOINTS)
    columns = {
        "dataset": pa.repeat("made up", rows * ENDPOINTS),
        "task": pa.array([f"kind {k}" for k in kind]).take(pa.array(every)),
        "sample_id": pa.array([str(i) for i in range(rows)]).take(pa.array(every)),
        "prompt": pa.array(prompts).take(pa.array(every)),
        "model": pa.array([f"endpoint-{i}" for i in range(ENDPOINTS)] * rows),
        "score": pa.array(score.ravel()),
        "cost_usd": pa.array(np.tile(cost_usd, rows)),
        "input_tokens": pa.repeat(_TOKENS[0], rows * ENDPOINTS),
        "output_tokens": pa.repeat(_TOKENS[1], rows * ENDPOINTS),
    }
    pq.write_table(pa.table(columns), path)
