"""Processes and sockets: the gateway under uvicorn, the replay endpoints beside it, one Ctrl-C for both."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from router_gateway.config import REPLAY, Config
from router_gateway.core.errors import ConfigError
from router_gateway.wiring import Built, Progress, build, replay_app

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger(__name__)

_KEY_FILE = "demo.key"
_GC_THRESHOLDS = (50_000, 20, 50)


def serve(config: Config, *, progress: Progress) -> None:
    """Run until Ctrl-C or SIGTERM; requests in flight are finished and the ledger is written."""
    import uvicorn

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(config.server.host, config.server.port))
        replay_url = None
        if any(endpoint.base_url == REPLAY for endpoint in config.endpoints):
            replay_url = stack.enter_context(_replay_process(config))
        built = build(config, replay_url=replay_url, progress=progress)
        base_url = f"http://{_shown(config.server.host)}:{listener.getsockname()[1]}/v1"
        _announce(config, base_url, _first_key(config, built))
        _settle_garbage_collector()
        server = uvicorn.Server(
            uvicorn.Config(
                built.app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=30,
            )
        )
        _run(server, listener)


def serve_replay(config: Config, *, fd: int, hit_log: Path | None) -> None:
    """Serve recorded outcomes on the inherited socket `fd` until the parent is gone."""
    import uvicorn

    if fd < 0:
        raise ConfigError(["replay: --fd is missing; `router-gateway serve` starts this"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _end_with_parent()
    server = uvicorn.Server(
        uvicorn.Config(replay_app(config, hit_log), log_level="warning", access_log=False, server_header=False)
    )
    server.run(sockets=[socket.socket(fileno=fd)])


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    print("stopped", file=sys.stderr)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The socket, bound before anything slow starts: a taken port is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            [f"server.port: cannot listen on {host}:{port} ({error.strerror})"],
            hint="choose another with ROUTER_GATEWAY__SERVER__PORT=8081",
        ) from None
    with listener:
        listener.listen(2048)
        yield listener


@contextmanager
def _replay_process(config: Config) -> Iterator[str]:
    """Start the replay server on a free loopback port and yield its base URL.

    It inherits the socket, so there is no port to race for and nothing to poll: the kernel queues
    connections until it accepts. It ends when its standard input does, even if we are killed.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        fd = listener.fileno()
        command = [sys.executable, "-P", "-m", "router_gateway.cli", "replay", "--fd", str(fd)]
        child = subprocess.Popen(
            [*command, *_config_arguments()], stdin=subprocess.PIPE, pass_fds=[fd], start_new_session=False
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        yield url
    finally:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _config_arguments() -> list[str]:
    """The configuration arguments this process was started with, for the child to read the same file."""
    arguments = sys.argv[1:]
    passed = ["--demo"] if "--demo" in arguments else []
    for flag in ("--config", "-c"):
        if flag in arguments:
            passed += ["--config", arguments[arguments.index(flag) + 1]]
        passed += [argument for argument in arguments if argument.startswith(f"{flag}=")]
    return passed


def _end_with_parent() -> None:
    def wait() -> None:
        sys.stdin.buffer.read()  # ends when the parent, which holds the other side, is gone
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="parent-watch").start()


def _first_key(config: Config, built: Built) -> str | None:
    """The API key of a first start, or None when keys exist and this one cannot be shown again.

    Replayed endpoints spend no money, so a demo keeps its key in a file for the next start to print; any
    other installation shows it once and keeps only the hash.
    """
    key_file = config.state_dir / _KEY_FILE
    is_demo = all(endpoint.base_url == REPLAY for endpoint in config.endpoints)
    if is_demo and key_file.exists():
        key = key_file.read_text().strip()
        if built.keys.find(key) is not None:
            return key
    if built.keys.list() and not is_demo:
        return None
    key = built.keys.create("first start")
    if is_demo:
        descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key + "\n")
    return key


def _announce(config: Config, base_url: str, key: str | None) -> None:
    shown = key or "$ROUTER_GATEWAY_KEY"
    lines = [
        "",
        f"Router Gateway is ready: {base_url}",
        f"API key: {key}"
        if key
        else "API key: the one made on first start; `router-gateway keys create NAME` adds one",
    ]
    if any(endpoint.base_url == REPLAY for endpoint in config.endpoints):
        lines.append("Endpoints answer with replays of recorded outcomes; nothing is sent to a provider.")
    lines += [
        "",
        "Try it with curl:",
        f"""curl -s {base_url}/chat/completions -H "Authorization: Bearer {shown}" \\""",
        """  -H "Content-Type: application/json" \\""",
        """  -d '{"model": "auto", "messages": [{"role": "user", "content": "What is the capital of Australia?"}]}'""",
        "",
        "or with the openai SDK (pip install openai):",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{base_url}", api_key="{shown}")',
        'question = [{"role": "user", "content": "What is the capital of Australia?"}]',
        'reply = client.chat.completions.create(model="auto", messages=question)',
        "print(reply.model, reply.choices[0].message.content)",
        "",
        "Ctrl-C stops everything.",
    ]
    print("\n".join(lines), flush=True)


def _settle_garbage_collector() -> None:
    """Take the start-up's objects out of the collector's sight.

    A full collection over the imported libraries takes tens of milliseconds, in the middle of somebody's
    request; frozen, they are never walked again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
