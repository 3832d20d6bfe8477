"""What chaos.py breaks: a PostgreSQL cluster of its own, an upstream with its own books, a gateway process, load."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

PROGRAM = Path(sys.executable).with_name("router-gateway")
_NUSD_PER_TOKEN = {"small": (150, 600), "large": (2_500, 10_000)}  # of the prompt, of the answer
_STREAM_WORDS = 4
_BINARIES = ("initdb", "pg_ctl", "createdb")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unprivileged() -> str | None:
    """Whom the database server runs as: it refuses root. None for whoever runs this."""
    return "nobody" if os.geteuid() == 0 else None


@dataclass(kw_only=True)
class Cluster:
    """A PostgreSQL server in `folder`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://chaos@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c shared_buffers=64MB"
        self._run("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """As a crash: nobody is waited for, nothing is tidied up."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [program, "-D", str(self.folder / "data"), *arguments]
        done = subprocess.run(
            command, user=unprivileged(), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout.decode()}")


def lacking() -> str | None:
    """Why there can be no cluster here, or None."""
    missing = [name for name in _BINARIES[:2] if shutil.which(name) is None]
    return f"PostgreSQL's {', '.join(missing)} not found" if missing else None


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A running server, stopped in the end. `folder` must be reachable for the user that it runs as."""
    folder.mkdir(mode=0o700)
    user = unprivileged()
    if user is not None:
        shutil.chown(folder, user)
    server = Cluster(folder=folder, port=free_port())
    server._run("initdb", "-A", "trust", "-U", "chaos", "--no-sync")
    server.start()
    try:
        yield server
    finally:
        with suppress(RuntimeError):
            server.stop()


@dataclass(kw_only=True)
class Upstream:
    """Two models behind one URL, with books of its own: by the gateway's id of a call, what it asks for it."""

    url: str = ""
    asked_nusd: dict[str, int] = field(default_factory=dict)
    twice: int = 0

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        call_id, model = request.headers["x-client-request-id"], body["model"]
        count = len(self.asked_nusd)
        sent, got = 20 + count % 37, 5 + count % 101
        price_sent, price_got = _NUSD_PER_TOKEN[model]
        self.twice += call_id in self.asked_nusd
        self.asked_nusd[call_id] = sent * price_sent + got * price_got
        usage = {"prompt_tokens": sent, "completion_tokens": got, "total_tokens": sent + got}
        await asyncio.sleep(0.02 + 0.002 * (count % 50))
        if not body.get("stream"):
            message = {"role": "assistant", "content": "yes"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
            response: web.StreamResponse = web.json_response({**answer, "usage": usage})
            await response.prepare(request)
            await response.write_eof()
        else:
            response = await self._stream(request, model, usage)
        return response

    async def _stream(self, request: web.Request, model: str, usage: Mapping[str, int]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": model}
        for word in range(_STREAM_WORDS):
            choice = {"index": 0, "delta": {"content": f"word{word} "}, "finish_reason": None}
            await response.write(_event({**head, "choices": [choice]}))
            await asyncio.sleep(0.01)
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await response.write(_event({**head, "choices": [last]}) + _event({**head, "choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """The upstream, in this event loop."""
    books = Upstream()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", books.complete)
    logging.getLogger("aiohttp.server").disabled = True  # a killed gateway hangs up on us: that is what this is about
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    books.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield books
    finally:
        await runner.cleanup()


@dataclass(kw_only=True)
class Gateway:
    """`router-gateway serve` as a process that is killed and started again, always at the same port."""

    folder: Path
    port: int
    process: subprocess.Popen[str] | None = None
    starts: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, database_url: str, upstream_url: str, **ledger: Any) -> None:
        endpoints = [
            {
                "name": name,
                "model": name,
                "base_url": upstream_url,
                "price_input_usd_per_mtok": sent / 1000,
                "price_output_usd_per_mtok": got / 1000,
                "context_tokens_max": 32_000,
                "timeout_s": 30,
            }
            for name, (sent, got) in _NUSD_PER_TOKEN.items()
        ]
        settings = {
            "state_dir": str(self.folder / "state"),
            "server": {"port": self.port, "routing_deadline_ms": 20_000},
            "ledger": {"url": database_url, **ledger},
            "embedder": {"kind": "hashing"},
            "policy": {"name": "random"},
            "rule": {"name": "epsilon_greedy", "epsilon": 0.5},
            "default_endpoint": "small",
            "endpoints": endpoints,
        }
        (self.folder / "gateway.yaml").write_text(yaml.safe_dump(settings))

    def verb(self, *arguments: str) -> str:
        done = subprocess.run([PROGRAM, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def start(self) -> None:
        with (self.folder / "gateway.stderr").open("a") as errors:
            self.process = subprocess.Popen(
                [PROGRAM, "serve"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("Ctrl-C stops"):
                self.starts += 1
                return
        raise RuntimeError(f"the gateway did not start: {self.errors()[-2000:]}")

    def errors(self) -> str:
        return (self.folder / "gateway.stderr").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        """Ctrl-C: its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self._ended()

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@dataclass(kw_only=True)
class Disk:
    """Where the journal is: a small file system where this may mount one, else a bound on the size of its files."""

    folder: Path
    mounted: bool

    @contextmanager
    def full(self, gateway: Gateway) -> Iterator[None]:
        """No room for another byte, for the length of the context."""
        if not self.mounted:
            assert gateway.process is not None
            old = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            try:
                yield
            finally:
                resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, old)
            return
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096) == 4096:
                pass
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def disk(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """A journal's disk of that size."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    try:
        yield Disk(folder=folder, mounted=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its client saw it: seconds since the start, which key, status (0: none), id when whole."""

    at_s: float
    key: str
    status: int
    decision_id: str | None


@dataclass(kw_only=True)
class Load:
    """Clients that ask without pause, half of them for streams, and go on whatever happens."""

    url: str
    keys: Mapping[str, str]
    clients: int
    answers: list[Answer] = field(default_factory=list)
    begun_s: float = field(default_factory=time.monotonic)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def now_s(self) -> float:
        return time.monotonic() - self.begun_s

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            names = [*self.keys]
            async with asyncio.TaskGroup() as group:
                for number in range(self.clients):
                    group.create_task(self._client(session, number, names[number % len(names)]))
                try:
                    yield
                finally:
                    self._over.set()

    async def _client(self, session: aiohttp.ClientSession, number: int, key: str) -> None:
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        asked = number
        while not self._over.is_set():
            asked += 1
            stream = asked % 2 == 0
            body = {"model": "auto", "messages": [{"role": "user", "content": f"question {asked}"}], "stream": stream}
            body["max_completion_tokens"] = 200
            status, decision_id = 0, None
            try:
                async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as answer:
                    content = await answer.read()
                    status = answer.status
                    if status == 200 and (not stream or content.endswith(b"data: [DONE]\n\n")):
                        decision_id = answer.headers["x-router-decision-id"]
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.2)
            self.answers.append(Answer(self.now_s(), key, status, decision_id))
            if status >= 400:
                await asyncio.sleep(0.1)


def whole(answers: Sequence[Answer], key: str, since_s: float, until_s: float) -> list[Answer]:
    """Answers that came whole in that time."""
    return [a for a in answers if a.key == key and a.decision_id and since_s <= a.at_s < until_s]
