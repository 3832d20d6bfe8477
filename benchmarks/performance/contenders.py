"""Who is measured: ways to the same upstream, each with its own requests."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from performance import load, ours, peers
from performance.intervals import summary
from performance.machine import Cores, free_port
from performance.problems import BenchmarkError
from performance.server import Server, start
from performance.wire import write_requests

DIRECT, FLOOR, ROUTED, PINNED, LITELLM, PORTKEY = "direct", "floor", "routed", "pinned", "litellm", "portkey"
ALL = (DIRECT, FLOOR, ROUTED, PINNED, LITELLM, PORTKEY)


@dataclass(slots=True, kw_only=True)
class Contender:
    """One way to the upstream. `server` is None for the way without a proxy."""

    name: str
    server: Server | None
    port: int
    model: str
    headers: dict[str, str]
    directory: Path
    cores: Cores
    upstream_port: int
    _next: int = 0
    _files: dict[tuple[bool, str], Path] = field(default_factory=dict)

    def prepare(self, texts: Sequence[str], *, label: str, stream: bool = False) -> None:
        """Write the requests that `send` will send under that label."""
        path = self.directory / f"{self.name}-{label}-{'stream' if stream else 'whole'}.requests"
        self._files[stream, label] = write_requests(
            path, texts, port=self.port, model=self.model, headers=self.headers, stream=stream
        )

    def send(self, label: str, *, stream: bool = False, **how: Any) -> load.Measured:
        """One run of the load generator; texts go on where the last run stopped."""
        measured = load.run(self._files[stream, label], port=self.port, cores=self.cores, first=self._next, **how)
        self._next = measured.next
        return measured

    def reached_upstream(self) -> int:
        """Completions that the upstream has served so far, to anyone."""
        with urlopen(f"http://127.0.0.1:{self.upstream_port}/", timeout=5) as answer:
            completions: int = json.load(answer)["completions"]
        return completions

    def decisions(self) -> dict[str, int]:
        """How many requests the gateway decided, by reason, from its own metrics."""
        counts: dict[str, int] = {}
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        for reason, number in re.findall(r'^router_decisions_total\{.*reason="([^"]*)".*\} (\S+)$', text, re.MULTILINE):
            counts[reason] = counts.get(reason, 0) + int(float(number))
        return counts


def open_all(
    names: Sequence[str],
    *,
    upstream_port: int,
    cores: Cores,
    directory: Path,
    choice: ours.Choice,
    starts: int = 3,
    stack: ExitStack,
) -> tuple[list[Contender], dict[str, Any]]:
    """Start everyone named; returns those that run, and notes: the gateway's settings, who is left out and why.

    starts : further ones of the gateway once its policy is fitted; the time to the first answer of each is noted
    """
    notes: dict[str, Any] = {"left_out": {}}
    opened: dict[str, Contender] = {}

    def add(name: str, server: Server | None, port: int, model: str, headers: dict[str, str]) -> None:
        opened[name] = Contender(
            name=name,
            server=server,
            port=port,
            model=model,
            headers=headers,
            directory=directory,
            cores=cores,
            upstream_port=upstream_port,
        )

    if DIRECT in names:
        add(DIRECT, None, upstream_port, "stub", {"Authorization": "Bearer none"})
    if FLOOR in names:
        server = _floor(upstream_port, cores, directory)
        stack.callback(server.stop)
        add(FLOOR, server, server.port, "stub", {"Authorization": "Bearer none"})
    if ROUTED in names or PINNED in names:
        config, notes["gateway"] = ours.configure(directory, upstream_port, choice)
        key = ours.create_key(config)
        server = ours.serve(config, notes["gateway"]["port"], key, cores)
        notes["gateway"]["first_ready_s"] = server.ready_s  # the policy was fitted in it
        again = []
        for _ in range(starts):
            server.stop()
            server = ours.serve(config, notes["gateway"]["port"], key, cores)
            again.append(server.ready_s)
        if again:
            notes["gateway"]["ready_s"] = summary(again)
        stack.callback(server.stop)
        for name, model in ((ROUTED, "auto"), (PINNED, ours.PINNED)):
            if name in names:
                add(name, server, server.port, model, {"Authorization": f"Bearer {key}"})
    for name, open_peer in ((LITELLM, peers.litellm), (PORTKEY, peers.portkey)):
        if name in names:
            try:
                server, model, headers = open_peer(upstream_port, cores, directory)
            except BenchmarkError as error:
                notes["left_out"][name] = str(error)
                continue
            stack.callback(server.stop)
            add(name, server, server.port, model, headers)
    return [opened[name] for name in names if name in opened], notes


def _floor(upstream_port: int, cores: Cores, directory: Path) -> Server:
    port = free_port()
    command = [sys.executable, "-P", "-m", "uvicorn", "performance.floor:app", "--port", str(port)]
    return start(
        "floor",
        [*command, "--no-access-log", "--log-level", "warning"],
        port=port,
        model="stub",
        headers={},
        cores=cores,
        directory=directory,
        environment={
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/v1/chat/completions",
        },
    )
