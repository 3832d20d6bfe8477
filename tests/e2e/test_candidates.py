"""A candidate through the real process: drafted and tried by the command line, judged bad, taken back by itself."""

import json
import subprocess

import httpx
import pytest

from tests.e2e import process, world
from tests.e2e.test_lifecycle import HASHING, ask, eventually
from tests.loopback import http

LIFECYCLE = {
    "shares": [0.5],
    "blocks_min": 5,
    "window_blocks": 10,
    "margins": {"quality": 0.05, "errors": None, "cost": None, "first_token": None},
    "refresh_s": 0.1,
    "judge_s": 0.2,
}
SESSIONS_MAX = 400


@pytest.fixture
def config(tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    pool = [world.endpoint(name, "replay") for name in world.PRICES]
    return world.write_config(tmp_path, pool, lifecycle=LIFECYCLE, learning={"enabled": False}, **HASHING)


def command(config, *arguments):
    """What the command line says."""
    line = [process.PROGRAM, *arguments, "--config", config]
    done = subprocess.run(line, cwd=config.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rate(gateway, answer, score):
    body = {"decision_id": answer.headers["x-router-decision-id"], "score": score}
    headers = {"authorization": f"Bearer {gateway.key}"}
    said = http.post(f"{gateway.base_url}/feedback", json=body, headers=headers, timeout=30)
    assert said.status_code == 200


def test_a_bad_candidate_is_tried_taken_back_and_remembered(tmp_path, config):
    gateway = process.start(tmp_path, "--config", str(config))
    hard = next(each.prompt for each in world.recorded() if each.difficulty == "hard")
    drafted = command(config, "lifecycle", "draft", "thrifty", "--worth-usd", "1e-9", "--note", "spend nothing")
    assert drafted == "thrifty: draft, for knn, of the configured policy with worth_usd 1e-09\n"
    assert "50% of the traffic" in command(config, "lifecycle", "canary", "thrifty")

    key = command(config, "keys", "create", "operator", "--admin").strip()
    office = httpx.Client(
        base_url=f"{gateway.base_url.removesuffix('/v1')}/admin/api",
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
        trust_env=False,
    )

    def state():
        (row,) = office.get("/lifecycle/candidates").json()["data"]
        return row["state"]

    served = {True: set(), False: set()}
    with office:
        metrics = f"{gateway.base_url.removesuffix('/v1')}/metrics"
        shown = 'router_canary_share{policy="knn"} 0.5'
        assert eventually(lambda: shown in http.get(metrics, timeout=30).text)
        for number in range(SESSIONS_MAX):
            answer = ask(gateway, hard, routing={"session_id": f"session {number}"})
            tried = answer.headers.get("x-router-candidate") == "thrifty"
            served[tried].add(answer.headers["x-router-model"])
            rate(gateway, answer, 0.0 if tried else 1.0)
            if number % 20 == 19 and state() == "rolled_back":
                break
        assert eventually(lambda: state() == "rolled_back", within_s=30)
        assert served == {True: {"small"}, False: {"large"}}
        assert eventually(lambda: "x-router-candidate" not in ask(gateway, hard, routing={"session_id": "s 0"}).headers)

        by_api = office.get("/lifecycle/transitions").json()["data"]
        by_command = json.loads(command(config, "lifecycle", "trail", "--json"))
        assert by_command == by_api
        back, canary, draft = by_api
        assert (back["before"], back["state"], back["author"]) == ("canary", "rolled_back", "gateway")
        assert back["reason"] == "worse:quality"
        (quality,) = back["evidence"]["measures"]
        assert quality["lower"] > quality["margin"] == 0.05
        assert (canary["share"], draft["note"]) == (0.5, "spend nothing")
        assert "quality" in command(config, "lifecycle", "evidence", "thrifty")
        (listed,) = json.loads(command(config, "lifecycle", "list", "--json"))
        assert (listed["state"], listed["reason"]) == ("rolled_back", "worse:quality")
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.errors()
