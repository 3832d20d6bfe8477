"""The HTTP client under passthrough: pooled HTTP/1.1 connections, and their failures as ours (docs/adr/0017)."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple

import aiohappyeyeballs
import httpx
from yarl import URL

from router_gateway.core.errors import UpstreamError, UpstreamTimeout
from router_gateway.dispatch.http1 import Connection, Response
from router_gateway.dispatch.inflating import CODINGS, Inflating
from router_gateway.dispatch.upstream import ConnectTimeout

_CONNECTIONS_MAX = 2_000  # in use; and as many idle
_KEEPALIVE_S = 30.0
_ADDRESSES_S = 30.0  # how long a name's addresses are remembered
_EYEBALLS_S = 0.25  # how long an address may keep the next one waiting (RFC 8305)
_UNSAFE = re.compile(r"[\r\n\0]")


class NotConnected(ConnectionError):
    """No connection could be made: nothing was sent."""


class NotConnectedInTime(TimeoutError):
    """No connection in time: nothing was sent."""


class Origin(NamedTuple):
    """Where a connection leads; its connections serve all requests that go there."""

    tls: bool
    host: str
    port: int


class Connections:
    """One pool for all endpoints. Redirects are not followed and cookies not kept: tenants share it."""

    def __init__(self) -> None:
        self._tls = httpx.create_ssl_context()  # the certificates that the other clients trust, too
        self._slots = asyncio.Semaphore(_CONNECTIONS_MAX)
        self._open: dict[Connection, Origin] = {}
        self._idle: dict[Origin, list[Connection]] = {}  # the last one was used last
        self._idle_count = 0
        self._addresses: dict[Origin, tuple[float, list[Any]]] = {}
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(
        self, url: URL, body: bytes, headers: Mapping[str, str], *, connect_timeout_s: float, read_timeout_s: float
    ) -> Answering:
        """Send, and return when the head of the response is there.

        `connect_timeout_s` bounds the wait for a connection, pooled or new; `read_timeout_s` every silence after
        it. Raises what `UpstreamErrors` translates. Nothing is ever sent twice.
        """
        origin, start, own = _target(url)
        connection = await self._take(origin, connect_timeout_s)
        head = _head(start, {**own, **headers}, len(body))
        return Answering(await connection.exchange(head, body, silence_s=read_timeout_s))

    async def aclose(self) -> None:
        """Close every connection; idempotent."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        for connection in [*self._open]:
            connection.fail(ConnectionAbortedError("closed here"))
        await asyncio.sleep(0)  # the loop says good-bye to each

    async def _take(self, origin: Origin, timeout_s: float) -> Connection:
        if not self._slots.locked() and (idle := self._pop(origin)) is not None:
            await self._slots.acquire()  # at once: there is room
            return idle
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.acquire()
                try:
                    return self._pop(origin) or await self._connect(origin)
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            raise NotConnectedInTime(f"no connection in {timeout_s:g} s") from None

    def _pop(self, origin: Origin) -> Connection | None:
        """An idle connection that both sides hold open."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if connection.usable:
                if not connection.stirs:
                    return connection
                connection.abort()  # a busy loop hears of the end after it has sent
        return None

    async def _connect(self, origin: Origin) -> Connection:
        if self._closed:
            raise NotConnected("the client is closed")
        loop = asyncio.get_running_loop()
        try:
            found = await self._resolve(origin)
            opened = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=_EYEBALLS_S, loop=loop)
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self._freed, self._lost),
                    sock=opened,
                    ssl=self._tls if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
            except BaseException:
                opened.close()
                raise
        except OSError as error:
            self._addresses.pop(origin, None)
            if isinstance(error, TimeoutError):
                raise
            raise NotConnected(type(error).__name__) from None
        self._open[connection] = origin
        return connection

    async def _resolve(self, origin: Origin) -> list[Any]:
        loop = asyncio.get_running_loop()
        known = self._addresses.get(origin)
        if known is None or known[0] < loop.time():
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            known = self._addresses[origin] = loop.time() + _ADDRESSES_S, found
        return known[1]

    def _freed(self, connection: Connection, reusable: bool) -> None:
        """The end of an exchange."""
        self._slots.release()
        origin = self._open.get(connection)
        if not reusable or origin is None or self._closed or self._idle_count >= _CONNECTIONS_MAX:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since_s = loop.time()
        self._idle.setdefault(origin, []).append(connection)
        self._idle_count += 1
        if self._reaper is None:
            self._reaper = loop.call_later(_KEEPALIVE_S, self._reap)

    def _lost(self, connection: Connection) -> None:
        origin = self._open.pop(connection, None)
        if origin is not None and connection in (idle := self._idle.get(origin, [])):
            idle.remove(connection)
            self._idle_count -= 1

    def _reap(self) -> None:
        """Hang up on what has been idle for too long."""
        loop = asyncio.get_running_loop()
        for idle in self._idle.values():
            for connection in idle:
                if loop.time() - connection.idle_since_s >= _KEEPALIVE_S:
                    connection.abort()  # `_lost` takes it off the list, later
        self._reaper = loop.call_later(_KEEPALIVE_S, self._reap) if self._idle_count else None


class Answering:
    """A response whose head is there; its body, decompressed where it came compressed, until `close`."""

    __slots__ = ("_response", "headers", "readany", "status")

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        coding = self.headers.get("content-encoding", "").strip().lower()
        inflated = Inflating(response.readany).readany if coding in CODINGS else response.readany
        self.readany: Callable[[], Awaitable[bytes]] = inflated

    def close(self) -> None:
        """Hang up, unless all has come."""
        self._response.close()


@lru_cache(maxsize=1024)
def _target(url: URL) -> tuple[Origin, str, dict[str, str]]:
    """Origin, request line, and the headers that follow from the URL alone."""
    host = url.raw_host or ""
    headers = {"host": url.host_port_subcomponent or host}
    if url.user is not None:
        pair = f"{url.user}:{url.password or ''}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return Origin(url.scheme == "https", host, url.port or 80), f"POST {url.raw_path_qs} HTTP/1.1", headers


def _head(start: str, headers: Mapping[str, str], length: int) -> bytes:
    if _UNSAFE.search("".join(headers.values())):
        raise ValueError("a header's value holds a line break")
    lines = [start, *(f"{name}: {value}" for name, value in headers.items()), f"content-length: {length}\r\n\r\n"]
    return "\r\n".join(lines).encode("latin-1")


class UpstreamErrors:
    """A context in which network failures become UpstreamError.

    Without the cause: it may quote headers or bytes of the answer.
    """

    __slots__ = ("_endpoint",)

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise _upstream_error(self._endpoint, error) from None


def _upstream_error(endpoint: str, error: BaseException) -> UpstreamError:
    match error:
        case NotConnectedInTime():
            return ConnectTimeout(f"endpoint {endpoint}: no connection in time")
        case TimeoutError():
            return UpstreamTimeout(f"endpoint {endpoint}: silent for too long")
        case NotConnected():
            return UpstreamError(f"endpoint {endpoint}: could not connect ({error})")
        case _:
            return UpstreamError(f"endpoint {endpoint}: the connection broke ({type(error).__name__})")
