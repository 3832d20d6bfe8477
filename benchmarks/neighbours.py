"""`PYTHONPATH=benchmarks python -P benchmarks/neighbours.py`: what `knn` finds, and how soon, by principal coordinates.

Among more than 21,000 rows `knn` looks at 192 principal coordinates first and ranks exactly what they find. Here it is
held against the same policy searching whole vectors: the same 30,000 prompts (package paretobandit, default encoder)
with made-up outcomes of eleven endpoints, and other prompts that are asked one at a time, the two in turn, on one
thread. Told: the share of the whole search's neighbours that is found, the share of queries with the same best
endpoint, the largest difference of a quality, and microseconds of `score`. Writes JSON with `--out FILE`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from performance.texts import texts
from threadpoolctl import threadpool_limits

from policies import knn
from policies.knn import KNN
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Queries
from router_gateway.evaluation.embeddings import Encoder

ENDPOINTS = 11
_BATCH = 500


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", type=int, nargs="+", default=[80, 160])
    parser.add_argument("--out", type=Path)
    told = parser.parse_args(arguments)
    prompts = texts(told.rows + told.queries, tokens=100, seed=1, part="val")
    vectors = _vectors(prompts)
    known, asked = _queries(prompts[: told.rows], vectors), _queries(prompts[told.rows :], vectors[told.rows :])
    good = np.random.default_rng(0).random((told.rows, ENDPOINTS)) < np.linspace(0.45, 0.75, ENDPOINTS)
    learned = Experience.from_table(known, tuple(f"e{i}" for i in range(ENDPOINTS)), good.astype(np.float64))
    found: dict[str, Any] = {}
    with threadpool_limits(1):
        for k in told.k:
            found[str(k)] = one = compare(learned, asked, k)
            print(f"k {k}  " + "  ".join(f"{name} {value:.4g}" for name, value in one.items()), flush=True)
    if told.out is not None:
        result = {
            "command": "python -P benchmarks/neighbours.py",
            "settings": {"rows": told.rows, "queries": told.queries, "encoder": "static"},
            "versions": {"python": platform.python_version(), "numpy": version("numpy"), "faiss": version("faiss-cpu")},
            "k": found,
        }
        told.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def compare(learned: Experience, asked: Queries, k: int) -> dict[str, float]:
    """`knn` by principal coordinates against `knn` by whole vectors."""
    quick = KNN(k=k, rows_max=len(learned.queries)).fit(learned)
    with mock.patch.object(knn, "_ROWS_IN_FULL", len(learned.queries)):
        whole = KNN(k=k, rows_max=len(learned.queries)).fit(learned)
    took_us: dict[str, list[float]] = {"quick": [], "whole": []}
    for i in range(len(asked)):
        one = asked.take(slice(i, i + 1))
        for name, policy in (("quick", quick), ("whole", whole)):
            began = time.perf_counter_ns()
            policy.score(one)
            took_us[name].append((time.perf_counter_ns() - began) / 1e3)
    rows = [[{each.row for each in of} for of in policy.neighbours(asked, k)] for policy in (quick, whole)]
    quality = [policy.score(asked).quality for policy in (quick, whole)]
    shares = [len(ours & all_of) / k for ours, all_of in zip(*rows, strict=True)]
    figures = {"found": float(np.mean(shares)), "found_least": float(np.min(shares))}
    figures["same_choice"] = float(np.mean(quality[0].argmax(axis=1) == quality[1].argmax(axis=1)))
    figures["quality_apart_max"] = float(np.abs(quality[0] - quality[1]).max())
    for name, each in took_us.items():
        figures |= {f"{name}_p50_us": float(np.median(each)), f"{name}_p99_us": float(np.percentile(each, 99))}
    return figures


def _vectors(prompts: Sequence[str]) -> Floats:
    """float32 (Q, d), by the default encoder."""
    encoder = Encoder(kind="static").build()
    parts = [encoder.embed(prompts[start : start + _BATCH]) for start in range(0, len(prompts), _BATCH)]
    return np.concatenate(parts).astype(np.float32)


def _queries(prompts: Sequence[str], vectors: Floats) -> Queries:
    return Queries(
        text=tuple(prompts),
        embedding=vectors[: len(prompts)],
        tokens_input=np.full(len(prompts), 100),
        space="static",
    )


if __name__ == "__main__":
    sys.exit(main())
