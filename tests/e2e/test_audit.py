"""A gateway explores and is rated over HTTP; its ledger, on SQLite and PostgreSQL, says whether routing is worth it."""

import concurrent.futures
import json
import subprocess

import numpy as np
import pytest

from tests.e2e import process, world
from tests.e2e.test_lifecycle import HASHING, ask
from tests.loopback import http

ROUNDS = 6  # a third of half of the answers are of one endpoint: twice as many as an estimate asks for


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request, tmp_path):
    """Settings of a ledger."""
    return {} if request.param == "sqlite" else {"ledger": {"url": request.getfixturevalue("postgres_url")}}


def verb(directory, config, name, *options):
    done = subprocess.run(
        [process.PROGRAM, name, "--json", "--config", str(config), *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_an_explored_ledger_is_audited_by_the_installed_program(tmp_path, ledger):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    pool = [world.endpoint(name, "replay") for name in world.PRICES]
    settings = {**HASHING, **ledger, "learning": {"enabled": False}, "worth_usd": 0.01}
    config = world.write_config(tmp_path, pool, rule={"name": "epsilon_greedy", "epsilon": 0.9}, **settings)
    gateway = process.start(tmp_path, "--config", str(config))
    prompts = list(world.recorded())

    def use(number):
        """One request, a session of its own, and its verdict."""
        each = prompts[number % len(prompts)]
        answer = ask(gateway, each.prompt, routing={"session_id": f"s{number}"})
        model, decision = answer.headers["x-router-model"], answer.headers["x-router-decision-id"]
        verdict = "good" if np.random.default_rng(number).random() < scores(each)[model] else "bad"
        body, headers = {"decision_id": decision, "verdict": verdict}, {"authorization": f"Bearer {gateway.key}"}
        url = f"{gateway.base_url}/feedback"
        assert http.post(url, json=body, headers=headers, timeout=30).status_code == 200

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(use, range(ROUNDS * len(prompts))))
    assert gateway.stop() == 0  # what the journal held is in the database now
    code, found = verb(tmp_path, config, "audit", "--policy", "knn@1")
    rows = {row["name"]: row for row in found["rows"]}
    assert code == 0, found["sentence"]
    assert found["traffic"]["rated"] == ROUNDS * len(prompts)
    assert found["verdict"] in ("worth it", "not shown", "harmful")
    truth = {name: np.mean([scores(each)[name] for each in prompts]) for name in world.PRICES}
    for name in world.PRICES:  # half the ledger estimates each; a 95 % interval, doubled, is missed by nobody
        own = rows[name]["quality"]
        assert abs(own["value"] - truth[name]) < own["high"] - own["low"]
    code, found = verb(tmp_path, config, "forecast")
    assert (code, found["as_logged"]) == (3, None)
    assert "0 complete days" in found["refused"], "it began today"


def scores(each):
    return dict(zip(world.PRICES, world._SCORES[each.difficulty], strict=True))
