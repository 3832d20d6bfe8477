"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from router_gateway.api import explain, sse, wire
from router_gateway.api.ask import build_ask
from router_gateway.api.leaving import ClientGone, UntilGone
from router_gateway.api.parts import Parts, parts_of, read_body
from router_gateway.api.quick import WholeAnswer
from router_gateway.api.wire import RoutingOptions
from router_gateway.core.body import Body
from router_gateway.core.errors import GatewayError, RequestError
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Decision
from router_gateway.dispatch.upstream import DROPPED_HEADER
from router_gateway.gateway import Ask, Served
from router_gateway.grading.verifier import feedback_id

_CLIENT_GONE = 499
_NAMES = re.compile(r"[A-Za-z0-9_.,()-]{1,2000}")


async def chat_completions(request: Request) -> Response:
    """Authenticate, read the few fields routing needs, and hand over to the gateway."""
    parts, state = parts_of(request), request.scope["state"]
    query_id, told = state["query_id"], state["headers"]
    state["api"] = "chat"
    key = await parts.auth(request)
    body = await read_body(request, parts.body_bytes_max)
    wire.check_chat(body)
    ask, options = await build_ask(parts.gateway, key, query_id, body, request.headers)
    told["x-router-decision-id"] = str(query_id)
    try:
        if ask.stream:
            return await _stream(request, parts, ask, options)
        return await _whole(request, parts, ask, options)
    except ClientGone:
        return Response(status_code=_CLIENT_GONE)
    except GatewayError as error:
        if error.decision is not None:
            told |= decision_headers(error.decision) | _served_by(parts, error.decision.endpoint)
            told["x-router-attempts"] = str(error.attempts)
        parts.meter.answered(error.decision, model=ask.requested_model, status=error.status, stream=ask.stream)
        raise


async def _whole(request: Request, parts: Parts, ask: Ask, options: RoutingOptions) -> Response:
    async with UntilGone(request.receive):
        served = await parts.gateway.answer(ask)
    content = served.answer.content or b""
    listener = parts.grader.listener(ask, served, options.checks)
    if listener is not None:
        listener.whole(served.answer.payload or {}, len(content))
    if options.explain and served.answer.status < 400:
        content = _with_routing(content, _routing(parts, ask, options, served))
    headers = _headers(parts, served)
    headers["x-router-cost-usd"] = f"{nusd_to_usd(sum(a.cost_nusd for a in served.attempts)):.9f}"
    return _relayed_whole(parts, served, content, headers)


async def _stream(request: Request, parts: Parts, ask: Ask, options: RoutingOptions) -> Response:
    decided: list[Decision] = []
    pending = asyncio.ensure_future(parts.gateway.answer(ask, decided.append))
    events = partial(_events, parts, ask, options)
    try:
        begun = await sse.first(pending, request.receive, parts.stream_ping_s)
    except BaseException:  # content may have come in the very moment that everybody left
        with anyio.CancelScope(shield=True):
            await _abandon(pending)
        raise
    if not begun:
        # Still no content: commit to a 200 and keep the line warm. Who will answer is not known yet.
        headers = decision_headers(decided[0]) if decided else {"x-router-decision-id": str(ask.query.id)}
        pending.add_done_callback(partial(_count_late_failure, parts, ask))
        warm = sse.pinged(pending, parts.stream_ping_s, events)
        return sse.EventStream(warm, close=partial(_abandon, pending), headers=headers)
    served = pending.result()
    headers = _headers(parts, served)
    if not served.answer.streamed:  # the upstream refused the request itself: a plain error, not a stream
        return _relayed_whole(parts, served, served.answer.content or b"", headers)
    return sse.EventStream(events(served), close=served.answer.aclose, headers=headers)


def _relayed_whole(parts: Parts, served: Served, content: bytes, headers: dict[str, str]) -> Response:
    answer = served.answer
    parts.meter.answered(served.decision, model=answer.endpoint.name, status=answer.status, stream=False)
    return WholeAnswer(content, status=answer.status, headers=headers)


def _events(parts: Parts, ask: Ask, options: RoutingOptions, served: Served) -> sse.Events:
    """The stream of an answer; of a refusal that comes after the 200, its error as an event."""
    answer = served.answer
    parts.meter.answered(served.decision, model=answer.endpoint.name, status=answer.status, stream=True)
    if not answer.streamed:
        return sse.once(answer.payload or {})
    last = None
    if options.explain:
        last = {"object": "chat.completion.chunk", "choices": [], "routing": _routing(parts, ask, options, served)}
    listener = parts.grader.listener(ask, served, options.checks)
    return sse.relay(answer, last, None if listener is None else listener.events)


def _count_late_failure(parts: Parts, ask: Ask, pending: asyncio.Future[Served]) -> None:
    if not pending.cancelled() and isinstance(error := pending.exception(), GatewayError):
        parts.meter.answered(error.decision, model=ask.requested_model, status=error.status, stream=True)


async def _abandon(pending: asyncio.Future[Served]) -> None:
    """Cancel what is still under way, and close an answer that nobody came to read."""
    await sse.cancel(pending)
    if not pending.cancelled() and pending.exception() is None:
        await pending.result().answer.aclose()


def decision_headers(decision: Decision) -> dict[str, str]:
    """What was decided, as `x-router-*` headers: closed sets and numbers, never free text."""
    headers = {
        "x-router-decision-id": str(decision.query_id),
        "x-router-policy": decision.policy,
        "x-router-reason": decision.reason,
        "x-router-cache": "off",
    }
    if decision.candidate is not None:
        headers["x-router-candidate"] = decision.candidate
    if (confidence := explain.confidence(decision)) is not None:
        headers["x-router-confidence"] = f"{confidence:.3f}"
    return headers


def _headers(parts: Parts, served: Served) -> dict[str, str]:
    """What was decided, who answered, after how many tries and how long."""
    timings = served.timings
    dropped = served.answer.headers.get(DROPPED_HEADER, "")
    stages = f"embed;dur={timings.embed_ms:.2f}, route;dur={timings.route_ms:.2f}"
    return {
        **decision_headers(served.decision),
        **_served_by(parts, served.answer.endpoint.name),
        "x-router-attempts": str(_tries(served)),
        "x-router-overhead-ms": f"{timings.overhead_ms:.2f}",
        "server-timing": f"{stages}, upstream;dur={timings.upstream_ms:.2f}",
        **({DROPPED_HEADER: dropped} if _NAMES.fullmatch(dropped) else {}),
    }


def _served_by(parts: Parts, name: str) -> dict[str, str]:
    endpoint = parts.gateway.endpoint(name)
    assert endpoint is not None  # it has answered, or was asked in vain
    return {"x-router-model": endpoint.name, "x-router-provider": endpoint.provider}


def _tries(served: Served) -> int:
    """Tries so far; a stream's own is not over yet when its headers are sent."""
    return max((a.number for a in served.attempts), default=0) + int(served.answer.streamed)


def _routing(parts: Parts, ask: Ask, options: RoutingOptions, served: Served) -> dict[str, Any]:
    explained = explain.routing_object(served.decision, parts.gateway.neighbours(ask, served.vector, served.decision))
    if options.checks:  # nobody waits for the result: it will stand in the decision's feedback
        kinds = [check.kind for check in options.checks]
        explained["verify"] = {"checks": kinds, "feedback_id": str(feedback_id(ask.query.id))}
    return explained


def _with_routing(content: bytes, routing: dict[str, Any]) -> bytes:
    try:
        return Body.parse(content).amended({"routing": routing})
    except RequestError:  # JSON with a member twice, or NaN: it is paid for, and goes out as it came
        return content
