"""`serve --dashboard`: a process of its own, which ends with the gateway and without which the gateway goes on."""

from __future__ import annotations

import os
import re
import signal
import socket
import time

import httpx
import pytest

from tests.e2e import process, world


def write(directory, **dashboard):
    world.write_outcomes(directory / "outcomes.jsonl")
    pool = [world.endpoint(name, "replay") for name in world.PRICES]
    settings = {"host": "127.0.0.1", "port": 0, **dashboard}
    return world.write_config(directory, pool, embedder={"kind": "hashing"}, dashboard=settings)


@pytest.fixture
def gateway(tmp_path):
    config = write(tmp_path)
    started = process.start(tmp_path, "--config", str(config), "--dashboard", usual_priority=True)
    yield started
    if started.process.poll() is None:
        started.kill()


def address(gateway: process.GatewayProcess) -> tuple[str, str]:
    """Where the dashboard is, and the admin key that was printed with it."""
    found = re.search(r"Dashboard: (http://\S+) \(admin key: (rg-\S+)\)", "\n".join(gateway.lines))
    assert found, gateway.lines
    return found.group(1), found.group(2)


def answers(url: str, within_s: float = 60.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            return httpx.get(url + "/login", trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            time.sleep(0.2)
    return False


def gone(url: str, within_s: float = 30.0) -> bool:
    host, port = url.removeprefix("http://").split(":")
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return True
        time.sleep(0.1)
    return False


def dashboards(gateway: process.GatewayProcess) -> list[int]:
    return [pid for pid in gateway.children() if "dashboard" in _command(pid)]


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode()


def test_it_opens_with_the_key_that_is_printed_and_ends_with_the_gateway(gateway):
    url, key = address(gateway)
    assert answers(url)
    entered = httpx.post(url + "/login", data={"key": key}, headers={"origin": url}, trust_env=False, timeout=30)
    assert entered.status_code == 303
    assert len(dashboards(gateway)) == 1
    assert gateway.stop() == 0
    assert gone(url)


def test_the_gateway_goes_first(gateway):
    assert answers(address(gateway)[0])
    [pid] = dashboards(gateway)
    own = os.getpriority(os.PRIO_PROCESS, gateway.process.pid)
    if own >= 19:
        pytest.skip("the tests run at the lowest priority, and may not raise it")
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(own + 10, 19)


def test_its_crash_does_not_touch_the_gateway(gateway):
    url, _ = address(gateway)
    assert answers(url)
    [pid] = dashboards(gateway)
    os.kill(pid, signal.SIGKILL)
    assert gone(url)
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {gateway.key}"}
    answer = httpx.post(gateway.base_url + "/chat/completions", json=body, headers=headers, trust_env=False, timeout=30)
    assert answer.status_code == 200
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.errors()


def test_it_ends_even_if_the_gateway_is_killed(gateway):
    url, _ = address(gateway)
    assert answers(url)
    gateway.kill()
    assert gone(url)


def test_where_its_port_is_taken_the_gateway_serves_without_it(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = write(tmp_path, port=taken.getsockname()[1], enabled=True)
        gateway = process.start(tmp_path, "--config", str(config))
    assert not any(line.startswith("Dashboard:") for line in gateway.lines)
    assert "no dashboard: dashboard.port: cannot listen" in gateway.errors()
    assert gateway.stop() == 0


def test_the_demo_keeps_its_admin_key(gateway, tmp_path):
    _, key = address(gateway)
    assert gateway.stop() == 0
    again = process.start(tmp_path, "--config", str(tmp_path / "gateway.yaml"), "--dashboard")
    assert address(again)[1] == key
    assert (tmp_path / "state" / "demo-admin.key").stat().st_mode & 0o077 == 0
    assert again.stop() == 0
