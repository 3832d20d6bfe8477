"""What tuning the encoder on outcomes buys, in three steps, so that only the second needs a GPU.

    python -P benchmarks/tuned_encoder.py gather --tables ../shared/data --to work/data.json.gz
    python -P benchmarks/tuned_encoder.py tune --data work/data.json.gz --model FOLDER --to work --device cuda
    python -P benchmarks/tuned_encoder.py judge --tables ../shared/data --vectors work --to docs/results/encoder.json

Three encoders are compared on cascades and fourtier, seed by seed on the splits of `router-gateway evaluate`: `frozen`;
`other sets`, tuned once on the outcomes of mmlu_pro and seven_by_7b, whose prompts and endpoints are others; and
`own train`, that one tuned further on the training prompts of each split. No test outcome is learned from. The
settings were chosen by threefold cross-validation inside the split `train` of cascades and the validation part of
paretobandit.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import platform
import sys
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway.embedding.finetune import Tuning, tune
from router_gateway.evaluation.backends import run_all
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.protocols import TRAIN_SHARE
from router_gateway.evaluation.replay import query_ids, query_of
from router_gateway.evaluation.sitting import Spec, sit, sit_references
from router_gateway.evaluation.splits import partition

JUDGED = ("cascades", "fourtier")
ELSEWHERE = ("mmlu_pro", "seven_by_7b")
ENCODERS = ("frozen", "other sets", "own train")
SEEDS = 10
FIRST = Tuning(epochs=2, batch=128, rate=5e-5, endpoints_weight=0.1)
THEN = Tuning(epochs=4, batch=64, rate=5e-5, endpoints_weight=0.1, kinds_weight=0.2)
POLICIES = ("best_on_average", "knn", "linear", "clusters", "lexical", "forest", "stack")


def gather(tables: Path, to: Path) -> None:
    """Prompts as the gateway reads them, outcomes, and the training rows of every seed."""
    gathered: dict[str, Any] = {}
    for name in (*JUDGED, *ELSEWHERE):
        [(_, table)] = load_tables(str(tables / f"{name}.parquet"))
        table = replace(table, responses=None).deduplicated()
        quality = [[None if np.isnan(q) else float(q) for q in row] for row in table.quality]
        gathered[name] = {"texts": _texts(tables, name), "quality": quality, "train": {}}
        for seed in range(SEEDS):
            train, _ = partition(table, (TRAIN_SHARE, 1 - TRAIN_SHARE), seed=seed)
            gathered[name]["train"][seed] = train.tolist()
        print(f"{name}: {len(table)} prompts", flush=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(to, "wt", encoding="utf-8") as file:
        json.dump(gathered, file)


def tune_all(data: Path, model: str, to: Path, device: str, processes: int) -> None:
    """The vectors of every judged prompt in every encoder's space, float16: `SET-ENCODER-SEED.npy`."""
    with gzip.open(data, "rt", encoding="utf-8") as file:
        gathered = json.load(file)
    to.mkdir(parents=True, exist_ok=True)
    first = to / "encoder"
    tables = [_outcomes(gathered[name]["quality"]) for name in ELSEWHERE]
    width = sum(table.shape[1] for table in tables)
    stacked, column = [], 0
    for table in tables:
        wide = np.full((len(table), width), np.nan, dtype=np.float32)
        wide[:, column : column + table.shape[1]] = table
        stacked.append(wide)
        column += table.shape[1]
    texts = [text for name in ELSEWHERE for text in gathered[name]["texts"]]
    tune(model, texts, np.concatenate(stacked), first, tuning=FIRST, device=device)
    print("tuned on the other sets", flush=True)
    jobs: list[tuple[Any, ...]] = []
    for name in JUDGED:
        quality = gathered[name]["quality"]
        jobs.append((name, "other", None, str(first), gathered[name]["texts"], quality, [], to, device))
        for seed, train in gathered[name]["train"].items():
            jobs.append((name, "own", int(seed), str(first), gathered[name]["texts"], quality, train, to, device))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for told in pool.imap_unordered(_one, jobs):
            print(told, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """One set and seed, judged on every encoder's vectors, which lie in the folder `vectors`."""

    frozen: Prepared
    vectors: Path
    seed: int


def judge(tables: Path, vectors: Path, to: Path, processes: int) -> None:
    """Every policy under the protocol `pooled` on each encoder's vectors; means and deviations over seeds."""
    found: dict[str, Any] = {}
    for name in JUDGED:
        [(_, table)] = load_tables(str(tables / f"{name}.parquet"))
        frozen = prepare(name, table, encoder=Encoder(kind="onnx"), cache=default_cache(), workers=processes)
        sittings = [Sitting(frozen=frozen, vectors=vectors, seed=seed) for seed in range(SEEDS)]
        judged = dict(run_all(_judged, sittings, workers=processes))
        print(f"{name}: judged", file=sys.stderr, flush=True)
        rows = {
            encoder: {policy: [judged[seed][encoder][policy] for seed in range(SEEDS)] for policy in POLICIES}
            for encoder in ENCODERS
        }
        found[name] = {e: {p: _summed(figures) for p, figures in own.items()} for e, own in rows.items()}
        for encoder, own in rows.items():
            if encoder != "frozen":
                for policy, figures in own.items():
                    found[name][encoder][policy] |= _against(figures, rows["frozen"][policy])
    packages = ("onnxruntime", "sentence-transformers", "numpy", "scikit-learn")
    result = {
        "command": "python -P benchmarks/tuned_encoder.py gather | tune | judge",
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "seeds": SEEDS,
        "first": asdict(FIRST),
        "then": asdict(THEN),
        "sets": found,
    }
    to.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _judged(sitting: Sitting) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by encoder and policy."""
    frozen, seed = sitting.frozen, sitting.seed
    bounds = sit_references(frozen, protocol="pooled", seed=seed)["tests"][""]
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for encoder in ENCODERS:
        own = frozen if encoder == "frozen" else _moved(frozen, sitting.vectors, encoder, seed)
        for policy in POLICIES:
            part = sit(Spec(name=policy, label=policy), own, protocol="pooled", seed=seed, variants={})
            figures = part["parts"][""]
            rows.setdefault(encoder, {})[policy] = {
                "gap_closed": figures["gap_closed"],
                "over_zero": figures["aiq"] - bounds["zero_aiq"],
                "brier": figures["calibration"]["brier"],
            }
    return rows


def _one(job: tuple[Any, ...]) -> str:
    name, encoder, seed, model, texts, quality, train, to, device = job
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(2)
    folder = model
    if seed is not None:
        folder = str(to / f"tuned-{name}-{seed}")
        outcomes = _outcomes(quality)[train]
        tune(model, [texts[i] for i in train], outcomes, Path(folder), tuning=THEN, device=device)
    reader = SentenceTransformer(folder, device=device)
    reader.tokenizer.truncation_side = "left"
    vectors = reader.encode(texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False)
    place: Path = to / f"{name}-{encoder}{'' if seed is None else f'-{seed}'}.npy"
    np.save(place, vectors.astype(np.float16))
    return place.name


def _texts(tables: Path, name: str) -> list[str]:
    """What is embedded of each prompt."""
    [(_, table)] = load_tables(str(tables / f"{name}.parquet"))
    table = replace(table, responses=None).deduplicated()
    if name in ELSEWHERE:
        return list(table.prompts)  # plain text: what is read of it is all of it
    ids = query_ids(table)
    return [query_of(prompt, own).text for prompt, own in zip(table.prompts, ids, strict=True)]


def _moved(frozen: Prepared, vectors: Path, encoder: str, seed: int) -> Prepared:
    """The same set, embedded by another encoder."""
    place = f"{frozen.name}-other.npy" if encoder == "other sets" else f"{frozen.name}-own-{seed}.npy"
    embedding = np.load(vectors / place).astype(np.float32)
    return replace(frozen, embedding=embedding, space=f"{frozen.space}/{place}")


def _outcomes(quality: list[list[float | None]]) -> Any:
    return np.array([[np.nan if q is None else q for q in row] for row in quality], dtype=np.float32)


def _summed(figures: list[dict[str, float]]) -> dict[str, float]:
    told: dict[str, float] = {}
    for key in figures[0]:
        values = np.array([one[key] for one in figures])
        told |= {key: float(values.mean()), f"{key}_sd": float(values.std(ddof=1))}
    return told


def _against(figures: list[dict[str, float]], frozen: list[dict[str, float]]) -> dict[str, float]:
    """How much more of the gap than with the frozen encoder, seed by seed."""
    gained = np.array([a["gap_closed"] - b["gap_closed"] for a, b in zip(figures, frozen, strict=True)])
    return {
        "gap_closed_gained": float(gained.mean()),
        "gap_closed_gained_sd": float(gained.std(ddof=1)),
        "gap_closed_gained_min": float(gained.min()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    for step in ("gather", "tune", "judge"):
        own = steps.add_parser(step)
        own.add_argument("--to", type=Path, required=True)
        if step != "gather":
            own.add_argument("--processes", type=int, default=1)
        if step == "tune":
            own.add_argument("--data", type=Path, required=True)
            own.add_argument("--model", required=True)
            own.add_argument("--device", default="cpu")
        else:
            own.add_argument("--tables", type=Path, default=Path("../shared/data"))
        if step == "judge":
            own.add_argument("--vectors", type=Path, required=True)
    asked = parser.parse_args()
    if asked.step == "gather":
        gather(asked.tables, asked.to)
    elif asked.step == "tune":
        tune_all(asked.data, asked.model, asked.to, asked.device, asked.processes)
    else:
        judge(asked.tables, asked.vectors, asked.to, asked.processes)


if __name__ == "__main__":
    main()
