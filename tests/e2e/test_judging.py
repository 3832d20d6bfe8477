"""Answers are checked and judged by the installed program, and the truth puts the judge right."""

import json
import os
import subprocess

import pytest

from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.ledger.tables import attempts, budget_windows, decisions, judgements
from tests.e2e import process, upstream, world
from tests.e2e.test_lifecycle import HASHING, eventually
from tests.loopback import http

REQUESTS = 24


def ask(gateway, number):
    """Every other answer is what its check wants; every third one is streamed."""
    said = f"ping {number}"
    verify = {"kind": "exact", "answer": f"heard: {said}" if number % 2 else "silence"}
    body = {"model": "good", "messages": [{"role": "user", "content": said}], "routing": {"verify": verify}}
    headers = {"authorization": f"Bearer {gateway.key}"}
    body["stream"] = number % 3 == 0
    answer = http.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200
    return answer


def told(directory, config, *arguments):
    done = subprocess.run(
        [process.PROGRAM, "report", *arguments, "--config", str(config)],
        cwd=directory,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def metric(gateway, name):
    text = http.get(f"{gateway.base_url.removesuffix('/v1')}/metrics", timeout=30).text
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)


def test_checks_and_judges_run_beside_the_requests_and_are_reported(tmp_path):
    with upstream.providing() as provider:
        pool = [world.endpoint("good", provider.base_url("good")), world.endpoint("wise", provider.base_url("judging"))]
        judging = {"judges": ["wise"], "share": 1.0, "usd_per_day": 0.5, "queue_max": REQUESTS}
        settings = {"default_endpoint": "good", "training": {"outcomes": None}, "judging": judging, **HASHING}
        config = world.write_config(tmp_path, pool, **settings)
        gateway = process.start(tmp_path, "--config", str(config))
        for number in range(REQUESTS):
            ask(gateway, number)
        assert eventually(lambda: metric(gateway, 'router_judgements_total{outcome="scored"}') == REQUESTS, 60)
        assert eventually(lambda: metric(gateway, 'router_verifications_total{outcome="passed"}') == REQUESTS / 2, 60)
        assert gateway.stop() == 0
    assert all("routing" not in body for body in provider.bodies["good"])
    ledger = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")
    said = ledger.feedback()
    assert sorted(row["source"] for row in said) == ["judge"] * REQUESTS + ["verifier"] * REQUESTS
    assert sum(row["quality"] for row in said if row["source"] == "verifier") == REQUESTS / 2
    assert {row["judge"] for row in ledger.all(judgements)} == {"wise"}
    ours = {row["query_id"] for row in ledger.all(decisions) if row["tenant"] == JUDGING_TENANT}
    paid = [row["cost_nusd"] for row in ledger.all(attempts) if row["query_id"] in ours]
    assert len(paid) == len(provider.bodies["judging"]) == REQUESTS
    windows = ledger.all(budget_windows)  # of the day's budget for judging; two where midnight came between
    assert sum(row["spent_nusd"] for row in windows) == sum(paid)
    assert {row["reserved_nusd"] for row in windows} == {0}

    report = json.loads(told(tmp_path, config, "judges", "--json"))
    [good] = report["endpoints"]
    assert (good["labels"]["value"], good["judged"]["value"]) == (0.5, pytest.approx(0.8))
    assert good["powered"]["value"] == 0.5
    [wise] = report["judges"]
    assert wise["bias"]["value"] == pytest.approx(0.3)
    assert JUDGING_TENANT in told(tmp_path, config, "--by", "tenant")
