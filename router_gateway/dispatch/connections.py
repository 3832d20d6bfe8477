"""The HTTP client under passthrough: aiohttp's pooled connections, and their failures as ours (docs/adr/0015)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import TracebackType

import aiohttp
import httpx
from yarl import URL

from router_gateway.core.errors import UpstreamError, UpstreamTimeout
from router_gateway.dispatch.upstream import ConnectTimeout

_CONNECTIONS_MAX = 2_000
_KEEPALIVE_S = 30.0
_AT_ONCE_BYTES_MAX = 1 << 20  # a larger body is written in pieces, so that it does not hold up the loop


class Connections:
    """One pool for all endpoints. Redirects are not followed and cookies not kept: tenants share it.

    With `trust_env` the proxy variables of the environment are honoured.
    """

    def __init__(self, *, trust_env: bool) -> None:
        self._trust_env = trust_env
        self._tls = httpx.create_ssl_context()  # the certificates that the other clients trust, too
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: URL, body: bytes, headers: Mapping[str, str], *, connect_timeout_s: float, read_timeout_s: float
    ) -> aiohttp.ClientResponse:
        """Send, and return when the head of the response is there.

        `connect_timeout_s` bounds the wait for a connection, pooled or new; `read_timeout_s` every silence after
        it. Raises what `UpstreamErrors` translates.
        """
        if self._session is None:  # a session must be made on the running loop
            self._session = self._open()
        return await self._session.post(
            url,
            data=body if len(body) < _AT_ONCE_BYTES_MAX else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                connect=connect_timeout_s, sock_connect=connect_timeout_s, sock_read=read_timeout_s
            ),
        )

    async def aclose(self) -> None:
        """Close every connection; idempotent."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=_CONNECTIONS_MAX, keepalive_timeout=_KEEPALIVE_S, ssl=self._tls, ttl_dns_cache=30
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=self._trust_env
        )


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
        if isinstance(error, aiohttp.ClientError | OSError):
            raise _upstream_error(self._endpoint, error) from None


def _upstream_error(endpoint: str, error: BaseException) -> UpstreamError:
    kind = type(error).__name__
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ConnectTimeout(f"endpoint {endpoint}: no connection in time")
        case TimeoutError():
            return UpstreamTimeout(f"endpoint {endpoint}: silent for too long")
        case aiohttp.ClientConnectorError():
            return UpstreamError(f"endpoint {endpoint}: could not connect ({kind})")
        case _:
            return UpstreamError(f"endpoint {endpoint}: the connection broke ({kind})")
