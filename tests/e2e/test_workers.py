"""Several workers on one socket: all answer, a dead one is replaced, the ledger and the metrics are of all."""

import asyncio
import os
import signal
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from router_gateway.ledger.tables import decisions
from tests.e2e import process, upstream, world

_WORKERS = 3
_REQUESTS = 60
_WAIT_S = 120.0


@pytest.fixture
def gateway(tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    with upstream.providing() as provider:
        pool = [world.endpoint(name, provider.base_url("good")) for name in world.PRICES]
        server = {"port": 0, "workers": _WORKERS, "routing_deadline_ms": 20_000}
        embedder = {"kind": "hashing"}
        config = world.write_config(tmp_path, pool, server=server, embedder=embedder)
        started = process.start(tmp_path, "--config", str(config))
        yield started
        if started.process.poll() is None:
            started.stop()


async def ask_many(gateway, count):
    """`count` requests on connections of their own; the statuses."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "Which is the largest planet?"}]}
    headers = {"authorization": f"Bearer {gateway.key}"}
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=headers, limits=limits, trust_env=False) as client:
        answers = await asyncio.gather(*(client.post("/chat/completions", json=body, timeout=60) for _ in range(count)))
    return [answer.status_code for answer in answers]


def scraped(gateway):
    return samples(httpx.get(gateway.base_url.removesuffix("/v1") + "/metrics", trust_env=False, timeout=60).text)


def samples(text):
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def left(directory):
    """What the workers have left in their folder; what a killed one did not leave yet is lost."""
    texts = [path.read_text() for path in directory.glob("state/workers-*/*.now")]
    return sum(answered(samples(text)) for text in texts)


def answered(found):
    return sum(sample.value for sample in found if sample.name == "router_requests_total")


def seats(found):
    return {sample.labels["worker"] for sample in found if "worker" in sample.labels}


def until(true):
    deadline_s = time.monotonic() + _WAIT_S
    while not (found := true()):
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    return found


def test_they_answer_as_one_are_replaced_when_they_die_and_end_together(gateway, tmp_path):
    until(lambda: seats(scraped(gateway)) == {"0", "1", "2"})
    assert asyncio.run(ask_many(gateway, _REQUESTS)) == [200] * _REQUESTS
    until(lambda: left(tmp_path) == _REQUESTS)
    assert answered(scraped(gateway)) == _REQUESTS

    first = set(gateway.children())
    assert len(first) == _WORKERS
    killed = min(first)  # the one that announced, to a test that has stopped reading
    os.kill(killed, signal.SIGKILL)
    assert asyncio.run(ask_many(gateway, _REQUESTS)) == [200] * _REQUESTS  # the others go on at once
    second = until(lambda: (now := set(gateway.children())) and len(now) == _WORKERS and killed not in now and now)
    until(lambda: seats(scraped(gateway)) == {"0", "1", "2"})
    until(lambda: answered(scraped(gateway)) == 2 * _REQUESTS)  # what the dead one counted is still there

    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    assert not any(process.is_running(pid) for pid in first | second)
    ledger = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")
    assert len(ledger.all(decisions)) == 2 * _REQUESTS
    assert gateway.errors().count("another one starts") == 1
    assert not any(trouble in gateway.errors() for trouble in ("Traceback", "Fatal"))
    assert list((tmp_path / "state").glob("workers-*")) == []


def test_none_outlives_a_supervisor_that_was_killed(gateway):
    workers = until(lambda: len(now := gateway.children()) == _WORKERS and now)
    gateway.kill()
    until(lambda: not any(process.is_running(pid) for pid in workers))


def test_when_the_first_cannot_start_nothing_does_and_it_says_why(tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    config = world.write_config(
        tmp_path,
        [world.endpoint("medium", "http://127.0.0.1:9/v1")],
        server={"port": 0, "workers": 2},
        ledger={"url": f"sqlite:///{tmp_path}/outcomes.jsonl/ledger.db"},
    )
    with pytest.raises(AssertionError, match=r"server\.workers") as failed:
        process.start(tmp_path, "--config", str(config))
    assert "outcomes.jsonl" in str(failed.value)
