"""kill -9 in the middle of it all, again and again: whatever was sent upstream is in the ledger afterwards.

The replay server writes down every request's id before it answers (its hit log), and is not killed.
"""

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from router_gateway.ledger.tables import attempts, decisions
from tests.e2e import process, world

_REQUESTS = 200
_LATENCY_MS = 400.0


@contextmanager
def replaying(directory: Path, hit_log: Path) -> Iterator[str]:
    """The replay server as a process of its own; its base URL. It ends when its standard input does."""
    pool = [world.endpoint(name, "replay") for name in world.PRICES]
    (directory / "replay").mkdir()
    outcomes = {"outcomes": str(directory / "outcomes.jsonl"), "speed": 1.0}
    config = world.write_config(directory / "replay", pool, replay=outcomes, training={"outcomes": None})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        command = [process.PROGRAM, "replay", "--config", config, "--hit-log", hit_log, "--fd", str(listener.fileno())]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
    yield url
    server.communicate(timeout=20)


def hits(hit_log: Path) -> list[str]:
    return hit_log.read_text().split() if hit_log.exists() else []


async def ask(client: httpx.AsyncClient, number: int) -> str | None:
    """One request, half of them streams; its decision id if it was answered to the end."""
    prompts = world.recorded()
    messages = [{"role": "user", "content": prompts[number % len(prompts)].prompt}]
    body = {"model": "auto", "messages": messages, "stream": number % 2 == 0}
    try:
        answer = await client.post("/chat/completions", json=body)
    except httpx.TransportError:
        return None
    whole = answer.text.endswith("data: [DONE]\n\n") if body["stream"] else answer.status_code == 200
    return answer.headers["x-router-decision-id"] if whole else None


async def killed_among_requests(gateway: process.GatewayProcess, key: str, hit_log: Path, hits_min: int) -> list[str]:
    """200 requests at once, and kill -9 as soon as `hits_min` of them are upstream; the ids of whole answers."""
    before = len(hits(hit_log))
    limits = httpx.Limits(max_connections=_REQUESTS)
    headers = {"authorization": f"Bearer {key}"}
    options = {"headers": headers, "limits": limits, "timeout": 60, "trust_env": False}
    async with httpx.AsyncClient(base_url=gateway.base_url, **options) as client, asyncio.TaskGroup() as group:
        requests = [group.create_task(ask(client, number)) for number in range(_REQUESTS)]
        deadline = time.monotonic() + 30
        while len(hits(hit_log)) < before + hits_min and time.monotonic() < deadline:
            await asyncio.sleep(0.002)
        gateway.process.kill()
    gateway.wait()
    return [answered for request in requests if (answered := request.result()) is not None]


def check_rows(ledger: world.LedgerRows, sent: list[str], answered: list[str]) -> None:
    """Every decision that was sent has its row, every row is whole, and every attempt its decision."""
    rows, tries = ledger.all(decisions), ledger.all(attempts)
    ids = [str(row["query_id"]) for row in rows]
    assert len(ids) == len(set(ids))
    assert set(sent) <= set(ids)
    assert len(sent) == len(set(sent)), "nothing was sent twice: nothing failed but the gateway itself"
    for row in rows:
        assert set(row["order"]) == set(row["endpoints"]) == set(world.PRICES)
        assert row["endpoint"] == row["order"][0]
        columns = ("endpoints", "quality", "stddev", "cost_usd", "probability", "eligible")
        assert {len(row[name]) for name in columns} == {3}
        assert sum(row["probability"]) == pytest.approx(1.0)
        assert len(row["embedding"]) % 2 == 0
        assert (row["requested_model"], row["tenant"]) == ("auto", "default")
    tried = {str(row["query_id"]): row for row in tries}
    assert len(tried) == len(tries)
    assert set(answered) <= set(tried) <= set(ids)
    assert all(type(row["cost_nusd"]) is int and row["cost_nusd"] > 0 for row in tries)
    # Not in vain: answers, and calls cut off whose attempt could never be written.
    assert answered
    assert set(sent) - set(tried)


async def crash(directory: Path, url: str, *, kills: int, **changes: object) -> None:
    world.write_outcomes(directory / "outcomes.jsonl", latency_ms=_LATENCY_MS)
    hit_log, answered, key = directory / "hits.log", [], ""
    ledger = world.LedgerRows(url)
    with replaying(directory, hit_log) as upstream:
        pool = [world.endpoint(name, upstream) for name in world.PRICES]
        server = {"port": 0, "routing_deadline_ms": 20_000}
        options = {"embedder": {"kind": "hashing"}, "ledger": {"url": url}, "server": server, **changes}
        config = world.write_config(directory, pool, **options)
        for kill in range(kills):
            gateway = process.start(directory, "--config", str(config))
            key = key or gateway.key
            hits_min = 20 + kill * 160 // kills  # early, when most are still being decided; late, when some are done
            answered += await killed_among_requests(gateway, key, hit_log, hits_min)
        gateway = process.start(directory, "--config", str(config))
        async with httpx.AsyncClient(base_url=gateway.base_url, trust_env=False) as client:
            client.headers["authorization"] = f"Bearer {key}"
            last = await ask(client, 1)
            assert last is not None, "it still works"
            answered.append(last)
        assert gateway.stop() == 0
    sent = hits(hit_log)
    assert len(sent) > kills * 20
    assert list((directory / "state" / "journal").iterdir()) == [], "drained, nothing set aside"
    check_rows(ledger, sent, answered)
    assert "Traceback" not in gateway.errors()


async def test_nothing_sent_is_lost_on_sqlite(tmp_path):
    await crash(tmp_path, f"sqlite:///{tmp_path}/ledger.db", kills=10)


@pytest.mark.postgres
async def test_nothing_sent_is_lost_on_postgres(tmp_path, postgres_url):
    await crash(tmp_path, postgres_url, kills=3)
