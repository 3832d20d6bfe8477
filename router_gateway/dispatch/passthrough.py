"""Client and upstream speak the same protocol: the body goes out byte for byte, the answer comes back so.

httpx's interface over aiohttp's connections: the same code, a fraction of the processor time
(docs/adr/0008). One pool serves all endpoints.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import httpx

from router_gateway import __version__
from router_gateway.core.body import REMOVE
from router_gateway.core.errors import ConfigError, UpstreamError, UpstreamTimeout
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.connections import connection_pool, upstream_errors
from router_gateway.dispatch.refusal import CLIENT_STATUSES, client_error, refusal
from router_gateway.dispatch.stream import DONE, EventSplitter
from router_gateway.dispatch.upstream import Call, UpstreamRefused

OPENAI_BASE_URL = "https://api.openai.com/v1"
ANSWER_BYTES_MAX = 32 * 1024 * 1024
_ERROR_BYTES_MAX = 256 * 1024
_DRAIN_S = 0.25
_FORWARDED_HEADERS = ("traceparent", "tracestate", "openai-beta")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")


class PassthroughUpstream:
    """Speaks to OpenAI-compatible endpoints.

    `secrets` maps endpoint names to API keys; an endpoint without one is called without. With
    `trust_env` the proxy variables of the environment are honoured. Raises ConfigError for a key that
    cannot be a header.
    """

    def __init__(self, secrets: Mapping[str, str], *, trust_env: bool = False) -> None:
        bad = [name for name, secret in secrets.items() if not _HEADER_VALUE.fullmatch(secret)]
        if bad:
            raise ConfigError([f"endpoints.{name}: the API key is empty or not printable ASCII" for name in bad])
        self._secrets = dict(secrets)
        self._client = connection_pool(trust_env=trust_env)

    def __repr__(self) -> str:
        return f"PassthroughUpstream(secrets of {sorted(self._secrets)})"

    async def open(self, endpoint: Endpoint, call: Call, *, timeout_s: float) -> PassthroughReply:
        """POST the call to `{base_url}/chat/completions`; see `Upstream.open`."""
        request = self._request(endpoint, call)
        with upstream_errors(endpoint.name):
            try:
                async with asyncio.timeout(timeout_s):
                    response = await self._client.send(request, stream=True)
                    reply = PassthroughReply(
                        endpoint, response, stream=call.stream, secret=self._secrets.get(endpoint.name)
                    )
                    try:
                        await reply.check()
                    except BaseException:
                        await reply.aclose()
                        raise
                    return reply
            except TimeoutError:
                raise UpstreamTimeout(f"endpoint {endpoint.name}: no answer within {timeout_s:.3g} s") from None

    async def aclose(self) -> None:
        await self._client.aclose()

    def _request(self, endpoint: Endpoint, call: Call) -> httpx.Request:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if call.stream else "application/json",
            "accept-encoding": "identity",
            "user-agent": f"router-gateway/{__version__}",
            "x-client-request-id": str(call.query_id),
        }
        given = {name.lower(): value for name, value in call.headers.items()}
        headers |= {name: given[name] for name in _FORWARDED_HEADERS if _HEADER_VALUE.fullmatch(given.get(name, ""))}
        if endpoint.name in self._secrets:
            headers["authorization"] = f"Bearer {self._secrets[endpoint.name]}"
        # Silence on a stream is bounded by the wait for a first token; a whole answer may take its time.
        read_s = endpoint.first_token_timeout_s if call.stream else endpoint.timeout_s
        return self._client.build_request(
            "POST",
            f"{(endpoint.base_url or OPENAI_BASE_URL).rstrip('/')}/chat/completions",
            content=call.body.amended(_changes(endpoint, call)),
            headers=headers,
            # aiohttp counts the wait for a pooled connection and connecting together, as `pool`.
            timeout=httpx.Timeout(read_s, connect=endpoint.connect_timeout_s, pool=endpoint.connect_timeout_s),
        )


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

    def __init__(self, endpoint: Endpoint, response: httpx.Response, *, stream: bool, secret: str | None) -> None:
        self._endpoint = endpoint
        self._response = response
        self._stream = stream
        self._secret = secret
        self._refused = b""
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._chunks: AsyncGenerator[bytes, None] | None = None

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

    async def events(self) -> AsyncIterator[bytes]:
        splitter = EventSplitter(source=f"endpoint {self._endpoint.name}")
        ready: deque[bytes] = deque()
        with upstream_errors(self._endpoint.name):
            async for chunk in self._raw():
                ready.extend(splitter.feed(chunk))
                while ready:
                    event = ready.popleft()
                    yield event
                    if event == DONE:
                        await self._drain()
                        return
        for event in splitter.close():
            yield event

    async def aclose(self) -> None:
        if self._chunks is not None:
            with suppress(RuntimeError):  # another task is reading: closing the response ends that
                await self._chunks.aclose()
        await self._response.aclose()

    def _raw(self) -> AsyncGenerator[bytes, None]:
        # `aiter_bytes` undoes a compression we did not ask for; the usual answer skips that layer.
        plain = self.headers.get("content-encoding", "identity") == "identity"
        chunks: Any = self._response.aiter_raw() if plain else self._response.aiter_bytes()
        self._chunks = chunks
        return self._chunks

    async def _read(self, bytes_max: int) -> bytes:
        body = bytearray()
        with upstream_errors(self._endpoint.name):
            async for chunk in self._raw():
                body += chunk
                if len(body) > bytes_max:
                    raise UpstreamError(f"endpoint {self._endpoint.name}: answered with more than {bytes_max} bytes")
        return bytes(body)

    async def _drain(self) -> None:
        """Read the end of the response, so that the connection can serve the next request."""
        assert self._chunks is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                async for _ in self._chunks:
                    return  # more after [DONE]: not worth the connection
