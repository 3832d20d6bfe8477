"""What the journal costs a request: an append, by how often it is synced, and the wait for the disk with interval 0.

`python -P benchmarks/journal.py --out docs/results/journal.json`; rows are as wide as those of the default encoder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway import __version__
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Decision, Query
from router_gateway.ledger.journal import Journal
from router_gateway.ledger.records import decision_record
from router_gateway.ledger.syncing import Syncer

_PAUSE_S = 0.0005
_WIDTH = 320
_INTERVALS_MS = (None, 1000.0, 100.0, 10.0)
_AT_ONCE = (1, 16, 128)


def record() -> dict[str, Any]:
    query = Query(id=uuid7(), text="", tokens_input=100)
    decision = Decision(
        query_id=query.id,
        at=datetime.now(UTC),
        endpoint="small",
        order=("small", "large"),
        propensity=0.9,
        endpoints=("small", "large"),
        quality=(0.7, 0.9),
        stddev=(0.1, 0.1),
        cost_usd=(0.001, 0.01),
        probability=(0.9, 0.1),
        eligible=(True, True),
        worth_usd=0.02,
        reason="scored",
    )
    vector = np.linspace(-1, 1, _WIDTH, dtype=np.float32)
    return decision_record(query, decision, requested_model="auto", embedding=vector, store_text=False)


def quantiles(seconds: list[float], unit: float) -> dict[str, float]:
    values = np.quantile(np.array(seconds) * unit, [0.5, 0.9, 0.99, 0.999, 1.0])
    return dict(zip(("p50", "p90", "p99", "p999", "max"), (round(float(v), 1) for v in values), strict=True))


def appends(folder: Path, interval_ms: float | None, seconds: float) -> dict[str, Any]:
    """Appends at up to 2,000 a second: microseconds each."""
    journal = Journal(folder, bytes_max=1 << 30, disk_free_bytes_min=1 << 20)
    syncer = Syncer(journal, interval_ms)
    syncer.start()
    row, took = record(), []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        begun = time.perf_counter()
        journal.append(row)
        took.append(time.perf_counter() - begun)
        time.sleep(_PAUSE_S)
    journal.discard(journal.peek(len(took)))
    syncer.close()
    journal.close()
    told = {"sync_interval_ms": interval_ms, "appends": len(took), "syncs": syncer.syncs}
    return {**told, "append_us": quantiles(took, 1e6)}


async def waits(folder: Path, at_once: int, seconds: float) -> dict[str, Any]:
    """With interval 0, so many requests at once, each waiting for its row to be on the disk: milliseconds each."""
    journal = Journal(folder, bytes_max=1 << 30)
    syncer = Syncer(journal, 0)
    syncer.start()
    row, took = record(), []
    ends = time.monotonic() + seconds

    async def request() -> None:
        while time.monotonic() < ends:
            begun = time.perf_counter()
            journal.append(row)
            await syncer.durable()
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(request() for _ in range(at_once)))
    syncer.close()
    journal.close()
    told = {"at_once": at_once, "rows_per_s": round(len(took) / seconds), "rows_per_sync": len(took) / syncer.syncs}
    return {**told, "wait_ms": quantiles(took, 1e3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="On the disk to measure; default: the temporary folder.")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "command": f"python -P benchmarks/journal.py --seconds {args.seconds:g}",
        "version": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "row_bytes": len(json.dumps(record())),
    }
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        root = Path(name)
        result["appends"] = [appends(root / f"a{i}", ms, args.seconds) for i, ms in enumerate(_INTERVALS_MS)]
        result["interval_0"] = [asyncio.run(waits(root / f"w{n}", n, args.seconds)) for n in _AT_ONCE]
    text = json.dumps(result, indent=1) + "\n"
    if args.out:
        args.out.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
