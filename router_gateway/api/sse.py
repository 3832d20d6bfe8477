"""Server-sent events towards the client: pings, the explain chunk, and an error after the 200."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from router_gateway.api.errors import error_object
from router_gateway.api.leaving import ClientGone, UntilGone
from router_gateway.core.errors import GatewayError
from router_gateway.dispatch.answer import Answer
from router_gateway.gateway import log_failure

T = TypeVar("T")
Events = AsyncGenerator[bytes, None]

PING = b": ping\n\n"
_DONE = b"data: [DONE]"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_HEAD = ("id", "created", "model")


class EventStream(StreamingResponse):
    """A response of server-sent events.

    `close` is awaited at the end, however it comes: a client may leave even before the first event is
    asked for, and then no `finally` inside `events` would run.
    """

    def __init__(self, events: Events, *, close: Callable[[], Awaitable[None]], headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream; charset=utf-8", headers=headers | _HEADERS)
        self._events = events
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(ClientGone):
                async with UntilGone(receive):
                    await self.stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._events.aclose()
                await self._close()


def event(payload: dict[str, Any]) -> bytes:
    """One `data:` event."""
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


async def once(payload: dict[str, Any]) -> Events:
    """A stream of a single event."""
    yield event(payload)


async def relay(
    answer: Answer, last: dict[str, Any] | None = None, heard: Callable[[list[bytes]], None] | None = None
) -> Events:
    """The answer's events as they come, what came together in one piece; `last` is one more chunk before `[DONE]`.

    heard : is told the events of the upstream as they pass

    A failure after the first byte becomes an error event, and the stream ends without `[DONE]`.
    """
    first: bytes | None = None
    try:
        async for batch in answer.batches():
            first = first or batch[0]
            if heard is not None:
                heard(batch)
            if last is not None and batch[-1].startswith(_DONE):
                batch.insert(-1, event(_head_of(first) | last))
            yield b"".join(batch)
    except Exception as error:
        yield failure(error)
    finally:
        # The client may be gone and this task cancelled: the upstream must be told all the same.
        with anyio.CancelScope(shield=True):
            await answer.aclose()


async def pinged(pending: asyncio.Future[T], every_s: float, relayed: Callable[[T], Events]) -> Events:
    """Comments until `pending` is there, so that no proxy closes an idle stream; then what `relayed` makes of it.

    The 200 is out by then: a failure can only be told in-band.
    """
    try:
        while not pending.done():
            yield PING
            await asyncio.wait({pending}, timeout=every_s)
        async with aclosing(relayed(pending.result())) as events:
            async for chunk in events:
                yield chunk
    except Exception as error:
        yield failure(error)


def failure(error: Exception) -> bytes:
    """The error event; what nobody foresaw is logged and not told."""
    if not isinstance(error, GatewayError):
        log_failure("a stream failed", error)
        error = GatewayError("the gateway failed on this stream; it has been logged")
    return event(error_object(error))


async def cancel(work: asyncio.Future[Any]) -> None:
    """Cancel and wait until it has cleaned up, even when we are being cancelled ourselves."""
    work.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait({work})


async def first(work: asyncio.Future[Any], receive: Receive, within_s: float) -> bool:
    """Wait for `work`; False when `within_s` passed first. Cancels `work` and raises ClientGone when the client is."""
    try:
        async with UntilGone(receive):
            await asyncio.wait({work}, timeout=within_s)
        return work.done()
    except BaseException:
        await cancel(work)
        raise


def _head_of(chunk: bytes) -> dict[str, Any]:
    """What all chunks of a stream have in common."""
    said = json.loads(chunk.removeprefix(b"data:"))
    return {name: said[name] for name in _HEAD if name in said}
