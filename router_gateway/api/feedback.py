"""/v1/feedback: how good an answer was, or which of two was better; by decision id, late, and until taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.api.parts import parts_of, read_body
from router_gateway.core.body import Body
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.ids import named_uuid, uuid7
from router_gateway.core.types import Comparison, Feedback, FeedbackSource, Revocation
from router_gateway.ledger.reads import DecisionRecord

_VERDICT_QUALITY = {"good": 1.0, "bad": 0.0}
_BODY_BYTES_MAX = 64 * 1024
_FIELD_CHARS_SHOWN = 64

EndpointName = Annotated[str, Field(min_length=1, max_length=200)]


class FeedbackBody(BaseModel):
    """Either `score` in [0, 1], or a `verdict`, or two endpoints of which one was `better` and one `worse`."""

    model_config = ConfigDict(extra="forbid")

    decision_id: UUID
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    verdict: Literal["good", "bad"] | None = None
    better: EndpointName | None = None
    worse: EndpointName | None = None
    source: FeedbackSource = "user"
    turn: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    comment: Annotated[str, Field(max_length=2_000)] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


async def post_feedback(request: Request) -> Response:
    """Record it. Repeating a request with the same `idempotency_key` changes nothing."""
    parts = parts_of(request)
    key = await parts.auth(request)
    body = checked(await read_body(request, min(parts.body_bytes_max, _BODY_BYTES_MAX)))
    known = await asyncio.to_thread(parts.gateway.ledger.decision, body.decision_id)
    if known is None or known.tenant != key.tenant:
        raise NotFound(f"no decision {body.decision_id}", param="decision_id")
    said = _comparison(body, known) if body.better else feedback_of(body, key.tenant)
    parts.gateway.feedback(said)
    await parts.gateway.ledger.durable()
    return JSONResponse({"id": str(said.id), "decision_id": str(body.decision_id), "status": "recorded"})


async def delete_feedback(request: Request) -> Response:
    """Take back what was said under this id; it counts as never said. Once more changes nothing."""
    parts = parts_of(request)
    key = await parts.auth(request)
    try:
        feedback_id = UUID(request.path_params["feedback_id"])
    except ValueError:
        raise RequestError("`feedback_id` is not a UUID", param="feedback_id") from None
    said = await asyncio.to_thread(parts.gateway.ledger.said, feedback_id)
    if said is None or said.tenant != key.tenant:
        raise NotFound(f"no feedback {feedback_id}", param="feedback_id")
    revocation = Revocation(id=feedback_id, at=datetime.now(UTC), tenant=key.tenant)
    parts.gateway.ledger.record_revocation(revocation)
    await parts.gateway.ledger.durable()
    return JSONResponse({"id": str(feedback_id), "decision_id": str(said.query_id), "status": "revoked"})


def feedback_of(body: FeedbackBody, tenant: str) -> Feedback:
    """What a checked body that is no comparison says."""
    return Feedback(
        id=_feedback_id(tenant, body),
        query_id=body.decision_id,
        at=datetime.now(UTC),
        quality=body.score if body.score is not None else _VERDICT_QUALITY[body.verdict or ""],
        source=body.source,
        tenant=tenant,
        turn=body.turn,
        comment=body.comment,
    )


def _comparison(body: FeedbackBody, known: DecisionRecord) -> Comparison:
    """Raise RequestError for an endpoint that the decision did not know."""
    names: Set[str] = {*known.decision.endpoints, *known.decision.order, *(a.endpoint for a in known.attempts)}
    for param, name in (("better", body.better), ("worse", body.worse)):
        if name not in names:
            known_names = ", ".join(sorted(names))
            raise RequestError(f"`{param}`: no endpoint of this decision; it knew {known_names}", param=param)
    return Comparison(
        id=_feedback_id(known.tenant, body),
        query_id=body.decision_id,
        at=datetime.now(UTC),
        better=body.better or "",
        worse=body.worse or "",
        source=body.source,
        tenant=known.tenant,
    )


def checked(body: Body) -> FeedbackBody:
    """Raise RequestError naming the first field that is wrong."""
    try:
        said = FeedbackBody.model_validate(body.values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(map(str, first["loc"]))[:_FIELD_CHARS_SHOWN]
        if first["type"] == "extra_forbidden":
            raise RequestError(f"`{path}` is not supported", param=path, code="unsupported_parameter") from None
        raise RequestError(f"`{path}`: {first['msg']}", param=path) from None
    if (said.better is None) != (said.worse is None):
        missing = "worse" if said.worse is None else "better"
        raise RequestError("a comparison names both `better` and `worse`", param=missing)
    if sum(each is not None for each in (said.score, said.verdict, said.better)) != 1:
        raise RequestError("give either `score` or `verdict`, or `better` and `worse`", param="score")
    if said.better is None:
        return said
    if said.better == said.worse:
        raise RequestError("`better` and `worse` are the same endpoint", param="worse")
    for param in ("turn", "comment"):
        if getattr(said, param) is not None:
            raise RequestError(f"`{param}` is not supported with a comparison", param=param)
    return said


def _feedback_id(tenant: str, body: FeedbackBody) -> UUID:
    """The same id for the same idempotency key of the same tenant and decision, else a new one."""
    if body.idempotency_key is None:
        return uuid7()
    return named_uuid(tenant, str(body.decision_id), body.idempotency_key)
