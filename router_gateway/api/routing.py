"""/v1/routing: what would be decided (nothing called, nothing written), and what was."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.api import explain, wire
from router_gateway.api.ask import AUTO, build_ask
from router_gateway.api.parts import parts_of, read_body
from router_gateway.core.body import Body
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Attempt, Feedback
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.reads import DecisionRecord

_DRAIN_S = 2.0


async def decide(request: Request) -> Response:
    """Decide a Chat Completions, Responses or Messages body without sending it anywhere."""
    parts = parts_of(request)
    key = await parts.auth(request)
    body = _as_chat(await read_body(request, parts.body_bytes_max))
    ask, _ = await build_ask(parts.gateway, key, request.state.query_id, body, request.headers)
    decision, vector, timings = await parts.gateway.decide(ask)
    explained = explain.routing_object(decision, parts.gateway.neighbours(ask, vector, decision))
    explained["timings"] = {"embed_ms": timings.embed_ms, "route_ms": timings.route_ms}
    return JSONResponse(explained)


async def get_decision(request: Request) -> Response:
    """A decision of this key's tenant, with its attempts and feedback so far."""
    parts = parts_of(request)
    key = await parts.auth(request)
    wanted = request.path_params["decision_id"]
    try:
        decision_id = UUID(wanted)
    except ValueError:
        raise RequestError(f"{wanted[:64]!r} is not a decision id", param="decision_id") from None
    record = await asyncio.to_thread(_settled, parts.gateway.ledger, decision_id)
    if record is None or record.tenant != key.tenant:
        raise NotFound(f"no decision {decision_id}", param="decision_id")
    return JSONResponse(
        explain.routing_object(record.decision)
        | {
            "requested_model": record.requested_model,
            "tokens_input": record.tokens_input,
            "attempts": [attempt_object(attempt) for attempt in record.attempts],
            "feedback": [feedback_object(feedback) for feedback in record.feedback],
        }
    )


def _settled(ledger: Ledger, decision_id: UUID) -> DecisionRecord | None:
    """The decision, with the attempts and the feedback that are still on their way to the database."""
    ledger.drain(_DRAIN_S)
    return ledger.decision(decision_id)


def _as_chat(body: Body) -> Body:
    """The Responses and Messages shapes read as a conversation, checked; `model` defaults to `auto`."""
    values = dict(body.values)
    values.setdefault("model", AUTO)
    if "messages" not in values and "input" in values:
        values["messages"] = _messages_of(values["input"])
        values["system"] = values.get("instructions")
        values["max_completion_tokens"] = values.get("max_output_tokens")
    wire.check_chat(Body.of(values))
    if (system := values.get("system")) is not None:
        if not isinstance(system, str | list):
            raise RequestError("`system` must be a string or a list of parts", param="system")
        values["messages"] = [{"role": "system", "content": system}, *values["messages"]]
    return Body.of(values)


def _messages_of(given: Any) -> list[Any]:
    """The messages among a Responses request's `input` items."""
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RequestError("`input` must be a string or a list of objects", param="input")
    messages = [item for item in items if "role" in item]
    if not messages:
        raise RequestError("`input` holds no message", param="input")
    return messages


def attempt_object(attempt: Attempt) -> dict[str, Any]:
    """One attempt as it is told."""
    usage = attempt.usage
    return {
        "number": attempt.number,
        "endpoint": attempt.endpoint,
        "status": attempt.status,
        "error": attempt.error,
        "cost_usd": nusd_to_usd(attempt.cost_nusd),
        "cost_nusd": attempt.cost_nusd,
        "cost_estimated": attempt.cost_estimated,
        "first_byte_ms": attempt.first_byte_ms,
        "latency_ms": attempt.latency_ms,
        "tokens": None
        if usage is None
        else {
            "input": usage.tokens_input,
            "cached_input": usage.tokens_cached_input,
            "cache_write": usage.tokens_cache_write,
            "output": usage.tokens_output,
            "reasoning": usage.tokens_reasoning,
        },
    }


def feedback_object(feedback: Feedback) -> dict[str, Any]:
    """What somebody said, without the words."""
    return {
        "id": str(feedback.id),
        "at": feedback.at.isoformat(),
        "quality": feedback.quality,
        "source": feedback.source,
        "turn": feedback.turn,
    }
