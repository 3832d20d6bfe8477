"""The HTTP client under passthrough: aiohttp's connections behind httpx's interface, and their failures."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from router_gateway.core.errors import UpstreamError, UpstreamTimeout
from router_gateway.dispatch.upstream import ConnectTimeout

_CONNECTIONS_MAX = 2_000
_KEEPALIVE_S = 30.0


def connection_pool(*, trust_env: bool) -> httpx.AsyncClient:
    """One pool for all endpoints. Redirects are not followed and cookies not kept: tenants share it."""
    context = httpx.create_ssl_context()
    # A factory, because a session must be made on the running loop.
    transport = AiohttpTransport(verify=context, client=lambda: _session(context, trust_env=trust_env))
    no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(transport=transport, cookies=no_cookies, follow_redirects=False)


def _session(context: ssl.SSLContext, *, trust_env: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=_CONNECTIONS_MAX, keepalive_timeout=_KEEPALIVE_S, ssl=context, ttl_dns_cache=30
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=trust_env)


@contextmanager
def upstream_errors(endpoint: str) -> Iterator[None]:
    """Network failures as UpstreamError, without the cause: it may quote headers or bytes of the answer."""
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError) as error:
        # The transport reports a dropped connection as a connect timeout; its cause tells them apart.
        raise _upstream_error(endpoint, error.__cause__ or error) from None


def _upstream_error(endpoint: str, error: BaseException) -> UpstreamError:
    kind = type(error).__name__
    match error:
        case aiohttp.ConnectionTimeoutError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return ConnectTimeout(f"endpoint {endpoint}: no connection in time")
        case TimeoutError() | httpx.TimeoutException():
            return UpstreamTimeout(f"endpoint {endpoint}: silent for too long")
        case aiohttp.ClientConnectorError():
            return UpstreamError(f"endpoint {endpoint}: could not connect ({kind})")
        case _:
            return UpstreamError(f"endpoint {endpoint}: the connection broke ({kind})")
