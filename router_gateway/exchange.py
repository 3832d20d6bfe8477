"""What goes into the straight line and what comes out of it: a parsed request, an answer under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from router_gateway.core.body import Body
from router_gateway.core.types import Attempt, Comparison, Decision, Feedback, Floats, Query
from router_gateway.dispatch.answer import Answer


class Meter(Protocol):
    """Counts what happens; see api/metrics.py."""

    def decided(self, decision: Decision, timings: Timings) -> None: ...

    def attempted(self, attempt: Attempt) -> None: ...

    def said(self, feedback: Feedback | Comparison) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One parsed request. `policy` names the router to use, None the default one; `key_id` the caller's API key."""

    query: Query
    body: Body
    requested_model: str
    policy: str | None = None
    stream: bool = False
    wants_usage: bool = False
    deadline_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key_id: UUID | None = None


@dataclass(slots=True, kw_only=True)
class Timings:
    """Milliseconds: before the upstream was asked (`overhead_ms` in all), and until its first content."""

    embed_ms: float = 0.0
    route_ms: float = 0.0
    overhead_ms: float = 0.0
    upstream_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An answer under way, with the decision behind it; `attempts` grows as tries end."""

    decision: Decision
    vector: Floats | None
    answer: Answer
    attempts: list[Attempt]
    timings: Timings
