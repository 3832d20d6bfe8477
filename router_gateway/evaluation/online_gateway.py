"""The gateway as a learner on a stream: the Router, policy, cost model and pacer that serve, and nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from router_gateway.core.experience import Experience
from router_gateway.core.protocols import DetectsChanges, Policy, Rule
from router_gateway.core.types import Attempt, Decision, Endpoint, NamedPolicy, Queries, Query, Usage
from router_gateway.evaluation.online import Stream
from router_gateway.routing.pacing import BudgetPacer
from router_gateway.routing.router import Router
from router_gateway.routing.steering import Steering
from router_gateway.routing.streaming_cost import StreamingLengthCost

_AT = datetime(2000, 1, 1, tzinfo=UTC)  # a simulation has no clock
_NANO = 1e9
_DAY_S = 86_400.0
_CHEAPEST_USD = 1e-9  # worth so little that price alone decides


class Paced:
    """Routes with `Router.route` at the pacer's dial; learns quality, cost and pace from each answer.

    policy : fitted; learns by `partial_fit`, `batch` outcomes at a time
    cost : prices the pool; its endpoints are the stream's, in the same order
    """

    def __init__(
        self,
        *,
        policy: Policy,
        cost: StreamingLengthCost,
        pacer: BudgetPacer,
        rule: Rule,
        space: str,
        optimism: float = 0.0,
        batch: int = 1,
        salt: str = "",
    ) -> None:
        self._policy, self._pacer, self._cost, self._batch = policy, pacer, cost, batch
        self._waiting: list[tuple[int, int, float]] = []
        self._decision: Decision | None = None
        self._found = 0
        self.router = Router(
            endpoints=cost.endpoints,
            default_endpoint=cost.endpoints[0].name,
            live=lambda: NamedPolicy(name="policy", version=1, policy=self._policy),
            cost=cost,
            rule=rule,
            space=space,
            worth_usd=pacer.worth_usd,
            optimism=optimism,
            salt=salt,
        )

    def choose(self, stream: Stream, t: int) -> int:
        self._pacer.catch_up(at_s=float(stream.at_s[t]))
        return self._choose(stream, t, self._pacer.steering)

    def choose_at(self, stream: Stream, t: int, worth_usd: float) -> int:
        """The endpoint for query t at another dial than the pacer's."""
        return self._choose(stream, t, Steering(worth_usd=worth_usd, optimism=self.router.optimism))

    def _choose(self, stream: Stream, t: int, steering: Steering) -> int:
        self._decision = self.router.route([_asked(stream, t)], stream.embedding[t : t + 1], steering=steering)[0]
        self._pacer.decided(self._decision, at_s=float(stream.at_s[t]))
        return self.router.names.index(self._decision.endpoint)

    def learn(self, stream: Stream, t: int, chosen: int, quality: float, cost_usd: float) -> None:
        assert self._decision is not None
        self._pacer.settled(self._decision, cost_usd, at_s=float(stream.at_s[t]))
        self._pacer.rated(self._decision, quality)
        self._cost.observe([_attempt(stream, t, chosen, cost_usd)])
        self._waiting.append((t, chosen, quality))
        if len(self._waiting) >= self._batch:
            self._policy = self._policy.partial_fit(_experience(stream, self._waiting))
            self._waiting = []
            if (
                isinstance(self._policy, DetectsChanges)
                and (found := sum(self._policy.changes().values())) > self._found
            ):
                self._found = found
                self._pacer.changed()

    def reprice(self, endpoints: Sequence[Endpoint]) -> None:
        self._cost.reprice(endpoints)
        self.router = replace(self.router, endpoints=tuple(endpoints))


class StepRule:
    """What gateways with budgets do: one dial until a share of the day's budget is spent, then the cheapest.

    It learns as `inner` does, and decides by the same Router; only the dial is the rule's.
    """

    def __init__(self, *, inner: Paced, worth_usd: float, day_usd: float, share: float) -> None:
        self._inner, self._worth_usd, self._limit_usd = inner, worth_usd, share * day_usd
        self._day, self._spent_usd = 0, 0.0

    def choose(self, stream: Stream, t: int) -> int:
        day = int(stream.at_s[t] // _DAY_S)
        if day != self._day:
            self._day, self._spent_usd = day, 0.0
        spent = self._spent_usd >= self._limit_usd
        return self._inner.choose_at(stream, t, _CHEAPEST_USD if spent else self._worth_usd)

    def learn(self, stream: Stream, t: int, chosen: int, quality: float, cost_usd: float) -> None:
        self._spent_usd += cost_usd
        self._inner.learn(stream, t, chosen, quality, cost_usd)

    def reprice(self, endpoints: Sequence[Endpoint]) -> None:
        self._inner.reprice(endpoints)


def teach_costs(cost: StreamingLengthCost, stream: Stream, *, hidden: Sequence[int] = ()) -> StreamingLengthCost:
    """Show `cost` every answer of the stream but those of the endpoints in `hidden`; returns it."""
    shown = [e for e in range(len(stream.endpoints)) if e not in hidden]
    for t, query in enumerate(stream.queries):
        cost.expected_usd([query])
        cost.observe([_attempt(stream, t, e, float(stream.cost_usd[t, e])) for e in shown])
    return cost


def _asked(stream: Stream, t: int) -> Query:
    """The query, confined to the endpoints that are available."""
    query, able = stream.queries[t], stream.available[t]
    if able.all():
        return query
    names = tuple(e.name for e, there in zip(stream.endpoints, able, strict=True) if there)
    return replace(query, preferences=replace(query.preferences, allowed=names))


def _attempt(stream: Stream, t: int, chosen: int, cost_usd: float) -> Attempt:
    query = stream.queries[t]
    tokens = round(float(stream.tokens_output[t, chosen]))
    return Attempt(
        query_id=query.id,
        number=1,
        at=_AT,
        endpoint=stream.endpoints[chosen].name,
        status=200,
        usage=Usage(tokens_input=query.tokens_input, tokens_output=tokens),
        cost_nusd=round(cost_usd * _NANO),
        latency_ms=0.0,
    )


def _experience(stream: Stream, outcomes: Sequence[tuple[int, int, float]]) -> Experience:
    rows = [t for t, _, _ in outcomes]
    return Experience(
        queries=Queries(
            text=tuple(stream.queries[t].text for t in rows),
            embedding=stream.embedding[rows],
            tokens_input=np.array([stream.queries[t].tokens_input for t in rows], dtype=np.int64),
            space=stream.space,
        ),
        endpoints=tuple(e.name for e in stream.endpoints),
        query=np.arange(len(rows)),
        endpoint=np.array([chosen for _, chosen, _ in outcomes], dtype=np.int64),
        quality=np.array([quality for _, _, quality in outcomes], dtype=np.float32),
        cost_usd=np.full(len(rows), np.nan),
        propensity=np.ones(len(rows), dtype=np.float32),
    )
