from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from router_gateway.evaluation.benchmark import Benchmark

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
