"""The floor: what a Python proxy costs that does nothing at all but read `model` and pass the bytes on.

Plain ASGI under uvicorn, aiohttp as the client; no authentication, no ledger, no routing, no retries.
UPSTREAM_URL is where requests go.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_THRESHOLDS = (50_000, 20, 50)  # as the gateway's, so that pauses are no difference between the two
_session: aiohttp.ClientSession | None = None


async def app(scope: _Message, receive: _Receive, send: _Send) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    assert _session is not None
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    content = b"".join(parts)
    json.loads(content)["model"]
    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    async with _session.post(os.environ["UPSTREAM_URL"], data=content, headers=headers) as answer:
        kept = [(b"content-type", answer.headers["content-type"].encode())]
        if answer.content_length is not None:
            kept.append((b"content-length", str(answer.content_length).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": kept})
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _live(receive: _Receive, send: _Send) -> None:
    global _session
    while True:
        match (await receive())["type"]:
            case "lifespan.startup":
                _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
                gc.collect()
                gc.freeze()
                gc.set_threshold(*_THRESHOLDS)
                await send({"type": "lifespan.startup.complete"})
            case "lifespan.shutdown":
                assert _session is not None
                await _session.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
