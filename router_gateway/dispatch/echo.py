"""Endpoints inside this process, with set text, tokens, latency and failures: for tests of the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal

from router_gateway.core.errors import UpstreamError, UpstreamRateLimited, UpstreamTimeout
from router_gateway.core.types import Endpoint, Usage
from router_gateway.dispatch.shapes import completion, error_object, events
from router_gateway.dispatch.upstream import Call, ContextLengthExceeded, UpstreamRefused

Failure = Literal[
    "refused",          # 503
    "rate_limited",     # 429, asks for a second's pause
    "timeout",
    "context_length",   # too long for this endpoint
    "bad_request",      # a 400 the client gets to see
    "empty",            # 200, and then nothing
    "breaks_off",       # half of the answer, then the connection drops
    "hangs",            # 200, and then silence
]  # fmt: skip

ECHO_USAGE = Usage(tokens_input=10, tokens_output=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """How one endpoint behaves. `usage` None: it reports none. `latency_s` passes before the first byte."""

    text: str = "echo"
    usage: Usage | None = ECHO_USAGE
    latency_s: float = 0.0
    failure: Failure | None = None


class EchoUpstream:
    """Answers without a network. `echoes` by endpoint name; the others behave as `Echo()`.

    `calls` lists (endpoint name, call) in order of arrival.
    """

    def __init__(self, echoes: Mapping[str, Echo] | None = None) -> None:
        self.echoes: dict[str, Echo] = dict(echoes or {})
        self.calls: list[tuple[str, Call]] = []

    async def open(self, endpoint: Endpoint, call: Call, *, timeout_s: float) -> EchoReply:
        self.calls.append((endpoint.name, call))
        echo = self.echoes.get(endpoint.name, Echo())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(echo.latency_s)
        except TimeoutError:
            raise UpstreamTimeout(f"endpoint {endpoint.name}: no answer within {timeout_s:.3g} s") from None
        match echo.failure:
            case "refused":
                raise UpstreamRefused(f"endpoint {endpoint.name}: answered with status 503", upstream_status=503)
            case "rate_limited":
                raise UpstreamRateLimited(f"endpoint {endpoint.name}: rate limited", retry_after_s=1.0)
            case "timeout":
                raise UpstreamTimeout(f"endpoint {endpoint.name}: no answer")
            case "context_length":
                raise ContextLengthExceeded(f"endpoint {endpoint.name}: the request exceeds its context length")
        return EchoReply(endpoint, echo)

    async def aclose(self) -> None:
        """Nothing is held open."""


class EchoReply:
    """See `Reply`."""

    def __init__(self, endpoint: Endpoint, echo: Echo) -> None:
        self.status = 400 if echo.failure == "bad_request" else 200
        self.headers: Mapping[str, str] = {}
        self._endpoint = endpoint
        self._echo = echo

    async def content(self) -> bytes:
        echo = self._echo
        match echo.failure:
            case "bad_request":
                error = error_object("echo was told to refuse this", type="invalid_request_error", code="bad_echo")
                return json.dumps(error).encode()
            case "hangs":
                await asyncio.Event().wait()
            case "breaks_off":
                raise UpstreamError(f"endpoint {self._endpoint.name}: the connection broke")
            case "empty":
                return b""
        return json.dumps(completion(model=self._endpoint.model, text=echo.text, usage=echo.usage)).encode()

    async def batches(self) -> AsyncIterator[list[bytes]]:
        echo = self._echo
        stream = list(events(model=self._endpoint.model, text=echo.text, usage=echo.usage))
        match echo.failure:
            case "empty":
                return
            case "hangs":
                await asyncio.Event().wait()
            case "breaks_off":
                stream = stream[: 1 + len(echo.text.split()) // 2 + 1]
        for event in stream:
            yield [event]
        if echo.failure == "breaks_off":
            raise UpstreamError(f"endpoint {self._endpoint.name}: the connection broke")

    async def aclose(self) -> None:
        """Nothing is held open."""
