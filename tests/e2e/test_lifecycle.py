"""Start, stop, start again: with the fast encoder, since none of this depends on it."""

import concurrent.futures
import signal
import time

import pytest

from router_gateway.ledger.tables import attempts, decisions
from tests.e2e import process, upstream, world
from tests.e2e.upstream import WORDS
from tests.loopback import http

HASHING = {"embedder": {"kind": "hashing"}}


def eventually(condition, within_s=10.0):
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def demo_like(tmp_path):
    """A configuration in which every endpoint is replayed."""
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    return world.write_config(tmp_path, [world.endpoint(name, "replay") for name in world.PRICES], **HASHING)


def ask(gateway, prompt, **members):
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], **members}
    headers = {"authorization": f"Bearer {gateway.key}"}
    return http.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_all_and_loses_nothing(tmp_path, demo_like, number):
    gateway = process.start(tmp_path, "--config", str(demo_like))
    children = gateway.children()
    answers = [ask(gateway, each.prompt) for each in world.recorded()[:20]]
    gateway.signal(number)
    assert gateway.wait(10) == 0
    assert len(children) == 1
    assert not any(process.is_running(pid) for pid in children)
    assert "Traceback" not in gateway.errors()
    ledger = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")
    ids = {answer.headers["x-router-decision-id"] for answer in answers}
    assert {answer.status_code for answer in answers} == {200}
    assert {str(row["query_id"]) for row in ledger.all(decisions)} == ids
    assert {str(row["query_id"]) for row in ledger.all(attempts)} == ids
    assert list((tmp_path / "state" / "journal").iterdir()) == []


def test_requests_in_flight_are_finished(tmp_path):
    with upstream.providing() as provider:
        pool = [world.endpoint("slow", provider.base_url("slow"))]
        config = world.write_config(tmp_path, pool, default_endpoint="slow", training={"outcomes": None}, **HASHING)
        gateway = process.start(tmp_path, "--config", str(config))
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            answer = threads.submit(ask, gateway, "count", stream=True)
            assert eventually(lambda: provider.bodies["slow"])
            gateway.signal(signal.SIGINT)
            assert answer.result(30).text.endswith("data: [DONE]\n\n")
        assert answer.result().text.count("word") == len(WORDS)
        assert gateway.wait(20) == 0
    (row,) = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db").all(attempts)
    assert (row["error"], row["tokens_output"]) == (None, 40)


def test_a_second_start_reuses_the_fitted_policy_and_the_demo_key(tmp_path, demo_like):
    first = process.start(tmp_path, "--config", str(demo_like))
    decided = ask(first, world.recorded()[0].prompt).headers
    assert first.stop() == 0
    fitted = {path: path.stat().st_mtime_ns for path in (tmp_path / "state" / "snapshots").rglob("*") if path.is_file()}
    second = process.start(tmp_path, "--config", str(demo_like))
    assert second.key == first.key
    again = ask(second, world.recorded()[0].prompt).headers
    names = ("x-router-policy", "x-router-model", "x-router-confidence")
    assert [again[name] for name in names] == [decided[name] for name in names]
    assert second.stop() == 0
    assert fitted
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "state" / "snapshots").rglob("*") if p.is_file()} == fitted


def test_other_parameters_are_fitted_anew(tmp_path, demo_like):
    assert process.start(tmp_path, "--config", str(demo_like)).stop() == 0
    changed = {"ROUTER_GATEWAY__POLICY__PARAMS": '{"k": 2, "prior_weight": 0.01}'}
    gateway = process.start(tmp_path, "--config", str(demo_like), environment=changed)
    assert ask(gateway, world.recorded()[0].prompt).headers["x-router-policy"] == "knn@2"
    assert gateway.stop() == 0


def test_a_key_that_spends_money_is_shown_once(tmp_path):
    pool = [world.endpoint("small", "http://127.0.0.1:9/v1")]
    config = world.write_config(tmp_path, pool, default_endpoint="small", training={"outcomes": None}, **HASHING)
    first = process.start(tmp_path, "--config", str(config))
    assert first.stop() == 0
    second = process.start(tmp_path, "--config", str(config))
    assert second.stop() == 0
    assert "\n".join(second.lines).count("rg-") == 0
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if first.key.encode() in path.read_bytes()] == [], "only its hash is stored"


def test_the_replay_process_ends_with_a_killed_gateway(tmp_path, demo_like):
    gateway = process.start(tmp_path, "--config", str(demo_like))
    (child,) = gateway.children()
    gateway.kill()
    assert eventually(lambda: not process.is_running(child))


def test_a_taken_port_and_missing_outcomes_are_said_plainly(tmp_path, demo_like):
    gateway = process.start(tmp_path, "--config", str(demo_like))
    port = gateway.base_url.split(":")[-1].removesuffix("/v1")
    with pytest.raises(AssertionError, match=f"error: server.port: cannot listen on 127.0.0.1:{port}"):
        process.start(tmp_path, "--config", str(demo_like), environment={"ROUTER_GATEWAY__SERVER__PORT": port})
    assert gateway.stop() == 0
    (tmp_path / "outcomes.jsonl").unlink()
    with pytest.raises(AssertionError, match="error: replay: the replay server did not start"):
        process.start(tmp_path, "--config", str(demo_like))
    assert "Traceback" not in gateway.errors()
