"""What an encoder costs in time, and what it brings in routing: every encoder, several policies, the same splits.

    python -P benchmarks/encoder_choice.py FILE.parquet ... --out docs/results/encoder_choice.json

Share of the gap from the zero router to the oracle that is closed (protocol pooled), and milliseconds for one text of
about 20, 100 and 500 word pieces on one thread: the least of many, since other work on a machine only adds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from router_gateway.embedding.static import TABLE, Table
from router_gateway.embedding.wordpiece import WordPieces
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.sitting import Spec, sit

LENGTHS = (20, 100, 500)
STARTER = Path(__file__).resolve().parents[1] / "datasets" / "starter.jsonl"


def closed(prepared: Prepared, policy: str, seed: int) -> float:
    """Share of the gap that `policy` closes on one split."""
    (part,) = sit(Spec(name=policy, label=policy), prepared, protocol="pooled", seed=seed, variants={})[
        "parts"
    ].values()
    return float(part["gap_closed"])


def routing(sources: list[str], kind: str, policies: list[str], seeds: int, workers: int) -> dict[str, Any]:
    """{set: {policy: {"gap_closed", "gap_closed_sd", "by_seed"}}} with the encoder `kind`."""
    found: dict[str, Any] = {}
    for source in sources:
        for name, table in load_tables(source):
            prepared = prepare(name, table, encoder=Encoder.named(kind), cache=default_cache(), workers=workers)
            work = [(policy, seed) for policy in policies for seed in range(seeds)]
            shares = Parallel(n_jobs=workers)(delayed(closed)(prepared, *one) for one in work)
            by_policy = np.array(shares).reshape(len(policies), seeds)
            found[name] = {
                policy: {
                    "gap_closed": round(float(own.mean()), 4),
                    "gap_closed_sd": round(float(own.std(ddof=1)), 4),
                    "by_seed": [round(float(share), 4) for share in own],
                }
                for policy, own in zip(policies, by_policy, strict=True)
            }
            print(kind, name, {p: f["gap_closed"] for p, f in found[name].items()}, flush=True)
    return found


def times_ms(kind: str) -> dict[str, float]:
    """The least time for one text, by its length in word pieces."""
    embedder = Encoder.named(kind).build()
    pieces = WordPieces(Table.read(TABLE).vocabulary)
    words = " ".join(json.loads(line)["prompt"] for line in STARTER.read_text("utf-8").splitlines()).split(" ")
    found = {}
    for length in LENGTHS:
        count = next(n for n in range(1, len(words)) if len(pieces.ids(" ".join(words[:n]))) >= length)
        text = [" ".join(words[:count])]
        embedder.embed(text)
        best, until = np.inf, time.monotonic() + 3.0
        while time.monotonic() < until:
            began = time.perf_counter()
            embedder.embed(text)
            best = min(best, time.perf_counter() - began)
        found[str(length)] = round(best * 1000, 4)
    print(kind, "ms", found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", help="outcomes, as for `router-gateway evaluate`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoders", nargs="+", default=["static", "onnx", "onnx-int8", "hashing"])
    parser.add_argument("--policies", nargs="+", default=["linear", "knn", "clusters", "lexical", "stack"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    told = parser.parse_args()
    result = json.loads(told.out.read_text("utf-8")) if told.out.exists() else {"encoders": {}}
    names = " ".join(Path(source).name for source in told.sources)
    result["command"] = f"python -P benchmarks/encoder_choice.py {names} --out docs/results/encoder_choice.json"
    result["seeds"] = told.seeds
    for kind in told.encoders:
        shares = routing(told.sources, kind, told.policies, told.seeds, told.workers)
        result["encoders"][kind] = {"sets": shares, "embed_ms": times_ms(kind)}
        told.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")  # each is kept as it is done


if __name__ == "__main__":
    main()
