"""What the routes need, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request

from router_gateway.api.auth import Authenticator
from router_gateway.api.metrics import PrometheusMeter
from router_gateway.api.siblings import Siblings
from router_gateway.core.body import Body
from router_gateway.core.errors import BodyTooLarge
from router_gateway.core.types import FeedbackSource
from router_gateway.evaluation.audit_question import Change, CurveQuestion, Question
from router_gateway.gateway import Gateway
from router_gateway.grading.grader import Grader
from router_gateway.learning.settings import Learning
from router_gateway.ledger.candidates import Candidate
from router_gateway.lifecycle.desk import Desk
from router_gateway.probing.onboarder import Onboarder


class Estimating(Protocol):
    """Estimates from the ledger, in plain values; they take seconds, and none of the event loop's time."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of the pool."""
        ...

    async def audit(self, question: Question) -> dict[str, Any]:
        """Whether routing is worth it. Raises GatewayError."""
        ...

    async def forecast(self, change: Change) -> dict[str, Any]:
        """The days to come. Raises GatewayError."""
        ...

    async def curves(self, question: CurveQuestion, key: Hashable, age_s_max: float) -> dict[str, Any]:
        """Cost and quality over the dial, no older than so many seconds. Raises GatewayError."""
        ...


class Drafts(Protocol):
    """Fits candidates with parameters of their own, apart from the event loop."""

    async def begin(self, desk: Desk, name: str, kind: str, params: Mapping[str, Any], **told: Any) -> Candidate:
        """Register it and begin. Raises GatewayError."""
        ...


class Saves(Protocol):
    """Settings that may be saved while the gateway serves; see saving.py."""

    def check(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The changes as JSON values; None lifts a setting. Raises RequestError naming the first that is wrong."""
        ...

    def shown(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with a saved state in force; what is secret is masked."""
        ...

    def told(self, state: Mapping[str, Any], candidate: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """By setting, the value in force, and because of whom."""
        ...

    @property
    def schema(self) -> dict[str, Any]:
        """What may be saved, as a JSON Schema."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """`ready` names what is not ready yet (empty: all is).

    `truth` are the sources of feedback that judges are measured against; `siblings` are the other workers, if any;
    `viewers_read_text` lets viewers' keys read prompts where they are stored.
    """

    gateway: Gateway
    grader: Grader
    onboarder: Onboarder
    auth: Authenticator
    meter: PrometheusMeter
    siblings: Siblings | None = None
    ready: Callable[[], list[str]]
    estimates: Estimating
    drafts: Drafts
    saving: Saves
    body_bytes_max: int
    requests_in_flight_max: int
    stream_ping_s: float
    started_at: int
    before_serving: Sequence[Callable[[], Awaitable[None]]] = ()
    truth: Sequence[FeedbackSource] = Learning().truth
    viewers_read_text: bool = False


def parts_of(request: Request) -> Parts:
    """The parts of the application that serves `request`."""
    parts: Parts = request.app.state.parts
    return parts


async def read_body(request: Request, bytes_max: int) -> Body:
    """The request's JSON object. Raises BodyTooLarge before more than `bytes_max` bytes are held."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return Body.parse(b"".join(chunks))


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body exceeds {bytes_max} bytes", hint="server.body_bytes_max sets the limit")
