"""The socket that a process answers on, bound before anything slow starts, and the address that people are told."""

from __future__ import annotations

import socket

from router_gateway.core.errors import ConfigError


def listening(host: str, port: int, *, field: str, hint: str, backlog: int = 128) -> socket.socket:
    """A socket that listens, of `backlog` connections not taken yet.

    Raises ConfigError, naming the configuration's `field`, where that is impossible.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise ConfigError([f"{field}: cannot listen on {host}:{port} ({error.strerror})"], hint=hint) from None
    return listener


def url(host: str, listener: socket.socket) -> str:
    """How it is reached from this machine, without a slash at the end."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
