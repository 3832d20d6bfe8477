"""Processes and sockets: the gateway under uvicorn, the replay endpoints beside it, one Ctrl-C for all."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import uvicorn

from router_gateway.brain import Progress
from router_gateway.config import Config
from router_gateway.core import collector
from router_gateway.core.errors import ConfigError
from router_gateway.core.process import end_with_parent
from router_gateway.dispatch.endpoints import REPLAY
from router_gateway.verbs import ending, workers
from router_gateway.verbs.accepting import AT_ONCE, Acceptor
from router_gateway.verbs.listening import listening, url
from router_gateway.verbs.showing import dashboard_process
from router_gateway.verbs.workers import GRACE_S, Worker
from router_gateway.wiring import Built, build, replay_app

_KEY_FILE, _ADMIN_KEY_FILE = "demo.key", "demo-admin.key"
_OTHER_PORT = "choose another with ROUTER_GATEWAY__SERVER__PORT=8081"
_BACKLOG = 2048
_SWITCH_S = 0.0005  # how long the ledger's writer may keep the interpreter from a request that wants it
_REPLAY_START_S_MAX = 120.0


def serve(config: Config, *, source: Path | None, progress: Progress, dashboard: bool | None = None) -> None:
    """Run until Ctrl-C or SIGTERM; requests in flight are finished and the ledger is written.

    `source` is the file that `config` came from (None: the demo), for processes beside this one to read as well.
    `dashboard` says whether the dashboard is one of them (None: what `config` says).
    """
    _log()
    with ExitStack() as stack:
        listener = stack.enter_context(
            listening(config.server.host, config.server.port, field="server.port", hint=_OTHER_PORT, backlog=_BACKLOG)
        )
        replay_url = None
        if any(endpoint.base_url == REPLAY for endpoint in config.endpoints):
            replay_url = stack.enter_context(_replay_process(source))
        pages = None
        if config.dashboard.enabled if dashboard is None else dashboard:
            place = config.dashboard
            gateway = url(config.server.host, listener)
            pages = stack.enter_context(dashboard_process(gateway, host=place.host, port=place.port, oidc=place.oidc))
        if config.server.workers > 1:
            workers.supervise(config, listener, source=source, replay_url=replay_url, dashboard=pages)
        else:
            _serve(config, listener, replay_url=replay_url, progress=progress, announces=True, dashboard=pages)
        print("stopped", file=sys.stderr)


def serve_worker(config: Config, worker: Worker, *, progress: Progress) -> None:
    """Answer on the inherited socket beside other workers until the parent is gone or says so."""
    _log()
    end_with_parent()
    listener = socket.socket(fileno=worker.fd)
    _serve(
        config,
        listener,
        replay_url=worker.replay_url,
        progress=progress,
        announces=worker.announces,
        worker=worker,
        dashboard=worker.dashboard,
    )


def _log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _serve(
    config: Config,
    listener: socket.socket,
    *,
    replay_url: str | None,
    progress: Progress,
    announces: bool,
    worker: Worker | None = None,
    dashboard: str | None = None,
) -> None:
    side_by_side = None if worker is None else (worker.counts, worker.index)
    with ExitStack() as stack:
        built = build(config, replay_url=replay_url, progress=_heeding(progress), side_by_side=side_by_side)
        base_url = url(config.server.host, listener) + "/v1"
        key = _first_key(config, built) if announces else None
        pages = _pages(config, built, dashboard) if announces else []
        collector.settle()
        sys.setswitchinterval(_SWITCH_S)
        ending.check()
        if replay_url is not None:
            _wait_for_replay(replay_url)

        def announce() -> None:
            if announces:
                _announce(config, base_url, key, pages)
            if worker is not None:
                worker.say_ready()

        server = _Server(
            uvicorn.Config(
                built.app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here depends on where a client says it is
                timeout_graceful_shutdown=GRACE_S,
            ),
            announce,
            built.stopping,
            alone=worker is None,
        )
        if config.learning.enabled:
            stack.enter_context(built.learner.running())
        stack.enter_context(built.rollout.running())
        with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has shut down
            server.run(sockets=[listener])


def _heeding(progress: Progress) -> Progress:
    """The same; a long start ends, where it reports, if it was told to."""

    @contextmanager
    def heeding(label: str) -> Iterator[Callable[[int, int], None]]:
        with progress(label) as report:

            def heard(done: int, total: int) -> None:
                ending.check()
                report(done, total)

            yield heard

    return heeding


def serve_replay(config: Config, *, fd: int, hit_log: Path | None) -> None:
    """Serve recorded outcomes on the inherited socket `fd` until the parent is gone."""
    if fd < 0:
        raise ConfigError(["replay: --fd is missing; `router-gateway serve` starts this"])
    end_with_parent()
    server = uvicorn.Server(
        uvicorn.Config(replay_app(config, hit_log), log_level="warning", access_log=False, server_header=False)
    )
    collector.settle()
    server.run(sockets=[socket.socket(fileno=fd)])


class _Server(uvicorn.Server):
    """Takes connections many at a time; calls `announce` once requests are answered and signals are handled, and
    `stopping` when it begins to stop. `alone`: no other process listens on the same socket.

    Before uvicorn handles signals they are exceptions, which may be lost (ending.py): it ends as soon as it has begun.
    """

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], stopping: Callable[[], None], *, alone: bool = True
    ) -> None:
        super().__init__(config)
        self._announce, self._stopping = announce, stopping
        self._at_once = AT_ONCE if alone else 1
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        if ending.told():
            self.should_exit = True
            return
        self._acceptors = [Acceptor(each, self._protocol, at_once=self._at_once) for each in sockets or ()]
        self._announce()

    def _protocol(self) -> asyncio.Protocol:
        """Of one connection, as uvicorn's own `startup` makes it."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        for acceptor in self._acceptors:
            acceptor.close()
            await acceptor.wait_closed()  # a connection without its protocol would not hear of the end
        await super().shutdown(sockets=sockets)


@contextmanager
def _replay_process(source: Path | None) -> Iterator[str]:
    """Start the replay server on a free loopback port and yield its base URL.

    It inherits the socket, so there is no port to race for and nothing to poll: the kernel queues
    connections until it accepts. It ends when its standard input does, even if we are killed; Ctrl-C
    does not reach its session, so that it answers for as long as we have requests in flight.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(_BACKLOG)
        fd = listener.fileno()
        command = [sys.executable, "-P", "-m", "router_gateway.cli", "replay", "--fd", str(fd)]
        command += ["--demo"] if source is None else ["--config", str(source)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[fd], start_new_session=True)
        base_url = url("127.0.0.1", listener) + "/v1"
    with child:  # closes its standard input and waits for it
        try:
            yield base_url
        finally:
            child.terminate()
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()


def _wait_for_replay(base_url: str) -> None:
    """Return when the replay server answers. Raises ConfigError when it has ended instead, having said why."""
    host = base_url.removeprefix("http://").removesuffix("/v1")
    try:
        with closing(http.client.HTTPConnection(host, timeout=_REPLAY_START_S_MAX)) as connection:
            connection.request("GET", "/v1/models")
            connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        raise ConfigError(["replay: the replay server did not start"]) from None


def _first_key(config: Config, built: Built) -> str | None:
    """The API key of a first start, or None when keys exist and this one cannot be shown again.

    Replayed endpoints spend no money, so a demo keeps its key in a file for the next start to print; any
    other installation shows it once and keeps only the hash.
    """
    if _is_demo(config):
        return _kept_key(config.state_dir / _KEY_FILE, built, "first start", admin=False)
    return None if built.keys.list() else built.keys.create("first start")


def _is_demo(config: Config) -> bool:
    return all(endpoint.base_url == REPLAY for endpoint in config.endpoints)


def _kept_key(file: Path, built: Built, name: str, *, admin: bool) -> str:
    """The key in the file; a new one, where there is none that is valid."""
    if file.exists() and built.keys.find(key := file.read_text().strip()) is not None:
        return key
    key = built.keys.create(name, admin=admin)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write(key + "\n")
    return key


def _pages(config: Config, built: Built, address: str | None) -> list[str]:
    """What is said of the dashboard at that address; a demo's admin key is kept and told as its other key is."""
    if address is None:
        return []
    if _is_demo(config):
        key = _kept_key(config.state_dir / _ADMIN_KEY_FILE, built, "demo dashboard", admin=True)
        return [f"Dashboard: {address} (admin key: {key})"]
    return [f"Dashboard: {address} (admin key: `router-gateway keys create NAME --admin` makes one)"]


def _announce(config: Config, base_url: str, key: str | None, pages: list[str]) -> None:
    in_shell, in_python = key or "$ROUTER_GATEWAY_KEY", f'"{key}"' if key else 'os.environ["ROUTER_GATEWAY_KEY"]'
    lines = [
        "",
        f"Router Gateway is ready: {base_url}",
        f"API key: {key}"
        if key
        else "API key: the one made on first start; `router-gateway keys create NAME` adds one",
        *pages,
    ]
    if any(endpoint.base_url == REPLAY for endpoint in config.endpoints):
        lines.append("Endpoints answer with replays of recorded outcomes; nothing is sent to a provider.")
    lines += [
        "",
        "Try it with curl:",
        f"""curl -s {base_url}/chat/completions -H "Authorization: Bearer {in_shell}" \\""",
        """  -H "Content-Type: application/json" \\""",
        """  -d '{"model": "auto", "messages": [{"role": "user", "content": "What is the capital of Australia?"}]}'""",
        "",
        "or with the openai SDK (pip install openai):",
        *([] if key else ["import os"]),
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{base_url}", api_key={in_python})',
        'question = [{"role": "user", "content": "What is the capital of Australia?"}]',
        'reply = client.chat.completions.create(model="auto", messages=question)',
        "print(reply.model, reply.choices[0].message.content)",
        "",
        "Ctrl-C stops everything.",
    ]
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # whoever started us reads no more; what is left in the buffer must not fail our end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
