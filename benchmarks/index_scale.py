"""`python -P benchmarks/index_scale.py`: finding the neighbours of a query among ten thousand rows and a million.

Exact search at half precision (`flat`, what the policy `knn` uses), a graph (`hnsw`) and lists (`ivf`), each followed
by exact cosines of what it found, as in `knn`. Rows lie around centres, on few of their many dimensions, as those of
an encoder do; an endpoint is good or bad by centre. Told of each size and index: time of one search on one thread,
memory, time to build, the share of the exact search's neighbours that was found, and the share of queries for which the
endpoint with the best weighted mean of those neighbours' outcomes is the same: recall of the choice, not of rows only.

A million rows take some gigabytes and, for the graph, many minutes. Writes JSON with `--out FILE`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from router_gateway.core.types import Floats, Ints

_CENTRES = 500
_INNER_WIDTH = 24  # dimensions in which rows of one centre differ
_BLOCK = 50_000  # rows made at a time: bounds the double-precision noise
_SHARPNESS = 7.0  # as in `knn`
_SPARE = 32
_LINKS, _EF_CONSTRUCTION = 32, 80
_PROBED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Vectors float32 (R, d) of unit length, and outcomes bool (R, E)."""

    embedding: Floats
    outcome: Ints


def rows(count: int, *, width: int, endpoints: int, seed: int) -> Rows:
    """`count` rows of one and the same world, whatever the seed."""
    world, rng = np.random.default_rng(0), np.random.default_rng((1, seed))
    centres = world.normal(size=(_CENTRES, width)).astype(np.float32)
    inner = world.normal(size=(_INNER_WIDTH, width)).astype(np.float32)
    good = world.random((_CENTRES, endpoints))
    embedding = np.empty((count, width), dtype=np.float32)
    outcome = np.empty((count, endpoints), dtype=bool)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        centre = rng.integers(0, _CENTRES, block.stop - start)
        part = centres[centre] + rng.normal(size=(len(centre), _INNER_WIDTH)).astype(np.float32) @ inner / 4.0
        embedding[block] = part / np.linalg.norm(part, axis=1, keepdims=True)
        outcome[block] = rng.random((len(centre), endpoints)) < good[centre]
    return Rows(embedding=embedding, outcome=outcome)


def flat(width: int, count: int, candidates: int) -> Any:
    """Every row, at half precision."""
    return faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def hnsw(width: int, count: int, candidates: int) -> Any:
    """A navigable graph over the same."""
    half = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexHNSWSQ(width, half, _LINKS, faiss.METRIC_INNER_PRODUCT)  # type: ignore[arg-type]
    index.hnsw.efConstruction, index.hnsw.efSearch = _EF_CONSTRUCTION, max(64, candidates)
    return index


def ivf(width: int, count: int, candidates: int) -> Any:
    """Lists by nearest centre, a few of them read."""
    lists = int(2 * np.sqrt(count))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.nprobe = min(_PROBED, lists)
    return index


INDEXES: dict[str, Callable[[int, int, int], Any]] = {"flat": flat, "hnsw": hnsw, "ivf": ivf}


def nearest(index: Any, known: Floats, query: Floats, k: int) -> tuple[Ints, Floats]:
    """Rows and exact cosines of the k nearest that the index finds for one query (1, d), nearest first."""
    _, found = index.search(query, min(k + _SPARE, len(known)))
    row = np.sort(found[0][found[0] >= 0])  # equal cosines keep the order of the rows
    cosine = known[row] @ query[0]
    order = np.argsort(-cosine, kind="stable")[:k]
    return row[order], cosine[order]


def chosen(outcome: Ints, row: Ints, cosine: Floats) -> int:
    """The endpoint with the best weighted mean of the neighbours' outcomes."""
    return int((np.exp(_SHARPNESS * (cosine - 1.0)) @ outcome[row]).argmax())


def measure(
    kind: str,
    known: Rows,
    asked: Floats,
    k: int,
    exact: Sequence[tuple[Ints, int]] | None,
    *,
    build_threads: int,
) -> dict[str, Any]:
    """One index over `known`, searched on one thread; the neighbours and choices that it led to are under "found"."""
    index = INDEXES[kind](known.embedding.shape[1], len(known.embedding), k + _SPARE)
    faiss.omp_set_num_threads(build_threads)
    began = time.perf_counter()
    if not index.is_trained:
        index.train(known.embedding[:: max(1, len(known.embedding) // 50_000)])
    index.add(known.embedding)
    build_s = time.perf_counter() - began
    faiss.omp_set_num_threads(1)
    found, took_ns = [], []
    for query in asked[:, None, :]:
        start = time.perf_counter_ns()
        row, cosine = nearest(index, known.embedding, query, k)
        took_ns.append(time.perf_counter_ns() - start)
        found.append((row, chosen(known.outcome, row, cosine)))
    exact = found if exact is None else exact
    pairs = list(zip(found, exact, strict=True))
    return {
        "build_s": build_s,
        "p50_us": float(np.median(took_ns)) / 1e3,
        "p99_us": float(np.percentile(took_ns, 99)) / 1e3,
        "least_us": min(took_ns) / 1e3,
        "index_mib": faiss.serialize_index(index).nbytes / 2**20,
        "recall": float(np.mean([len(np.intersect1d(own[0], best[0])) / len(best[0]) for own, best in pairs])),
        "same_decision": float(np.mean([own[1] == best[1] for own, best in pairs])),
        "found": found,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    told = _arguments(arguments)
    asked = rows(told.queries, width=told.width, endpoints=told.endpoints, seed=1).embedding
    results: dict[str, dict[str, Any]] = {}
    for count in told.rows:
        known = rows(count, width=told.width, endpoints=told.endpoints, seed=0)
        exact, results[str(count)] = None, {}
        for kind in INDEXES:
            if kind == "hnsw" and count > told.hnsw_rows_max:
                continue
            one = measure(kind, known, asked, told.k, exact, build_threads=told.build_threads)
            found = one.pop("found")
            exact = found if exact is None else exact
            results[str(count)][kind] = one
            figures = "  ".join(f"{name} {value:.4g}" for name, value in one.items())
            print(f"{count:>9} rows  {kind:5} {figures}", flush=True)
    if told.out is not None:
        result = {
            "command": "python -P benchmarks/index_scale.py",
            "settings": {name: getattr(told, name) for name in ("width", "endpoints", "queries", "k", "build_threads")},
            "versions": {"python": platform.python_version(), "numpy": version("numpy"), "faiss": version("faiss-cpu")},
            "rows": results,
        }
        told.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--endpoints", type=int, default=11)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--k", type=int, default=160)
    parser.add_argument("--hnsw-rows-max", type=int, default=1_000_000, help="build no graph over more rows than this")
    parser.add_argument("--build-threads", type=int, default=1, help="1: one order of insertion, so one graph")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
