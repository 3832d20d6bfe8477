"""A decision once more, under another policy or dial: by the one Router, from what the ledger kept, asking nobody.

The ledger keeps the vector, the endpoints that were eligible, the dial and the draw's seed, and the text where it is
stored. It keeps neither earlier turns nor what a route model said, so a policy that reads those sees less than then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from typing import Any
from uuid import UUID

import numpy as np

from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.types import Decision, Floats, Preferences, Query
from router_gateway.ledger.decided import Decided
from router_gateway.ledger.reads import DecisionRecord
from router_gateway.lifecycle.rollout import Rollout
from router_gateway.routing.router import Router

_TOGETHER = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Under:
    """Whose choice: a configured policy or a candidate by name (None: the default policy), with changes."""

    policy: str | None = None
    changes: Mapping[str, Any]

    def router(self, rollout: Rollout, default_policy: str) -> Router:
        """What serves under that name, changed. Raises NotFound naming `policy`."""
        base = rollout.named(self.policy or default_policy)
        if base is None:
            known = ", ".join(sorted(rollout.routers))
            raise NotFound(f"no policy or candidate {self.policy!r}; there are {known}", param="policy")
        if not self.changes:
            return base
        configured = next(iter(rollout.routers))
        changed = rollout.workshop.router(rollout.workshop.configured(configured), self.changes, None)
        return replace(base, **{name: getattr(changed, name) for name in self.changes})


def query_of(record: DecisionRecord, worth_usd: float | None) -> Query:
    """The request as far as the ledger kept it, at its own dial or at another; only who was eligible may serve it."""
    decision = record.decision
    return Query(
        id=decision.query_id,
        text=record.text or "",
        tokens_input=record.tokens_input,
        tenant=record.tenant,
        session=record.session,
        preferences=Preferences(
            worth_usd=decision.worth_usd if worth_usd is None else worth_usd,
            allowed=only(name for name, can in zip(decision.endpoints, decision.eligible, strict=True) if can),
        ),
    )


def only(names: Iterable[str]) -> tuple[str, ...]:
    """Globs that match these names alone."""
    return tuple(escape(name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two that choose: where, and what it expected of that."""

    endpoint: str
    quality: float
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One request that two choose differently for. `expected_difference` is of quality, as the first one sees it."""

    id: UUID
    text: str | None
    tokens_input: int
    answered_by: str | None
    quality: float | None
    one: Side
    other: Side
    expected_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Of `decisions` the two chose differently for `differing`; `shares` are counts by endpoint of each."""

    decisions: int
    differing: int
    shares: tuple[Mapping[str, int], Mapping[str, int]]
    expected: tuple[tuple[float, float], tuple[float, float]]
    """Mean (quality, cost in USD) of each one's choices, as each sees them itself."""
    examples: tuple[Disagreement, ...]


def compare(rows: Sequence[Decided], one: Router, other: Router, limit: int) -> Compared:
    """Both's most probable endpoints for past requests with vectors in their space, newest first."""
    known = [row for row in rows if row.vector is not None and row.space == one.space and _possible(row, one, other)]
    choices: list[tuple[Decided, Decision, Decision]] = []
    for start in range(0, len(known), _TOGETHER):
        part = known[start : start + _TOGETHER]
        choices += zip(part, _route(one, part), _route(other, part), strict=True)
    differing = [(row, a, b) for row, a, b in choices if a.endpoint != b.endpoint]
    return Compared(
        decisions=len(choices),
        differing=len(differing),
        shares=(_counts([a for _, a, _ in choices]), _counts([b for _, _, b in choices])),
        expected=(_means([a for _, a, _ in choices]), _means([b for _, _, b in choices])),
        examples=tuple(_disagreement(row, a, b) for row, a, b in differing[:limit]),
    )


def _possible(row: Decided, *routers: Router) -> bool:
    """Whether the pool still has room for it."""
    room = {e.name: e.context_tokens_max for e in routers[0].endpoints}
    return any(room.get(name, 0) > row.tokens_input + _RESERVED for name in row.candidates)


_RESERVED = 256


def _route(router: Router, rows: Sequence[Decided]) -> list[Decision]:
    queries = [
        Query(
            id=row.id,
            text=row.text,
            tokens_input=row.tokens_input,
            preferences=Preferences(allowed=only(row.candidates), explore=False),
        )
        for row in rows
    ]
    return router.route(queries, np.stack([row.vector for row in rows if row.vector is not None]))


def side(decision: Decision, endpoint: str | None = None) -> Side:
    """What a decision expected of an endpoint, its own unless said."""
    name = endpoint or decision.endpoint
    column = decision.endpoints.index(name)
    return Side(endpoint=name, quality=decision.quality[column], cost_usd=decision.cost_usd[column])


def _disagreement(row: Decided, one: Decision, other: Decision) -> Disagreement:
    return Disagreement(
        id=row.id,
        text=row.text or None,
        tokens_input=row.tokens_input,
        answered_by=row.answered,
        quality=row.quality,
        one=side(one),
        other=side(other),
        expected_difference=side(one).quality - side(one, other.endpoint).quality,
    )


def _counts(made: Sequence[Decision]) -> dict[str, int]:
    names = [decision.endpoint for decision in made]
    return {name: names.count(name) for name in sorted(set(names))}


def _means(made: Sequence[Decision]) -> tuple[float, float]:
    if not made:
        return 0.0, 0.0
    sides = [side(decision) for decision in made]
    return float(np.mean([each.quality for each in sides])), float(np.mean([each.cost_usd for each in sides]))


def decide_again(router: Router, record: DecisionRecord, vector: Floats, worth_usd: float | None) -> Decision:
    """The decision that this router makes of the same request with the same draw. Raises RequestError."""
    query = query_of(record, worth_usd)
    if not query.preferences.allowed:
        raise RequestError("the ledger does not say which endpoints were eligible", param="id")
    return router.route([query], vector[None, :])[0]
