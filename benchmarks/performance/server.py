"""A process under test: started on its core, watched until it answers, stopped while others are measured."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from performance.machine import Cores, cpu_s, pinned, rss_mib
from performance.native import program
from performance.problems import BenchmarkError
from performance.wire import PATH, body

_READY_S_MAX = 600.0
_LOOK_EVERY_S = 0.01
_IDLE_TICKS_S = 0.02  # less CPU than this in a look is idling
_SETTLE_LOOK_S = 0.2
_SETTLE_S_MAX = 5.0


@dataclass(slots=True, kw_only=True)
class Server:
    """A proxy that answers on loopback; `ready_s` from its start to its first answered request."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    ready_s: float

    def cpu_s(self) -> float:
        """CPU time so far, its children's too."""
        return cpu_s(self.process.pid)

    def settled_cpu_s(self) -> float:
        """The same once it idles: what a request leaves to be done later is then in it."""
        deadline = time.monotonic() + _SETTLE_S_MAX
        now = self.cpu_s()
        while time.monotonic() < deadline:
            before = now
            time.sleep(_SETTLE_LOOK_S)
            now = self.cpu_s()
            if now - before <= _IDLE_TICKS_S:
                break
        return now

    def rss_mib(self) -> float:
        """Resident memory, its children's too."""
        return rss_mib(self.process.pid)

    def pause(self) -> None:
        """Take it off its core; requests wait."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and all it started."""
        if self.process.poll() is None:
            self.resume()
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


def start(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    model: str,
    headers: Mapping[str, str],
    cores: Cores,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start a proxy and wait for its first good answer. Raises BenchmarkError with its last words otherwise."""
    log = directory / f"{name}.log"
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with log.open("ab") as output, pinned(cores.proxy):
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(name=name, process=process, port=port, ready_s=0.0)
    said = ""
    while time.perf_counter() - began < _READY_S_MAX:
        if process.poll() is not None:
            break
        status, said = _asked(port, model, headers)
        if status == 200:
            server.ready_s = time.perf_counter() - began
            return server
        time.sleep(_LOOK_EVERY_S)
    server.stop()
    raise BenchmarkError(f"{name} did not become ready: {said[-300:]} {log.read_text(errors='replace')[-1500:]}")


def _asked(port: int, model: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Status (0: no answer) and text of one completion."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_READY_S_MAX)
    try:
        connection.request("POST", PATH, body(model, "Are you there?"), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


@contextlib.contextmanager
def upstream(cores: Cores) -> Iterator[int]:
    """The stub on its core; yields its port. It ends with us, however we end."""
    with pinned(cores.others):
        process = subprocess.Popen([program("stub"), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        yield int(process.stdout.readline().removeprefix("listening "))
        process.kill()
