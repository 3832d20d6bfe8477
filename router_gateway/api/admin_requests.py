"""/admin/api/requests: search them, open one, and say how good it was."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal, cast, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from router_gateway.api import feedback
from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.api.request_view import request_view
from router_gateway.core.body import Body
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.money import NUSD_PER_USD, nusd_to_usd
from router_gateway.core.types import Revocation
from router_gateway.ledger.aside import read_aside
from router_gateway.ledger.reads import DecisionRecord
from router_gateway.ledger.requests import Outcome, Rated, RequestRow, Wanted, read_requests

_KNOWN = frozenset(
    {"since", "until", "endpoint", "tenant", "policy", "status", "min_cost_usd", "feedback", "q", "before", "limit"}
)
_CHARS_MAX = 200
_USD_MAX = 1e6
_PAGE_USUAL = 50
_DRAIN_S = 2.0


class Said(BaseModel):
    """How good an answer was: a `score` in [0, 1] or a `verdict`, as the truth (`label`) or as a user's word."""

    model_config = ConfigDict(extra="forbid")

    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    verdict: Literal["good", "bad"] | None = None
    note: Annotated[str, Field(max_length=2_000)] | None = None
    source: Literal["label", "user"] = "label"


@admin_only
async def list_requests(asked: Asked) -> dict[str, Any]:
    """Newest first; `next_before` goes on. Filters without an index look at 20,000 requests at most, and say so."""
    wanted, limit = _wanted(asked), asked.limit(_PAGE_USUAL)
    given = asked.request.query_params.get("before")
    before = None if given is None else _uuid(given, "before")
    page = await asyncio.to_thread(partial(read_requests, asked.database, wanted, before=before, limit=limit))
    return {
        "object": "list",
        "data": [_row(row, asked) for row in page.rows],
        "next_before": None if page.next_before is None else str(page.next_before),
        "looked_at": page.looked_at,
        "looked_back_to": None if page.looked_back_to is None else page.looked_back_to.isoformat(),
    }


@admin_only
async def get_request(asked: Asked) -> dict[str, Any]:
    """One request: the decision and why, attempts, feedback, and what else is known of it."""
    record = await record_of(asked)
    aside = await asyncio.to_thread(read_aside, asked.database, record.decision.query_id)
    if not asked.sees_text:
        record = without_text(record)
    return await asyncio.to_thread(request_view, asked.gateway, record, aside)


@admin_only
async def post_feedback(asked: Asked) -> dict[str, Any]:
    """Say how good it was, in the name of the request's tenant."""
    said = await asked.body(Said)
    record = await record_of(asked)
    told = {"score": said.score, "verdict": said.verdict, "comment": said.note, "source": said.source}
    body = feedback.checked(
        Body.of({"decision_id": str(record.decision.query_id), **{k: v for k, v in told.items() if v is not None}})
    )
    made = feedback.feedback_of(body, record.tenant)
    asked.gateway.feedback(made)
    await asked.gateway.ledger.durable()
    asked.did("request.feedback", str(made.query_id), quality=made.quality, source=made.source, feedback=str(made.id))
    return {"id": str(made.id), "decision_id": str(made.query_id), "quality": made.quality, "status": "recorded"}


@admin_only
async def delete_feedback(asked: Asked) -> dict[str, Any]:
    """Take back what was said of it, whoever said it; once more changes nothing."""
    record = await record_of(asked)
    feedback_id = _uuid(asked.path("feedback_id"), "feedback_id")
    said = await asyncio.to_thread(asked.gateway.ledger.said, feedback_id)
    if said is None or said.query_id != record.decision.query_id:
        raise NotFound(f"no feedback {feedback_id} on this request", param="feedback_id")
    ledger = asked.gateway.ledger
    ledger.record_revocation(Revocation(id=feedback_id, at=datetime.now(UTC), tenant=said.tenant))
    await ledger.durable()
    asked.did("request.feedback.revoke", str(said.query_id), feedback=str(feedback_id))
    return {"id": str(feedback_id), "decision_id": str(said.query_id), "status": "revoked"}


async def record_of(asked: Asked) -> DecisionRecord:
    """The request that the path names, with what is still on its way to the database. Raises RequestError, NotFound."""
    request_id = _uuid(asked.path("id"), "id")
    ledger = asked.gateway.ledger

    def read() -> DecisionRecord | None:
        ledger.drain(_DRAIN_S)
        return ledger.decision(request_id)

    record = await asyncio.to_thread(read)
    if record is None:
        raise NotFound(f"no request {request_id}", param="id")
    return record


def without_text(record: DecisionRecord) -> DecisionRecord:
    """For those who may not read what people wrote: prompts, and words beside a rating."""
    said = tuple(replace(each, comment=None) for each in record.feedback)
    return replace(record, text=None, feedback=said)


def _wanted(asked: Asked) -> Wanted:
    given = asked.request.query_params
    if strange := sorted(set(given) - _KNOWN):
        raise RequestError(f"`{strange[0][:64]}` is not supported", param=strange[0][:64], code="unsupported_parameter")
    outcome, status = _status(given.get("status"))
    rated = given.get("feedback")
    if rated is not None and rated not in get_args(Rated):
        raise RequestError(f"`feedback` must be one of {', '.join(get_args(Rated))}", param="feedback")
    return Wanted(
        since=asked.instant("since"),
        until=asked.instant("until"),
        endpoint=_words(asked, "endpoint"),
        tenant=_words(asked, "tenant"),
        policy=_words(asked, "policy"),
        outcome=outcome,
        status=status,
        cost_nusd_min=_nusd(given.get("min_cost_usd")),
        rated=cast(Rated | None, rated),
        text=_words(asked, "q"),
        sees_text=asked.sees_text,
    )


def _words(asked: Asked, name: str) -> str | None:
    said = asked.request.query_params.get(name)
    if said is None:
        return None
    if not said.strip() or len(said) > _CHARS_MAX or "\0" in said:
        raise RequestError(f"`{name}` must be 1 to {_CHARS_MAX} characters", param=name)
    return said.strip()


def _status(said: str | None) -> tuple[Outcome | None, int | None]:
    if said is None:
        return None, None
    if said in get_args(Outcome):
        return cast(Outcome, said), None
    if said.isascii() and said.isdigit() and (said == "0" or 100 <= int(said[:9]) <= 599):
        return None, int(said)
    raise RequestError(
        f"`status` must be one of {', '.join(get_args(Outcome))}, or a status such as 503", param="status"
    )


def _nusd(said: str | None) -> int | None:
    if said is None:
        return None
    try:
        usd = float(said)
        if not 0 <= usd <= _USD_MAX:
            raise ValueError
    except ValueError:
        raise RequestError(f"`min_cost_usd` must be a number from 0 to {_USD_MAX:,.0f}", param="min_cost_usd") from None
    return round(usd * NUSD_PER_USD)


def _uuid(said: str, name: str) -> UUID:
    try:
        return UUID(said)
    except ValueError:
        raise RequestError(f"`{name}` is not the id of a request, which is a UUID", param=name) from None


def _row(row: RequestRow, asked: Asked) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "at": row.at.isoformat(),
        "tenant": row.tenant,
        "session": row.session,
        "requested_model": row.requested_model,
        "endpoint": row.endpoint,
        "answered_by": row.answered_by,
        "policy": row.policy,
        "reason": row.reason,
        "candidate": row.candidate,
        "propensity": row.propensity,
        "worth_usd": row.worth_usd if math.isfinite(row.worth_usd) else None,
        "tokens_input": row.tokens_input,
        "tokens_completion": row.tokens_completion,
        "attempts": row.attempts,
        "status": row.status,
        "error": row.error,
        "cost_nusd": row.cost_nusd,
        "cost_usd": nusd_to_usd(row.cost_nusd),
        "latency_ms": row.latency_ms,
        "rated": row.rated,
        "quality": row.quality,
        "text": row.snippet if asked.sees_text else None,
    }


ROUTES: tuple[Route, ...] = (
    ("GET", "/requests", list_requests),
    ("GET", "/requests/{id}", get_request),
    ("POST", "/requests/{id}/feedback", post_feedback),
    ("DELETE", "/requests/{id}/feedback/{feedback_id}", delete_feedback),
)
