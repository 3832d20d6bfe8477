"""The real process learns from feedback while it serves, and knows after a restart what it learned."""

import subprocess

import pytest

from tests.e2e import process, world
from tests.e2e.test_lifecycle import HASHING, ask, eventually
from tests.loopback import http

LEARNING = {"interval_s": 0.1, "rows_min": 3, "settle_s": 0, "held_out_share": 0}


@pytest.fixture
def config(tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    pool = [world.endpoint(name, "replay") for name in world.PRICES]
    return world.write_config(tmp_path, pool, learning=LEARNING, **HASHING)


def say(gateway, method, path, **body):
    headers = {"authorization": f"Bearer {gateway.key}"}
    url = f"{gateway.base_url}/feedback{path}"
    return http.request(method, url, json=body or None, headers=headers, timeout=30).json()


def policy_of(answer):
    name, _, version = answer.headers["x-router-policy"].partition("@")
    return name, int(version)


def learned_by(gateway):
    """Steps in which the policy learned, as /metrics counts them."""
    metrics = http.get(f"{gateway.base_url.removesuffix('/v1')}/metrics", timeout=30).text
    [line] = [line for line in metrics.splitlines() if 'outcome="learned",policy="knn"' in line]
    return float(line.split()[-1])


def test_feedback_changes_the_policy_that_serves_and_outlives_a_kill(tmp_path, config):
    hard = next(each.prompt for each in world.recorded() if each.difficulty == "hard")
    gateway = process.start(tmp_path, "--config", str(config))
    first = [ask(gateway, hard) for _ in range(4)]
    assert {policy_of(answer) for answer in first} == {("knn", 1)}
    [served] = {answer.headers["x-router-model"] for answer in first}
    said = [
        say(gateway, "POST", "", decision_id=answer.headers["x-router-decision-id"], verdict="bad") for answer in first
    ]
    assert eventually(lambda: policy_of(ask(gateway, hard))[1] > 1, within_s=60)
    moved = ask(gateway, hard)
    assert moved.headers["x-router-model"] != served
    assert learned_by(gateway) > 0
    gateway.kill()

    again = process.start(tmp_path, "--config", str(config))
    answer = ask(again, hard)
    assert policy_of(answer)[1] >= policy_of(moved)[1]
    assert answer.headers["x-router-model"] == moved.headers["x-router-model"]
    for each in said:  # it was a misunderstanding
        assert say(again, "DELETE", f"/{each['id']}")["status"] == "revoked"
    assert eventually(lambda: ask(again, hard).headers["x-router-model"] == served, within_s=60)
    assert again.stop() == 0
    assert "Traceback" not in again.errors()


def test_the_verb_learns_and_a_refit_starts_from_the_ledger_as_it_is(tmp_path, config):
    environment = {"ROUTER_GATEWAY__LEARNING__ENABLED": "false"}
    gateway = process.start(tmp_path, "--config", str(config), environment=environment)
    for each in world.recorded()[:5]:
        answer = ask(gateway, each.prompt)
        say(gateway, "POST", "", decision_id=answer.headers["x-router-decision-id"], score=0.5)
    assert gateway.stop() == 0

    def learn(*options):
        command = [process.PROGRAM, "learn", "--config", config, *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout.splitlines()

    assert learn() == (0, ["knn@2: learned", "cheapest@1: unchanged"])
    assert learn() == (0, ["knn@2: waiting", "cheapest@1: unchanged"])
    assert learn("--refit") == (0, ["knn@3: refitted", "cheapest@2: refitted"])
