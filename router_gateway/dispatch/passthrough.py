"""Client and upstream speak the same protocol: the body goes out byte for byte, the answer comes back so.

Spoken with a client of our own (docs/adr/0017); one pool serves all endpoints.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from yarl import URL

from router_gateway import __version__
from router_gateway.core.body import REMOVE
from router_gateway.core.errors import ConfigError, UpstreamError
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.connections import Answering, Connections, UpstreamErrors
from router_gateway.dispatch.refusal import CLIENT_STATUSES, client_error, refusal
from router_gateway.dispatch.stream import DONE, EventSplitter
from router_gateway.dispatch.upstream import Call, UpstreamRefused

OPENAI_BASE_URL = "https://api.openai.com/v1"
ANSWER_BYTES_MAX = 32 * 1024 * 1024
_ERROR_BYTES_MAX = 256 * 1024
_DRAIN_S = 0.25
_USER_AGENT = f"router-gateway/{__version__}"
_FORWARDED_HEADERS = ("traceparent", "tracestate", "openai-beta")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")


class PassthroughUpstream:
    """Speaks to OpenAI-compatible endpoints.

    `secrets` maps endpoint names to API keys; an endpoint without one is called without. Raises ConfigError
    for a key that cannot be a header.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        bad = [name for name, secret in secrets.items() if not _HEADER_VALUE.fullmatch(secret)]
        if bad:
            raise ConfigError([f"endpoints.{name}: the API key is empty or not printable ASCII" for name in bad])
        self._secrets = dict(secrets)
        self._connections = Connections()

    def __repr__(self) -> str:
        return f"PassthroughUpstream(secrets of {sorted(self._secrets)})"

    async def open(self, endpoint: Endpoint, call: Call, *, timeout_s: float) -> PassthroughReply:
        """POST the call to `{base_url}/chat/completions`; see `Upstream.open`."""
        headers = self._headers(endpoint, call)
        body = call.body.amended(_changes(endpoint, call))
        # A stream's silence is bounded by the wait for a first token; a whole answer may take its time.
        silence_s = endpoint.first_token_timeout_s if call.stream else endpoint.timeout_s
        with UpstreamErrors(endpoint.name):
            response = await self._connections.post(
                _url(endpoint.base_url or OPENAI_BASE_URL),
                body,
                headers,
                connect_timeout_s=min(endpoint.connect_timeout_s, timeout_s),
                read_timeout_s=min(silence_s, timeout_s),
            )
        reply = PassthroughReply(endpoint, response, stream=call.stream, secret=self._secrets.get(endpoint.name))
        try:
            await reply.check()
        except BaseException:
            await reply.aclose()
            raise
        return reply

    async def aclose(self) -> None:
        await self._connections.aclose()

    def _headers(self, endpoint: Endpoint, call: Call) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if call.stream else "application/json",
            "accept-encoding": "identity",
            "user-agent": _USER_AGENT,
            "x-client-request-id": str(call.query_id),
        }
        if call.headers:
            given = {name.lower(): value for name, value in call.headers.items()}
            headers |= {
                name: given[name] for name in _FORWARDED_HEADERS if _HEADER_VALUE.fullmatch(given.get(name, ""))
            }
        if endpoint.name in self._secrets:
            headers["authorization"] = f"Bearer {self._secrets[endpoint.name]}"
        return headers


@lru_cache(maxsize=1024)
def _url(base_url: str) -> URL:
    return URL(f"{base_url.rstrip('/')}/chat/completions")


def _changes(endpoint: Endpoint, call: Call) -> dict[str, Any]:
    changes: dict[str, Any] = {"model": endpoint.model, "routing": REMOVE, "session_id": REMOVE}
    if bool(call.body.get("stream")) is not call.stream:
        changes["stream"] = call.stream
    if call.stream:
        options = call.body.get("stream_options")
        if options is None or isinstance(options, dict):  # anything else is the upstream's to reject
            changes["stream_options"] = {**(options or {}), "include_usage": True}
    return changes


class PassthroughReply:
    """An HTTP response whose head has arrived; see `Reply`."""

    def __init__(self, endpoint: Endpoint, response: Answering, *, stream: bool, secret: str | None) -> None:
        self._endpoint = endpoint
        self._response = response
        self._stream = stream
        self._secret = secret
        self._refused = b""
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def check(self) -> None:
        """Raise the UpstreamError that the head (or a refusal's body) amounts to."""
        name = self._endpoint.name
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.status != 200:
            self._refused = await self._read(_ERROR_BYTES_MAX)
            error = refusal(name, self.status, self.headers, self._refused)
            if error is not None:
                raise error
        elif (kind == "text/event-stream") is not self._stream or kind == "text/html":
            wanted = "an event stream" if self._stream else "JSON"
            raise UpstreamRefused(f"endpoint {name}: answered, but not with {wanted}", upstream_status=200)

    async def content(self) -> bytes:
        if self.status in CLIENT_STATUSES:
            return client_error(self._refused, secret=self._secret)
        return await self._read(ANSWER_BYTES_MAX)

    async def batches(self) -> AsyncIterator[list[bytes]]:
        splitter = EventSplitter(source=f"endpoint {self._endpoint.name}")
        with UpstreamErrors(self._endpoint.name):
            while chunk := await self._response.readany():
                events = splitter.feed(chunk)
                if DONE in events:
                    yield events[: events.index(DONE) + 1]
                    await self._drain()
                    return
                if events:
                    yield events
        if events := splitter.close():
            yield events

    async def aclose(self) -> None:
        self._response.close()

    async def _read(self, bytes_max: int) -> bytes:
        body = bytearray()
        with UpstreamErrors(self._endpoint.name):
            while chunk := await self._response.readany():
                body += chunk
                if len(body) > bytes_max:
                    raise UpstreamError(f"endpoint {self._endpoint.name}: answered with more than {bytes_max} bytes")
        return bytes(body)

    async def _drain(self) -> None:
        """Read the end of the response, so that the connection can serve the next request."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._response.readany()  # more after [DONE] is not worth the connection
