"""The outermost layer: ids on every response, a bound on requests in flight, an end for what nobody caught."""

from __future__ import annotations

import re
import time
from typing import Protocol
from uuid import UUID

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router_gateway.api.errors import error_response
from router_gateway.core.errors import GatewayError, Overloaded
from router_gateway.core.ids import uuid7
from router_gateway.gateway import log_failure

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CLIENT_GONE = 499
_PROBES = ("/health", "/livez", "/readyz", "/metrics")


class Clock(Protocol):
    """Is told how long requests took; see api/metrics.py."""

    def finished(self, *, api: str, status: int, seconds: float) -> None: ...


class InFlight:
    """How many requests are being answered, by all edges together; `most` is the bound."""

    __slots__ = ("most", "now")

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = 0


class Edge:
    """Wraps the application, or a part of it that is reached by a way of its own.

    `request.state.query_id` becomes the id of whatever is decided, `request.state.headers` a place for
    headers that an error response is to carry as well, `request.state.api` the name under which a handler
    wants its requests timed. Beyond the bound of `in_flight` the next request gets
    a 503; probes are always answered.
    """

    def __init__(self, app: ASGIApp, *, in_flight: InFlight, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query_id, status, began = uuid7(), None, time.perf_counter()
        ids = _request_ids(scope, query_id)
        state = scope["state"] = {**scope.get("state", {}), "query_id": query_id, "headers": {}, "api": None}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *ids]
            await send(message)

        if self._in_flight.now >= self._in_flight.most and not scope["path"].startswith(_PROBES):
            await error_response(Overloaded("too many requests are in flight"))(scope, receive, sending)
            return
        self._in_flight.now += 1
        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            pass  # it left while it was still sending: nobody is there to be told
        except Exception as error:
            log_failure("a request failed", error)
            if status is None:
                told = GatewayError("the gateway failed on this request; it has been logged")
                await error_response(told)(scope, receive, sending)
        finally:
            self._in_flight.now -= 1
            if state["api"] is not None:
                seconds = time.perf_counter() - began
                self._clock.finished(api=state["api"], status=status or _CLIENT_GONE, seconds=seconds)


def _request_ids(scope: Scope, query_id: UUID) -> list[tuple[bytes, bytes]]:
    """Both spellings that SDKs read; an inbound id is honoured only when it is harmless."""
    inbound = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    request_id = inbound if _SAFE_ID.fullmatch(inbound) else str(query_id).encode()
    return [(b"x-request-id", request_id), (b"request-id", request_id)]
