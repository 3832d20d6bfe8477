"""The dashboard as a verb, and beside `serve` as a process of its own that may fail without being missed."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router_gateway.core import collector
from router_gateway.core.errors import ConfigError
from router_gateway.verbs.listening import listening, url

if TYPE_CHECKING:
    from router_gateway.config import Oidc
    from router_gateway.dashboard.oidc import Settings

log = logging.getLogger(__name__)

PORT = 8081
_MISSING = "the dashboard is not installed"
_INSTALL = "pip install 'router-gateway[dashboard]'"

Gateway = Annotated[str, typer.Option(help="The gateway's address.", envvar="ROUTER_GATEWAY_URL")]
Host = Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 to be reached from elsewhere.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")]
Beside = Annotated[
    bool | None, typer.Option("--dashboard/--no-dashboard", help="With its dashboard; default: dashboard.enabled.")
]
Descriptor = Annotated[int, typer.Option("--fd", hidden=True, help="An inherited socket; `serve` gives it.")]


ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file, for its section dashboard.oidc.")
]
Provider = Annotated[str, typer.Option("--oidc", hidden=True, help="That section as JSON; `serve` gives it.")]


def command() -> Callable[..., None]:
    """The function that typer runs."""

    def dashboard(
        gateway: Gateway = "http://127.0.0.1:8080",
        host: Host = "127.0.0.1",
        port: Port = PORT,
        config: ConfigFile = None,
        fd: Descriptor = -1,
        oidc: Provider = "",
    ) -> None:
        """Serve the dashboard of a running gateway; sign in with an admin key, or by an identity provider."""
        _check_installed()
        address, provider = _address(gateway), _provider(config, oidc)
        listener = socket.socket(fileno=fd) if fd >= 0 else _listening(host, port)
        with listener, collector.at_rest():
            from router_gateway.dashboard.running import run

            shown = url(host, listener)
            ready = None if fd >= 0 else lambda: print(f"Dashboard: {shown}\nCtrl-C stops it.", flush=True)
            run(address, listener, beside=fd >= 0, ready=ready, oidc=provider)

    return dashboard


@contextmanager
def dashboard_process(gateway: str, *, host: str, port: int, oidc: Oidc | None = None) -> Iterator[str | None]:
    """Run it beside the gateway at that base URL for as long as the block lasts; yields its address.

    None where it cannot be run, which is logged: the gateway serves without. It ends when its standard input does, even
    if we are killed. Its end is nobody's concern but its own.
    """
    try:
        _check_installed()
        listener = _listening(host, port)
    except ConfigError as error:
        log.warning("no dashboard: %s (%s)", error.message, error.hint)
        yield None
        return
    with listener:
        fd, shown = listener.fileno(), url(host, listener)
        command = [sys.executable, "-P", "-m", "router_gateway.cli", "dashboard", "--gateway", gateway, "--fd", str(fd)]
        command += [] if oidc is None else ["--oidc", oidc.model_dump_json()]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[fd], start_new_session=True)
    try:
        yield shown
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _listening(host: str, port: int) -> socket.socket:
    return listening(host, port, field="dashboard.port", hint="choose another with --port")


def _check_installed() -> None:
    if find_spec("nicegui") is None:
        raise ConfigError([_MISSING], hint=_INSTALL)


def _provider(config: Path | None, said: str) -> Settings | None:
    """What the configuration says of an identity provider, with the secrets that it names. Raises ConfigError."""
    if config is None and not said:
        return None
    from router_gateway import config as configuration
    from router_gateway.dashboard.oidc import Settings

    section = configuration.Oidc.model_validate_json(said) if said else configuration.load(config).dashboard.oidc
    if section is None:
        return None
    problems = []
    if (secret_env := section.client_secret_env) and not os.environ.get(secret_env):
        problems.append(f"dashboard.oidc.client_secret_env: the environment variable {secret_env} is not set")
    for role, groups in (("admin", section.admin_groups), ("viewer", section.viewer_groups)):
        variable = getattr(section, f"{role}_key_env")
        if groups and not os.environ.get(variable):
            problems.append(f"dashboard.oidc.{role}_key_env: the environment variable {variable} is not set")
    if problems:
        raise ConfigError(problems, hint="`router-gateway keys create dashboard --admin` makes a key, or --viewer")
    return Settings(
        issuer=section.issuer,
        client_id=section.client_id,
        client_secret=os.environ.get(secret_env) if secret_env else None,
        url=section.url,
        scopes=tuple(section.scopes),
        groups_claim=section.groups_claim,
        admin_groups=tuple(section.admin_groups),
        viewer_groups=tuple(section.viewer_groups),
        admin_key=os.environ.get(section.admin_key_env),
        viewer_key=os.environ.get(section.viewer_key_env),
    )


def _address(gateway: str) -> str:
    """The base URL without a path. Raises ConfigError."""
    address = gateway.rstrip("/").removesuffix("/v1")
    if not address.startswith(("http://", "https://")):
        raise ConfigError([f"gateway: {gateway[:100]!r} is no http address"], hint="such as http://127.0.0.1:8080")
    return address
