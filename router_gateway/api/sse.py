"""Server-sent events towards the client: pings, the explain chunk, and an error after the 200."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import anyio

from router_gateway.api.errors import error_object
from router_gateway.core.errors import GatewayError
from router_gateway.dispatch.answer import Answer

log = logging.getLogger(__name__)

PING = b": ping\n\n"
_DONE = b"data: [DONE]"
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
MEDIA_TYPE = "text/event-stream; charset=utf-8"


def event(payload: dict[str, Any]) -> bytes:
    """One `data:` event."""
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


async def relay(answer: Answer, last: dict[str, Any] | None = None) -> AsyncIterator[bytes]:
    """The answer's events as they come; `last` is sent as one more chunk before `[DONE]`.

    A failure after the first byte becomes an error event, and the stream ends without `[DONE]`.
    """
    try:
        async for chunk in answer.events():
            if last is not None and chunk.startswith(_DONE):
                yield event(last)
            yield chunk
    except GatewayError as error:
        yield event(error_object(error))
    except Exception:
        log.exception("the relay of a stream failed")
        yield event(error_object(GatewayError("the gateway failed on this stream; it has been logged")))
    finally:
        # The client may be gone and this task cancelled: the upstream must be told all the same.
        with anyio.CancelScope(shield=True):
            await answer.aclose()


async def pinged(pending: asyncio.Future[AsyncIterator[bytes]], every_s: float) -> AsyncIterator[bytes]:
    """Comments while the first content is awaited, so that no proxy closes an idle stream; then the stream.

    The 200 is out by then: a failure can only be told in-band.
    """
    try:
        while not pending.done():
            yield PING
            await asyncio.wait({pending}, timeout=every_s)
        async for chunk in pending.result():
            yield chunk
    except GatewayError as error:
        yield event(error_object(error))
    finally:
        await cancel(pending)


async def cancel(work: asyncio.Future[Any]) -> None:
    """Cancel and wait until it has cleaned up, even when we are being cancelled ourselves."""
    if work.done():
        return
    work.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait({work})


async def first(work: asyncio.Future[Any], gone: Awaitable[Any], within_s: float | None) -> bool:
    """Wait for `work`; False when `within_s` passed first. Cancels `work` and raises when the client is gone."""
    watcher = asyncio.ensure_future(gone)
    try:
        await asyncio.wait({work, watcher}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return True
        if watcher.done():
            raise ClientGone
        return False
    except BaseException:
        await cancel(work)
        raise
    finally:
        watcher.cancel()


class ClientGone(Exception):
    """The client closed the connection before the answer began; nobody is left to tell."""
