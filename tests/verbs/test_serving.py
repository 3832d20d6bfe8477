"""The process around the application: its socket, its start, its end. Whole processes are driven in tests/e2e."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from router_gateway.core.errors import ConfigError
from router_gateway.verbs import ending
from router_gateway.verbs.listening import listening
from router_gateway.verbs.serving import _heeding, _Server
from tests.verbs.conftest import CONFIG


def server_of(app, announce, stopping=lambda: None):
    return _Server(uvicorn.Config(app, log_level="critical", access_log=False), announce, stopping)


def test_an_application_that_does_not_start_is_never_announced_and_ends_in_failure():
    @asynccontextmanager
    async def fails(app):
        raise RuntimeError("no encoder")
        yield

    announced = []
    server = server_of(Starlette(lifespan=fails), lambda: announced.append("ready"))
    with listening("127.0.0.1", 0, field="server.port", hint="") as listener, pytest.raises(SystemExit) as ended:
        server.run(sockets=[listener])
    assert ended.value.code != 0
    assert announced == []


def test_one_that_starts_answers_when_it_says_so_and_ends_with_a_signal():
    answers = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without

    def ask(url):
        answers.append(httpx.get(url, trust_env=False).status_code)
        os.kill(os.getpid(), signal.SIGINT)

    with listening("127.0.0.1", 0, field="server.port", hint="") as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        client = threading.Thread(target=ask, args=(url,))
        with pytest.raises(KeyboardInterrupt):
            server_of(Starlette(), client.start).run(sockets=[listener])
        client.join()
    signal.signal(signal.SIGINT, before)
    assert answers == [404]


def test_work_of_minutes_is_given_up_when_it_stops_and_not_waited_for():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stopping, answers = asyncio.Event(), []

    async def wait(request):
        os.kill(os.getpid(), signal.SIGINT)
        await stopping.wait()
        return PlainTextResponse("given up", 503)

    def ask(url):
        answers.append(httpx.get(url, trust_env=False, timeout=60).text)

    with listening("127.0.0.1", 0, field="server.port", hint="") as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        client = threading.Thread(target=ask, args=(url,))
        with pytest.raises(KeyboardInterrupt):
            server_of(Starlette(routes=[Route("/", wait)]), client.start, stopping.set).run(sockets=[listener])
        client.join()
    signal.signal(signal.SIGINT, before)
    assert answers == ["given up"]


def test_a_port_that_is_taken_is_named_before_anything_slow_starts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)), listening("127.0.0.1", port, field="server.port", hint=""):
            pass


def test_it_serves_on_and_ends_well_when_nobody_reads_what_it_prints(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "gateway.yaml").write_text(f"{CONFIG.format(state=tmp_path / 'state')}server: {{port: {port}}}\n")
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-P", "-m", "router_gateway.cli", "serve"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=writes, stderr=subprocess.PIPE
    ) as served:
        os.close(writes)
        deadline_s = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}/health/live"):
            assert served.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        served.send_signal(signal.SIGINT)
        assert served.wait(60) == 0
        assert b"Broken pipe" not in served.stderr.read()


def answers(url):
    try:
        return httpx.get(url, trust_env=False, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


_LOSES_A_SIGNAL = """
import os, signal, sys
from router_gateway import cli
from router_gateway.core import collector
from router_gateway.verbs import workers

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

where, what = {"start": (collector, "settle"), "look": (workers._Seat, "look")}[sys.argv[1]]
does = getattr(where, what)
def loses(*arguments):
    does(*arguments)
    Dying()
    print("went on", flush=True)
setattr(where, what, loses)
sys.argv = ["router-gateway", "serve", "--config", "gateway.yaml"]
cli.main()
"""


@pytest.mark.parametrize(("lost_at", "workers"), [("start", 1), ("start", 2), ("look", 2)])
def test_a_signal_that_a_finalizer_swallowed_ends_it_all_the_same(tmp_path, lost_at, workers):
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(state=tmp_path / "state"))
    program = [sys.executable, "-P", "-c", _LOSES_A_SIGNAL, lost_at]
    environment = {
        **os.environ,
        "ROUTER_GATEWAY__SERVER__PORT": "0",
        "ROUTER_GATEWAY__SERVER__WORKERS": str(workers),
    }
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert "went on" in done.stdout
    assert "KeyboardInterrupt" in done.stderr  # as the interpreter tells of what it ignores
    assert "Exception ignored" in done.stderr
    assert ("is ready" in done.stdout) == (lost_at == "look")
    if (lost_at, workers) == ("start", 1):
        assert done.returncode == 130  # as after any Ctrl-C during a start
    else:
        assert done.stderr.rstrip().endswith("stopped")


def test_a_long_start_ends_where_it_reports_once_it_was_told_to(monkeypatch):
    seen = []

    @contextmanager
    def progress(label):
        yield lambda done, total: seen.append((label, done, total))

    with _heeding(progress)("Embedding") as report:
        report(1, 2)
        monkeypatch.setattr(ending, "_told", True)
        with pytest.raises(KeyboardInterrupt):
            report(2, 2)
    assert seen == [("Embedding", 1, 2)]
