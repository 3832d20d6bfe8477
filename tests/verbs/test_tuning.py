"""`router-gateway tune`, from the console script's entry to its exit status."""

import json
from functools import partial

import numpy as np
import pytest
import yaml

from router_gateway.verbs.tuning import NOT_CERTIFIED

CONFIG = """
embedder: {kind: hashing}
policy: {name: knn, params: {k: 5}}
other_policies: [{name: best_on_average, params: {}}]
guard: {z: 0.5}
default_endpoint: large
endpoints:
  - {name: small, model: m-small, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 0.1, price_output_usd_per_mtok: 0.4}
  - {name: large, model: m-large, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 2.5, price_output_usd_per_mtok: 10}
"""


@pytest.fixture
def run(console, monkeypatch, tmp_path):
    """`run(*arguments)`: what `router-gateway tune` did, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return partial(console, "tune")


@pytest.fixture
def outcomes(tmp_path):
    """Recorded outcomes: `large` answers nearly everything, `small` nearly only sums."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(600):
        for model, cost_usd in (("small", 0.0001), ("large", 0.005)):
            sums = number % 2 == 0
            prompt = f"What is the sum of {number} and two?" if sums else f"Summarise clause {number} of this contract."
            row = {"dataset": "made", "task": "t", "sample_id": str(number), "prompt": prompt, "model": model}
            row |= {"score": float(rng.random() < (0.95 if sums or model == "large" else 0.2)), "cost_usd": cost_usd}
            row |= {"input_tokens": 10, "output_tokens": 100, "split": "train" if number < 300 else "test"}
            lines.append(json.dumps(row) + "\n")
    path = tmp_path / "outcomes.jsonl"
    path.write_text("".join(lines))
    return path


def failed(result, *told):
    """The verb failed with a message: exit status 1, no traceback, nothing on stdout."""
    code, out, err = result
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert "error: " in err
    for text in told:
        assert text in err


def test_it_picks_a_dial_says_what_it_promises_and_prints_settings(run, outcomes, tmp_path):
    code, out, _ = run(outcomes, "--quality-floor", 0.85, "--embedder", "hashing", "--out", "found.json")
    assert code == 0
    assert (
        "expected quality is at least 0.85 times that of large, the best single endpoint, with 90 % confidence" in out
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert out.startswith(f"worth_usd = {found['worth_usd']:.4g}: ")
    assert found["estimates"]["saving"] > 0.2
    pasted = yaml.safe_load(out.partition("\n\n")[2])
    assert pasted == {"policy": {"name": "clusters", "params": {}}, "worth_usd": found["worth_usd"]}
    assert found["queries_fitted"] + found["queries_calibrated"] == 600


def test_a_configuration_brings_its_policy_its_prices_and_its_pool(run, outcomes, tmp_path):
    (tmp_path / "own.yaml").write_text(CONFIG)
    where = ["--config", "own.yaml", "--fit-on", f"{outcomes}:train", "--quality-floor", "0.8", "--out", "found.json"]
    code, _, _ = run(f"{outcomes}:test", *where)
    found = json.loads((tmp_path / "found.json").read_text())
    assert code == 0
    assert found["policy"] == {"name": "knn", "params": {"k": 5}}
    assert (found["queries_fitted"], found["queries_calibrated"]) == (300, 300)
    assert found["best_single"]["cost_usd"] == pytest.approx((10 * 2.5 + 100 * 10) * 1e-6)
    run(f"{outcomes}:test", *where, "--policy", "best_on_average")
    other = json.loads((tmp_path / "found.json").read_text())
    assert other["policy"] == {"name": "best_on_average", "params": {}}
    assert other["estimates"]["cost_usd"] > found["estimates"]["cost_usd"]


def test_the_configured_cost_model_decides_what_a_dial_means(run, outcomes, tmp_path):
    """`large` answers sums in three tokens: to a model that knows it they are cheap there, to a mean they are not."""
    rows = [json.loads(line) for line in outcomes.read_text().splitlines()]
    short = [row | {"output_tokens": 3} if row["model"] == "large" and "sum" in row["prompt"] else row for row in rows]
    outcomes.write_text("".join(json.dumps(row) + "\n" for row in short))
    found = {}
    for model in ("constant", "learned"):
        (tmp_path / "own.yaml").write_text(f"{CONFIG}cost_model: {model}\n")
        code, _, _ = run(outcomes, "--config", "own.yaml", "--quality-floor", "0.8", "--out", "found.json")
        assert code == 0
        found[model] = json.loads((tmp_path / "found.json").read_text())["worth_usd"]
    assert found["constant"] != found["learned"]


def test_a_promise_that_cannot_be_made_has_its_own_exit_status(run, outcomes, tmp_path):
    code, out, _ = run(outcomes, "--quality-floor", 1, "--of", "oracle", "--embedder", "hashing", "--out", "no.json")
    assert code == NOT_CERTIFIED
    assert out.startswith("Not certified: ")
    assert "policy:" not in out
    read = json.loads((tmp_path / "no.json").read_text())
    assert (read["certified"], read["worth_usd"]) == (False, None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--quality-floor", "-1"], "quality floor"),
        (["--confidence", "1"], "confidence"),
        (["--fit-share", "0"], "share to fit on"),
        (["--of", "huge"], "best-single, oracle, absolute, small, large"),
        (["--policy", "knm"], "did you mean 'knn'?"),
        (["--embedder", "magic"], "static, onnx, onnx-int8, sentence and hashing"),
        (["--fit-on", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--out", "nowhere/found.json"], "nowhere/found.json: No such file"),
    ],
)
def test_a_mistake_is_a_message(run, outcomes, arguments, told):
    code, _, err = run(outcomes, "--embedder", "hashing", *arguments)
    assert code == 1
    assert "Traceback" not in err
    assert told in err


def test_a_source_that_cannot_be_read_is_a_message(run, outcomes, tmp_path):
    failed(run("nowhere.jsonl"), "nowhere.jsonl: no such file")
    failed(run("paretobandit", "--embedder", "hashing"), "paretobandit:val")
    lines = outcomes.read_text().splitlines()
    outcomes.write_text("\n".join(["{", json.dumps(json.loads(lines[1]) | {"score": 7}), *lines[2:]]))
    failed(run(outcomes, "--embedder", "hashing"), "outcomes.jsonl:1:", "outcomes.jsonl:2:")
