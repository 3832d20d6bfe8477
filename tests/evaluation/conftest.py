import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare

ROW = {
    "dataset": "made-up",
    "task": "sums",
    "sample_id": "q1",
    "split": "train",
    "prompt": "one plus one?",
    "model": "small",
    "score": 1.0,
    "cost_usd": 0.001,
    "input_tokens": 4,
    "output_tokens": 2,
    "latency_ms": 12.5,
    "response": "two",
}


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Two queries and two models; the second query lacks what may be lacking."""
    second = ROW | {"sample_id": "q2", "split": None, "prompt": 'a "quoted", broken\nline: ü', "response": None}
    return [
        ROW,
        ROW | {"model": "large", "cost_usd": 0.02, "score": 0.5},
        second | {"score": 0.0, "latency_ms": None},
        second | {"model": "large", "cost_usd": None, "input_tokens": None, "score": 0.25},
    ]


@pytest.fixture
def benchmark_of() -> Callable[..., Benchmark]:
    """Builds a Benchmark from quality and cost tables alone."""

    def build(quality: Any, cost_usd: Any, *, endpoints: Any = None, prompts: Any = None, **more: Any) -> Benchmark:
        quality, cost_usd = np.asarray(quality, dtype=np.float32), np.asarray(cost_usd, dtype=np.float64)
        count, width = quality.shape
        unknown = np.full((count, width), np.nan)
        fields = {
            "prompts": tuple(prompts or (f"prompt {i}" for i in range(count))),
            "sample_ids": tuple(f"q{i}" for i in range(count)),
            "datasets": ("made-up",) * count,
            "tasks": ("sums",) * count,
            "splits": (None,) * count,
            "endpoints": tuple(endpoints or (f"model-{j}" for j in range(width))),
            "quality": quality,
            "cost_usd": cost_usd,
            "tokens_input": unknown,
            "tokens_output": unknown,
            "latency_ms": unknown,
        }
        return Benchmark(**(fields | more))

    return build


TOPICS = {
    "sums": "add these numbers and give the total of the sum",
    "poems": "write a rhyming poem about the quiet sea at night",
    "laws": "explain which statute the court must apply in this case",
}


@pytest.fixture
def world() -> Callable[..., list[dict[str, Any]]]:
    """Rows of a made world whose tasks differ in words and whose endpoints differ in what they can do.

    Three tasks; `small` is right about sums, `middle` about sums and poems, `large` about nearly everything at
    ten times the price; `extra` further endpoints are right half of the time.
    """

    def build(queries: int = 90, extra: int = 0, *, seed: int = 0, costs: bool = True) -> list[dict[str, Any]]:
        rng = np.random.default_rng(seed)
        chances = {
            "small": {"sums": 0.95, "poems": 0.1, "laws": 0.1},
            "middle": {"sums": 0.9, "poems": 0.9, "laws": 0.1},
            "large": {"sums": 0.9, "poems": 0.9, "laws": 0.95},
            **{f"extra-{i}": dict.fromkeys(TOPICS, 0.5) for i in range(extra)},
        }
        prices = {"small": 1e-4, "middle": 3e-4, "large": 1e-3} | {f"extra-{i}": 2e-4 + 1e-5 * i for i in range(extra)}
        made = []
        for i in range(queries):
            task = list(TOPICS)[i % len(TOPICS)]
            words = " ".join(f"item{n}" for n in rng.integers(0, 40, size=6))
            for model, chance in chances.items():
                row = {
                    "dataset": "made-up",
                    "task": task,
                    "sample_id": f"q{i}",
                    "prompt": f"{TOPICS[task]}: {words} {i}",
                    "model": model,
                    "score": float(rng.random() < chance[task]),
                }
                if costs:
                    row["cost_usd"] = prices[model] * float(rng.uniform(0.8, 1.2))
                made.append(row)
        return made

    return build


@pytest.fixture
def outcome_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as JSON lines and returns the file."""

    def write(rows: list[dict[str, Any]], name: str = "made.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def prepared_of(tmp_path: Path, outcome_file: Callable[..., Path]) -> Callable[..., Prepared]:
    """A set made ready from rows, with the hashing embedder."""

    def build(rows: list[dict[str, Any]], name: str = "made") -> Prepared:
        [(_, table)] = load_tables(str(outcome_file(rows, f"{name}.jsonl")))
        return prepare(name, table, encoder=Encoder(kind="hashing"), cache=tmp_path / "vectors")

    return build
