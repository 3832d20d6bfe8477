"""`train encoder` as a user runs it; `train FILE` is tested beside the rest of the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from router_gateway.embedding.onnx import OnnxEmbedder

QUICK = ("--epochs", "1", "--batch", "8", "--device", "cpu")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "router_gateway.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture
def outcomes(tmp_path) -> Path:
    rows = [
        {"dataset": "d", "task": "t", "sample_id": str(n), "prompt": f"question {n}", "model": model, "score": score}
        for n in range(10)
        for model, score in (("small", n % 2), ("large", 1))
    ]
    path = tmp_path / "outcomes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_encoder_is_tuned_written_and_can_be_loaded(outcomes, tmp_path):
    done = run("train", "encoder", outcomes, "--out", tmp_path / "mine", *QUICK)
    assert done.returncode == 0, done.stderr
    assert f"model: {tmp_path / 'mine'}" in done.stdout
    tuned = OnnxEmbedder(str(tmp_path / "mine"), threads=1)
    assert np.isfinite(tuned.embed(["question 3"])).all()
    again = run("train", "encoder", outcomes, "--out", tmp_path / "mine", *QUICK)
    assert again.returncode != 0
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.parquet", "--out", "x"], "no such file"),
        (["{outcomes}", "--out", "x", "--rate", "0.5"], "--rate 0.5: must lie in"),
        (["{outcomes}", "--out", "x", "--epochs", "0"], "--epochs"),
    ],
)
def test_mistakes_are_told_before_anything_is_learned(outcomes, arguments, said):
    done = run("train", "encoder", *(a.format(outcomes=outcomes) for a in arguments))
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_both_things_that_can_be_trained():
    told = run("train", "--help").stdout
    assert "policies" in told
    assert "encoder" in told
