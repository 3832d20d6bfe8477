"""A budget from the command line to the 402, and over a kill: with the installed program."""

import concurrent.futures
import os
import subprocess

from router_gateway.ledger.tables import attempts, budget_windows
from tests.e2e import process, upstream, world
from tests.loopback import http

LIMIT_NUSD = 5_000_000


def verb(directory, config, *arguments):
    done = subprocess.run(
        [process.PROGRAM, "budgets", *arguments, "--config", str(config)],
        cwd=directory,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def ask(gateway, key):
    body = {"model": "good", "messages": [{"role": "user", "content": "count"}], "max_completion_tokens": 100}
    headers = {"authorization": f"Bearer {key}"}
    return http.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=60)


def test_a_budget_holds_through_parallel_requests_and_a_kill(tmp_path):
    with upstream.providing() as provider:
        pool = [world.endpoint("good", provider.base_url("good"))]
        settings = {"default_endpoint": "good", "training": {"outcomes": None}, "embedder": {"kind": "hashing"}}
        config = world.write_config(tmp_path, pool, **settings)
        assert "0.005000 USD" in verb(tmp_path, config, "set", "$0.005", "--per", "month")
        gateway = process.start(tmp_path, "--config", str(config))
        key = gateway.key
        try:
            with concurrent.futures.ThreadPoolExecutor(8) as threads:
                first = list(threads.map(lambda _: ask(gateway, key), range(4)))
        finally:
            gateway.kill()
        gateway = process.start(tmp_path, "--config", str(config))
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            rest = list(threads.map(lambda _: ask(gateway, key), range(100)))
        assert gateway.stop() == 0
        answered = [each for each in (*first, *rest) if each.status_code == 200]
        refused = [each for each in rest if each.status_code == 402]
        assert len(answered) + len(refused) == 104
        assert refused[0].json()["error"]["code"] == "budget_exceeded"
        assert "gateway, per month" in refused[0].json()["error"]["message"]
        assert refused[0].headers["x-should-retry"] == "false"
        assert len(provider.bodies["good"]) == len(answered)
        ledger = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")
        spent = sum(row["cost_nusd"] for row in ledger.all(attempts))
        (window,) = ledger.all(budget_windows)
        assert 0 < spent <= LIMIT_NUSD
        # What the kill left set aside, if it did, is not lost: it expires and is then settled by the attempts.
        assert window["spent_nusd"] <= spent
        assert window["spent_nusd"] + window["reserved_nusd"] >= spent
        assert "gateway, per month" in verb(tmp_path, config, "list")
