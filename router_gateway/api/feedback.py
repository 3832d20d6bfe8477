"""POST /v1/feedback: how good an answer was, said by decision id, late and as often as one likes."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.api.parts import parts_of, read_body
from router_gateway.core.body import Body
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Feedback, FeedbackSource

_VERDICT_QUALITY = {"good": 1.0, "bad": 0.0}
_BODY_BYTES_MAX = 64 * 1024
_FIELD_CHARS_SHOWN = 64


class FeedbackBody(BaseModel):
    """Either `score` in [0, 1] or a `verdict`."""

    model_config = ConfigDict(extra="forbid")

    decision_id: UUID
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    verdict: Literal["good", "bad"] | None = None
    source: FeedbackSource = "user"
    turn: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    comment: Annotated[str, Field(max_length=2_000)] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


async def post_feedback(request: Request) -> Response:
    """Record it. Repeating a request with the same `idempotency_key` changes nothing."""
    parts = parts_of(request)
    key = await parts.auth(request)
    body = _checked(await read_body(request, min(parts.body_bytes_max, _BODY_BYTES_MAX)))
    known = await asyncio.to_thread(parts.gateway.ledger.decision, body.decision_id)
    if known is None or known.tenant != key.tenant:
        raise NotFound(f"no decision {body.decision_id}", param="decision_id")
    quality = body.score if body.score is not None else _VERDICT_QUALITY[body.verdict or ""]
    feedback = Feedback(
        id=_feedback_id(key.tenant, body),
        query_id=body.decision_id,
        at=datetime.now(UTC),
        quality=quality,
        source=body.source,
        tenant=key.tenant,
        turn=body.turn,
        comment=body.comment,
    )
    parts.gateway.feedback(feedback)
    return JSONResponse({"id": str(feedback.id), "decision_id": str(body.decision_id), "status": "recorded"})


def _checked(body: Body) -> FeedbackBody:
    """Raise RequestError naming the first field that is wrong."""
    try:
        checked = FeedbackBody.model_validate(body.values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(map(str, first["loc"]))[:_FIELD_CHARS_SHOWN]
        if first["type"] == "extra_forbidden":
            raise RequestError(f"`{path}` is not supported", param=path, code="unsupported_parameter") from None
        raise RequestError(f"`{path}`: {first['msg']}", param=path) from None
    if (checked.score is None) == (checked.verdict is None):
        raise RequestError("give either `score` or `verdict`", param="score")
    return checked


def _feedback_id(tenant: str, body: FeedbackBody) -> UUID:
    """The same id for the same idempotency key of the same tenant and decision, else a new one."""
    if body.idempotency_key is None:
        return uuid7()
    seed = "\0".join((tenant, str(body.decision_id), body.idempotency_key))
    digest = int.from_bytes(hashlib.blake2b(seed.encode("utf-8", "replace"), digest_size=16).digest(), "big")
    return UUID(int=digest & ~(0xF << 76 | 0b11 << 62) | 0x8 << 76 | 0b10 << 62)  # version 8, RFC 9562
