"""What the command line says without serving."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from router_gateway import config
from router_gateway.brain import Brain, build_endpoints
from router_gateway.core.errors import NotFitted, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.evaluation.replay import query_of
from router_gateway.verbs.checking import explain_prompt

WRAPPED = (
    "<system-reminder>Be careful with the files of this project.</system-reminder>What is the capital of Australia?"
)


@contextmanager
def silence(label):
    yield lambda done, total: None


@pytest.fixture
def loaded(tmp_path):
    prices = {"price_input_usd_per_mtok": 1, "price_output_usd_per_mtok": 2, "context_tokens_max": 8000}
    outcomes = tmp_path / "outcomes.jsonl"
    rows = [
        {"dataset": "d", "task": "t", "sample_id": f"q{i}", "prompt": f"question {i}", "model": name, "score": score}
        for i in range(4)
        for name, score in (("a", 0.2), ("b", 0.9))
    ]
    outcomes.write_text("\n".join(map(json.dumps, rows)))
    endpoints = [{"name": name, "model": name, "base_url": "http://127.0.0.1:1/v1", **prices} for name in ("a", "b")]
    file = tmp_path / "gateway.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "state_dir": str(tmp_path / "state"),
                "embedder": {"kind": "hashing"},
                "policy": {"name": "knn", "params": {"k": 2}},
                "training": {"outcomes": str(outcomes)},
                "default_endpoint": "a",
                "endpoints": endpoints,
            }
        )
    )
    return config.load(file)


def test_a_prompt_is_explained_as_a_request_would_be_decided(loaded):
    brain = Brain(config=loaded, endpoints=build_endpoints(loaded))
    brain.load(silence)
    decision, _ = explain_prompt(loaded, WRAPPED, policy=None, worth_usd=None, progress=silence)
    query = query_of(WRAPPED, uuid7())
    assert query.text == "What is the capital of Australia?"
    live = brain.routers()["knn"].route([query], brain.embedder.embed([query.text]))[0]
    for name in ("endpoint", "order", "cost_usd", "quality", "stddev", "probability"):
        np.testing.assert_array_equal(getattr(decision, name), getattr(live, name))


def test_explaining_learns_nothing_and_writes_nothing(loaded, tmp_path):
    with pytest.raises(NotFitted, match="has learned nothing yet"):
        explain_prompt(loaded, "hello", policy=None, worth_usd=None, progress=silence)
    assert not (tmp_path / "state").exists()


def test_a_policy_that_is_not_configured_is_refused(loaded):
    with pytest.raises(RequestError, match="there are knn"):
        explain_prompt(loaded, "hello", policy="cheapest", worth_usd=None, progress=silence)
