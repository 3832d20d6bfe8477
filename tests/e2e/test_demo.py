"""`router-gateway serve --demo` on a machine that has never seen it, and its own words followed to the letter."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from router_gateway.ledger.tables import attempts, decisions
from tests.e2e import process, world

MODELS = {"llama-3.1-8b-instruct", "mistral-large-2512", "gemini-2.5-pro"}


@pytest.mark.timeout(900)  # a minute on two idle cores; most of it embeds the 1,785 training prompts
@pytest.mark.skipif(importlib.util.find_spec("pareto_bandit") is None, reason="needs the demo's data: paretobandit")
def test_the_demo_does_what_it_prints(tmp_path):
    gateway = process.start(tmp_path, "--demo", environment={"ROUTER_GATEWAY__SERVER__PORT": "0"})
    try:
        curl = "\n".join(gateway.lines[gateway.lines.index("Try it with curl:") + 1 :][:3])
        answer = json.loads(run(tmp_path, ["sh", "-c", curl]))
        told = answer["choices"][0]["message"]["content"]
        assert told.startswith("[replay of ")

        start = next(i for i, line in enumerate(gateway.lines) if line.startswith("from openai import"))
        snippet = gateway.lines[start : gateway.lines.index("", start)]
        printed = run(tmp_path, [sys.executable, "-P", "-c", "\n".join(snippet)])
        assert "[replay of " in printed
    finally:
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.errors()
    ledger = world.LedgerRows(f"sqlite:///{tmp_path}/.router-gateway/ledger.db")
    rows = ledger.all(decisions)
    assert len(rows) == 2
    assert {row["policy"] for row in rows} == {"knn@1"}
    assert {row["endpoint"] for row in rows} <= MODELS
    assert all(0 < row["propensity"] <= 1 for row in rows)
    assert [row["status"] for row in ledger.all(attempts)] == [200, 200]

    again = process.start(tmp_path, "--demo", environment={"ROUTER_GATEWAY__SERVER__PORT": "0"})
    assert again.key == gateway.key
    assert again.stop() == 0


def run(directory, command):
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "HOME": str(directory)}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
