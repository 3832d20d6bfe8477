"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from router_gateway.api import explain, sse, wire
from router_gateway.api.ask import build_ask
from router_gateway.api.parts import Parts, parts_of, read_body, request_ids
from router_gateway.core.body import Body
from router_gateway.core.errors import GatewayError
from router_gateway.core.ids import uuid7
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Decision
from router_gateway.gateway import Ask, Served, Timings

_CLIENT_GONE = 499


async def chat_completions(request: Request) -> Response:
    """Authenticate, read the few fields routing needs, and hand over to the gateway."""
    parts, query_id = parts_of(request), uuid7()
    request.state.headers = request_ids(request, query_id)
    key = await parts.auth(request)
    body = await read_body(request, parts.body_bytes_max)
    wire.check_chat(body)
    ask, options = await build_ask(parts.gateway, key, query_id, body, request.headers)
    request.state.headers["x-router-decision-id"] = str(query_id)
    try:
        if ask.stream:
            return await _stream(request, parts, ask, explained=options.explain)
        return await _whole(request, parts, ask, explained=options.explain)
    except sse.ClientGone:
        return Response(status_code=_CLIENT_GONE)
    except GatewayError as error:
        if error.decision is not None:
            request.state.headers |= decision_headers(parts, error.decision)
        parts.meter.answered(model=ask.requested_model, status=error.status, stream=ask.stream)
        raise


async def _whole(request: Request, parts: Parts, ask: Ask, *, explained: bool) -> Response:
    pending = asyncio.ensure_future(parts.gateway.answer(ask))
    await sse.first(pending, _gone(request), None)
    served: Served = pending.result()
    answer = served.answer
    content = answer.content or b""
    if explained and answer.status < 400:
        neighbours = parts.gateway.neighbours(ask, served.vector)
        content = Body.parse(content).amended({"routing": explain.routing_object(served.decision, neighbours)})
    headers = request.state.headers | decision_headers(parts, served.decision, served)
    headers["x-router-cost-usd"] = f"{nusd_to_usd(sum(a.cost_nusd for a in served.attempts)):.9f}"
    parts.meter.answered(model=answer.endpoint.name, status=answer.status, stream=False)
    return Response(content, status_code=answer.status, headers=headers, media_type="application/json")


async def _stream(request: Request, parts: Parts, ask: Ask, *, explained: bool) -> Response:
    pending: asyncio.Future[Served] = asyncio.ensure_future(parts.gateway.answer(ask))
    if not await sse.first(pending, _gone(request), parts.stream_ping_s):
        # Still no content: commit to a 200 and keep the line warm.
        later = asyncio.ensure_future(_events_of(pending, parts, ask, explained))
        headers = request.state.headers | sse.STREAM_HEADERS
        return StreamingResponse(sse.pinged(later, parts.stream_ping_s), media_type=sse.MEDIA_TYPE, headers=headers)
    served = pending.result()
    headers = request.state.headers | decision_headers(parts, served.decision, served)
    parts.meter.answered(model=served.answer.endpoint.name, status=served.answer.status, stream=True)
    if served.answer.status >= 400:  # the upstream refused the request itself: a plain error, not a stream
        content = served.answer.content
        return Response(content, status_code=served.answer.status, headers=headers, media_type="application/json")
    events = sse.relay(served.answer, _last_chunk(parts, ask, served) if explained else None)
    return StreamingResponse(events, media_type=sse.MEDIA_TYPE, headers=headers | sse.STREAM_HEADERS)


async def _events_of(pending: asyncio.Future[Served], parts: Parts, ask: Ask, explained: bool) -> AsyncIterator[bytes]:
    try:
        served = await pending
    except asyncio.CancelledError:
        await sse.cancel(pending)
        raise
    parts.meter.answered(model=served.answer.endpoint.name, status=served.answer.status, stream=True)
    return sse.relay(served.answer, _last_chunk(parts, ask, served) if explained else None)


def _last_chunk(parts: Parts, ask: Ask, served: Served) -> dict[str, Any]:
    """A chunk without choices that carries the `routing` object."""
    return {
        "id": str(ask.query.id),
        "object": "chat.completion.chunk",
        "created": int(served.decision.at.timestamp()),
        "model": served.answer.endpoint.name,
        "choices": [],
        "routing": explain.routing_object(served.decision, parts.gateway.neighbours(ask, served.vector)),
    }


def decision_headers(parts: Parts, decision: Decision, served: Served | None = None) -> dict[str, str]:
    """The `x-router-*` headers: closed sets and numbers, never free text."""
    chosen = next(e for e in parts.gateway.endpoints if e.name == decision.endpoint)
    endpoint = served.answer.endpoint if served else chosen
    headers = {
        "x-router-decision-id": str(decision.query_id),
        "x-router-policy": decision.policy,
        "x-router-model": endpoint.name,
        "x-router-provider": endpoint.provider,
        "x-router-reason": decision.reason,
        "x-router-cache": "off",
    }
    if (confidence := explain.confidence(decision)) is not None:
        headers["x-router-confidence"] = f"{confidence:.3f}"
    if served is not None:
        timings: Timings = served.timings
        headers["x-router-attempts"] = str(_tries(served))
        headers["x-router-overhead-ms"] = f"{timings.overhead_ms:.2f}"
        stages = f"embed;dur={timings.embed_ms:.2f}, route;dur={timings.route_ms:.2f}"
        headers["server-timing"] = f"{stages}, upstream;dur={timings.upstream_ms:.2f}"
    return headers


def _tries(served: Served) -> int:
    """Tries so far; a stream's own is not over yet when its headers are sent."""
    return max((a.number for a in served.attempts), default=0) + int(served.answer.streamed)


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection (its body has been read already)."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
