"""Logged decisions put to the `Router` that serves: with which odds another policy, rule or dial would have drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from router_gateway.core.protocols import Rule
from router_gateway.core.types import Attempt, Endpoint, Floats, Ints, NamedPolicy, Preferences, Query
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes
from router_gateway.routing.guard import Guard
from router_gateway.routing.router import Assessment, Router
from router_gateway.routing.rules import Greedy

_CONTEXT_TOKENS = 1 << 40  # candidates of the log did fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How scores become choices. default_endpoint : whom the guard protects, where the log knows it."""

    rule: Rule = field(default_factory=Greedy)
    guard: Guard = field(default_factory=Guard)
    optimism: float = 0.0
    default_endpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A policy's scores for n logged decisions, confined to their candidates, at the costs expected then."""

    router: Router
    seen: Assessment

    def target(self, worth_usd: Floats | float) -> Floats:
        """float64 (n, E): with which odds each endpoint would be drawn, at a dial of () or (n,) USD."""
        return self.router.weigh(self.seen, np.asarray(worth_usd)).probability


def replayed(outcomes: LoggedOutcomes, rows: Ints, named: NamedPolicy, manner: Manner) -> Replayed:
    """Ask `named` about `rows`; scored once, whatever the dials."""
    names = outcomes.endpoints
    router = Router(
        endpoints=tuple(_endpoint(name) for name in names),
        default_endpoint=manner.default_endpoint if manner.default_endpoint in names else names[0],
        live=lambda: named,
        cost=_AsExpected({outcomes.ids[i]: outcomes.expected_cost_usd[i] for i in rows}),
        rule=manner.rule,
        space=outcomes.queries.space,
        worth_usd=1.0,
        guard=manner.guard,
        optimism=manner.optimism,
    )
    queries = [_query(outcomes, int(i)) for i in rows]
    return Replayed(router=router, seen=router.assess(queries, outcomes.queries.embedding[rows]))


def _query(outcomes: LoggedOutcomes, row: int) -> Query:
    """Confined to the candidates of its decision; preferences of its client are in them already."""
    names = [name for name, can in zip(outcomes.endpoints, outcomes.candidate[row], strict=True) if can]
    return Query(
        id=outcomes.ids[row],
        text=outcomes.queries.text[row],
        tokens_input=int(outcomes.queries.tokens_input[row]),
        preferences=Preferences(allowed=tuple(_literal(name) for name in names)),
    )


@dataclass(frozen=True, slots=True)
class _AsExpected:
    """A CostModel that says what the gateway expected at the time."""

    usd: Mapping[UUID, Floats]

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        return np.stack([self.usd[query.id] for query in queries])

    def observe(self, attempts: Sequence[Attempt]) -> None:
        """What happened later changes nothing."""


def _endpoint(name: str) -> Endpoint:
    """An endpoint that exists only in a log."""
    prices: dict[str, Any] = {
        f"price_{kind}_usd_per_mtok": Decimal(0) for kind in ("input", "output", "cached_input", "cache_write")
    }
    return Endpoint(name=name, model=name, context_tokens_max=_CONTEXT_TOKENS, **prices)


def _literal(name: str) -> str:
    """The name as a glob that matches nothing else."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
