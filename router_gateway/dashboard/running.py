"""The dashboard's process: a socket, uvicorn, and an end when its gateway ends."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable

import uvicorn

from router_gateway.core import collector
from router_gateway.core.process import end_with_parent
from router_gateway.dashboard.app import create_app
from router_gateway.dashboard.oidc import Settings

_NICE = 10  # the data plane goes first


def run(
    gateway: str,
    listener: socket.socket,
    *,
    beside: bool,
    ready: Callable[[], None] | None = None,
    oidc: Settings | None = None,
) -> None:
    """Serve the dashboard of the gateway at that base URL on a bound socket until Ctrl-C or SIGTERM.

    beside : it was started by `serve`, and ends with it
    ready : called when pages are answered
    oidc : the identity provider by which people may sign in as well
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.nice(_NICE)
    if beside:
        end_with_parent()
    server = _Server(
        uvicorn.Config(
            create_app(gateway, port=listener.getsockname()[1], oidc=oidc),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="websockets-sansio",
            timeout_graceful_shutdown=2,
        ),
        ready,
    )
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        collector.settle()
        if self._ready is not None and self.started:
            self._ready()
