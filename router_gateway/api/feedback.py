"""POST /v1/feedback: how good an answer was, said by decision id, late and as often as one likes."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request

from router_gateway.api.parts import parts_of
from router_gateway.core.errors import NotFound
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Feedback, FeedbackSource

_VERDICT_QUALITY = {"good": 1.0, "bad": 0.0}


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

    @model_validator(mode="after")
    def _one_of(self) -> FeedbackBody:
        if (self.score is None) == (self.verdict is None):
            raise ValueError("give either score or verdict")
        return self


async def post_feedback(request: Request, body: FeedbackBody) -> dict[str, str]:
    """Record it. Repeating a request with the same `idempotency_key` changes nothing."""
    parts = parts_of(request)
    key = await parts.auth(request)
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
    return {"id": str(feedback.id), "decision_id": str(body.decision_id), "status": "recorded"}


def _feedback_id(tenant: str, body: FeedbackBody) -> UUID:
    """The same id for the same idempotency key of the same tenant and decision, else a new one."""
    if body.idempotency_key is None:
        return uuid7()
    seed = "\0".join((tenant, str(body.decision_id), body.idempotency_key))
    return UUID(bytes=hashlib.blake2b(seed.encode("utf-8", "replace"), digest_size=16).digest(), version=8)
