"""Several processes that answer on one socket: started in turn, started again when one dies, ended together.

They share nothing but the socket, the ledger's database and the folder of the state: each has policies, encoder and
connections of its own. The first one migrates the database and fits what must be fitted, before the others start.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from router_gateway.config import Config
from router_gateway.core import collector
from router_gateway.core.errors import ConfigError
from router_gateway.verbs import ending

GRACE_S = 30
"""How long requests in flight may take to finish at the end."""

_END_S = GRACE_S + 10.0
_LOOK_S = 0.2
_AGAIN_S, _AGAIN_S_MAX = 0.5, 30.0
_STEADY_S = 60.0
"""A worker that lived as long is started again at once; one that did not waits twice as long each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker inherits: the socket, whom to tell when it answers, and the folder where all keep their metrics.

    announces : whether it is the one that prints how to use the gateway
    dashboard : the address of the dashboard that runs beside, for that one to print
    """

    fd: int
    ready_fd: int
    index: int
    counts: Path
    replay_url: str | None
    announces: bool = False
    dashboard: str | None = None

    def say_ready(self) -> None:
        """Tell the parent, once, that requests are answered."""
        with suppress(OSError):  # it need not listen any more
            os.write(self.ready_fd, b".")
        os.close(self.ready_fd)


def supervise(
    config: Config,
    listener: socket.socket,
    *,
    source: Path | None,
    replay_url: str | None,
    dashboard: str | None = None,
) -> None:
    """Keep `config.server.workers` processes answering on `listener` until Ctrl-C or SIGTERM.

    Raises ConfigError when the first worker ends before it answers; it has said why.
    """
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="workers-", dir=config.state_dir) as counts:
        command = [sys.executable, "-P", "-m", "router_gateway.cli", "worker"]
        command += ["--demo"] if source is None else ["--config", str(source)]
        command += ["--fd", str(listener.fileno()), "--counts", counts]
        command += [] if replay_url is None else ["--replay-url", replay_url]
        command += [] if dashboard is None else ["--dashboard", dashboard]
        seats = [_Seat(index=index, command=command, fd=listener.fileno()) for index in range(config.server.workers)]
        collector.settle()
        with _ended(seats):
            seats[0].start()
            if not seats[0].wait_until_ready():
                raise ConfigError(["server.workers: the first worker did not start"])
            for seat in seats[1:]:
                seat.start()
            while not ending.told():
                time.sleep(_LOOK_S)
                for seat in seats:
                    seat.look()


@dataclass(kw_only=True)
class _Seat:
    """The place of one worker, whichever process holds it."""

    index: int
    command: list[str]
    fd: int
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    again_s: float = _AGAIN_S
    due_s: float | None = None
    _ready: int = field(default=-1, init=False)

    def start(self) -> None:
        """Start a process. Its standard input ends when we do, even if we are killed, and it ends with it."""
        self._forget_ready()
        self._ready, theirs = os.pipe()
        own = [*self.command, "--index", str(self.index), "--ready-fd", str(theirs)]
        own += ["--announces"] if self.index == 0 and self.process is None else []  # once, not whenever one dies
        try:
            # a session of its own: Ctrl-C reaches us alone, and we end the workers in order
            self.process = subprocess.Popen(
                own, stdin=subprocess.PIPE, pass_fds=[self.fd, theirs], start_new_session=True
            )
        finally:
            os.close(theirs)
        self.started_s, self.due_s = time.monotonic(), None

    def wait_until_ready(self) -> bool:
        """Whether it answers; False once it has ended instead."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ready, selectors.EVENT_READ)
            while not selector.select(_LOOK_S):
                ending.check()
        said = os.read(self._ready, 1)
        self._forget_ready()
        return bool(said)

    def look(self) -> None:
        """Start the next process when this one has ended."""
        now_s = time.monotonic()
        if self.due_s is not None:
            if now_s >= self.due_s:
                self.start()
        elif self.process is not None and (code := self.process.poll()) is not None:
            steady = now_s - self.started_s >= _STEADY_S
            self.again_s = _AGAIN_S if steady else min(2 * self.again_s, _AGAIN_S_MAX)
            self.due_s = now_s + self.again_s
            print(f"worker {self.index} ended ({code}); another one starts in {self.again_s:g} s", file=sys.stderr)

    def end(self, deadline_s: float) -> None:
        """Wait for it to end, and kill it at the deadline."""
        self._forget_ready()
        if self.process is None:
            return
        try:
            self.process.wait(timeout=max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def ask_to_end(self) -> None:
        """Let it finish its requests and write its rows."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def _forget_ready(self) -> None:
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1


@contextmanager
def _ended(seats: list[_Seat]) -> Iterator[None]:
    """All workers are gone when the context is left; Ctrl-C and SIGTERM leave it quietly."""
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        deadline_s = time.monotonic() + _END_S
        for seat in seats:
            seat.ask_to_end()
        for seat in seats:
            seat.end(deadline_s)
