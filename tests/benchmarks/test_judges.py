"""The parts of benchmarks/judges.py, on outcomes made up here."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from router_gateway.evaluation.benchmark import Benchmark

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "judges.py"


@pytest.fixture(scope="module")
def judges():
    spec = importlib.util.spec_from_file_location("benchmark_judges", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def outcomes():
    rng = np.random.default_rng(1)
    quality = (rng.random((300, 2)) < (0.6, 0.8)).astype(np.float32)
    quality[:5, 0] = np.nan
    shape = quality.shape
    return Benchmark(
        prompts=tuple(map(str, range(300))),
        sample_ids=tuple(map(str, range(300))),
        datasets=("d",) * 300,
        tasks=("t",) * 300,
        splits=(None,) * 300,
        endpoints=("small", "large"),
        quality=quality,
        cost_usd=np.broadcast_to([0.1, 1.0], shape).copy(),
        tokens_input=np.ones(shape),
        tokens_output=np.full(shape, 8.0),
        latency_ms=np.ones(shape),
    )


def test_answers_leave_out_what_nobody_observed(judges, outcomes):
    small, large = judges.answers_of(outcomes)
    assert (len(small.quality), len(large.quality)) == (295, 300)
    assert not np.isnan(small.quality).any()
    assert np.abs(large.length).max() == 0.0


@pytest.mark.parametrize("name", ["sharp", "partial", "length", "hasty", "useless"])
def test_every_judge_gives_scores_and_its_fault_shows(judges, outcomes, name):
    answers = judges.answers_of(outcomes)[1]
    scores = judges.JUDGES[name](np.random.default_rng(2), answers, 1)
    assert scores.shape == answers.quality.shape
    assert scores.min() >= 0.0
    assert scores.max() <= 1.0
    seen = abs(np.corrcoef(scores, answers.quality)[0, 1])
    assert (seen < 0.2) == (name == "useless")


def test_figures_are_json_and_the_judge_alone_misses_what_both_hold(judges, outcomes, monkeypatch):
    monkeypatch.setattr(judges, "_LABELS", (40,))
    monkeypatch.setattr(judges, "_JUDGED", 400)
    found = judges.of_set("made up", outcomes, seeds=20, console=Console(quiet=True))
    told = json.loads(json.dumps(found, allow_nan=False))["judges"]["sharp"]["labels"]["40"]
    assert told["mean"]["both"]["coverage"] > told["mean"]["judge"]["coverage"]
    assert told["mean"]["both"]["intervals"] == 40
    assert told["difference"]["both"]["intervals"] == 20
    assert told["width_of_both_to_labels"] < 0.8
    assert told["error_of_scores"]["corrected"] < told["error_of_scores"]["as_said"]
