"""The only place where a decision is made, live and offline alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from router_gateway.core.ids import draw
from router_gateway.core.protocols import CostModel, Rule
from router_gateway.core.types import (
    Bools,
    Decision,
    Endpoint,
    Floats,
    Ints,
    NamedPolicy,
    Queries,
    Query,
    Reason,
    Scores,
)
from router_gateway.routing.choice import best, drawn, ranked
from router_gateway.routing.eligibility import candidates, eligible_endpoints, eligible_row, sole_cause
from router_gateway.routing.guard import Guard
from router_gateway.routing.newcomers import Newcomers, with_newcomers
from router_gateway.routing.steering import COIN_RULE, Coin, Steering
from router_gateway.routing.threshold import RULE, Duel, duel

Scoring = Callable[[NamedPolicy, Queries], Scores]

_SOLE_REASON: dict[str, Reason] = {
    "pinned": "pinned",
    "tenant": "pinned",
    "preferences": "pinned",
    "capability": "gate:modality",
    "context": "fallback:context",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What is known of a batch before the dial is read.

    filters : each bool (Q, E), see `eligible_endpoints`
    eligible : bool (Q, E), the filters and the queries' own bounds together
    policy : label of the policy that scored
    scores : (Q, E)
    cost_usd : float64 (Q, E)
    columns : int64 (Q, E), each row's columns cheapest first, then by name
    duels : by row, for queries that ask for a threshold instead of the dial
    """

    filters: Mapping[str, Bools]
    eligible: Bools
    policy: str
    scores: Scores
    cost_usd: Floats
    columns: Ints
    duels: Mapping[int, Duel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """An assessment at one dial: value, admission by the guard, and the rule's probabilities, each (Q, E).

    flipped : bool (Q,), where the coin of a `Steering` has a share in them; None: nowhere
    """

    value: Floats
    admitted: Bools
    probability: Floats
    flipped: Bools | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Eligible → score → price → guard → probabilities → draw.

    `live` returns the policy of this moment; `space` names the embedding space of the vectors that
    `route` is given; `worth_usd` is what a perfect answer is worth and `optimism` weighs the doubt:

        value = quality + optimism · stddev - cost_usd / worth_usd

    Errors are raised, not hidden: the gateway turns them into `decline`, an evaluation must see them.
    """

    endpoints: tuple[Endpoint, ...]
    default_endpoint: str
    live: Callable[[], NamedPolicy]
    cost: CostModel
    rule: Rule
    space: str
    worth_usd: float
    guard: Guard = field(default_factory=Guard)
    optimism: float = 0.0
    salt: str = ""
    candidate: str | None = None
    """Of docs/lifecycle.md: who is responsible for its decisions, None the configuration."""
    newcomers: Newcomers | None = None

    names: tuple[str, ...] = field(init=False, repr=False)
    """The pool's names, in the order of every E axis."""
    _default: int = field(init=False, repr=False)
    by_name: Mapping[str, Endpoint] = field(init=False, repr=False, compare=False)
    _alphabetical: Ints = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(endpoint.name for endpoint in self.endpoints)
        if self.default_endpoint not in names:
            raise ValueError(f"default_endpoint {self.default_endpoint!r} is not in the pool")
        derived = {
            "names": names,
            "by_name": {endpoint.name: endpoint for endpoint in self.endpoints},
            "_default": names.index(self.default_endpoint),
            "_alphabetical": np.argsort(names),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def route(
        self,
        queries: Sequence[Query],
        embedding: Floats,
        earlier: Floats | None = None,
        steering: Steering | None = None,
        score: Scoring | None = None,
    ) -> list[Decision]:
        """One decision per query.

        embedding : float32 (Q, d), in `space`
        earlier : as in `Queries`
        steering : dial, optimism and coin in place of the router's own
        score : asks the policy; one that remembers spares it the question
        Raises NoEligibleEndpoint (the client's fault) and whatever the policy raises.
        """
        seen = self.assess(queries, embedding, earlier, score)
        worth_usd = np.array([query.preferences.worth_usd or self._usual_usd(steering) for query in queries])
        weighed = self.weigh(seen, worth_usd, steering)
        if steering is not None and steering.coin is not None:
            weighed = self._flipped(queries, seen, weighed, steering.coin)
        return [self._decide(query, row, seen, weighed, float(worth_usd[row])) for row, query in enumerate(queries)]

    def assess(
        self, queries: Sequence[Query], embedding: Floats, earlier: Floats | None = None, score: Scoring | None = None
    ) -> Assessment:
        """Eligibility, scores and prices: everything about a batch that the dial does not change."""
        filters = eligible_endpoints(queries, self.endpoints)
        eligible = candidates(filters, queries)
        named = self.live()
        batch = self._batch(queries, embedding, earlier)
        scores = (score or scored)(named, batch).align(self.names)
        cost_usd = self.cost.expected_usd(queries)
        eligible = _within_bounds(queries, eligible, scores, cost_usd)
        columns = self._cheapest_first(cost_usd)
        duels = {
            row: duel(named.policy, batch.take(slice(row, row + 1)), self.names, eligible[row], columns[row], threshold)
            for row, query in enumerate(queries)
            if (threshold := query.preferences.win_threshold) is not None
        }
        return Assessment(
            filters=filters,
            eligible=eligible,
            policy=named.label,
            scores=scores,
            cost_usd=cost_usd,
            columns=columns,
            duels=duels,
        )

    def weigh(self, seen: Assessment, worth_usd: Floats, steering: Steering | None = None) -> Weighed:
        """Values and probabilities at a dial; an evaluation sweeps it over one assessment.

        worth_usd : float64 (Q,) or scalar, USD
        steering : says what doubt is worth in the router's place
        """
        scores = seen.scores
        value = scores.quality - seen.cost_usd / np.asarray(worth_usd).reshape(-1, 1)
        admitted = self._admitted(seen, value)
        optimism = self.optimism if steering is None else steering.optimism
        if optimism:
            value = value + optimism * scores.stddev
        probability = self._probabilities(value, seen, admitted)
        if seen.duels:
            admitted = admitted.copy()
        for row, pair in seen.duels.items():  # neither dial nor guard has a say
            admitted[row], probability[row] = seen.eligible[row], 0.0
            probability[row, pair.chosen] = 1.0
        return Weighed(value=value, admitted=admitted, probability=probability)

    def _flipped(self, queries: Sequence[Query], seen: Assessment, weighed: Weighed, coin: Coin) -> Weighed:
        """With the coin's chances for the requests that bring no dial or threshold of their own."""
        probability, flipped = weighed.probability.copy(), np.zeros(len(queries), dtype=bool)
        for row, query in enumerate(queries):
            if query.preferences.worth_usd is None and row not in seen.duels:
                probability[row] = coin.mixed(self.names, probability[row], weighed.admitted[row])
                flipped[row] = True
        return replace(weighed, probability=probability, flipped=flipped)

    def _decide(self, query: Query, row: int, seen: Assessment, weighed: Weighed, worth_usd: float) -> Decision:
        columns, value, eligible = seen.columns[row].tolist(), weighed.value[row].tolist(), seen.eligible[row].tolist()
        probability = weighed.probability[row].tolist()
        likeliest = max(columns, key=probability.__getitem__)
        chosen, propensity = likeliest, 1.0
        if query.preferences.explore:
            chosen = drawn(probability, draw(query.id, self.salt))
            propensity = probability[chosen]
        reason = self._reason(chosen, likeliest, value, eligible, weighed.admitted[row])
        if sum(eligible) == 1 and (cause := sole_cause(seen.filters, row)) is not None:
            reason = _SOLE_REASON[cause]
        order = tuple(self.names[i] for i in ranked(chosen, value, columns, eligible))
        pair = seen.duels.get(row)
        decision = Decision(
            query_id=query.id,
            at=datetime.now(UTC),
            endpoint=order[0],
            order=order,
            propensity=propensity,
            endpoints=self.names,
            quality=tuple(seen.scores.quality[row].tolist()),
            stddev=tuple(seen.scores.stddev[row].tolist()),
            cost_usd=tuple(seen.cost_usd[row].tolist()),
            probability=tuple(probability),
            eligible=tuple(eligible),
            policy=seen.policy,
            rule=self._rule(row, weighed) if pair is None else RULE,
            worth_usd=worth_usd,
            embedding_space=self.space,
            reason=reason,
            detail="" if pair is None else pair.told(self.names),
            candidate=self.candidate,
        )
        return self._held(query, decision)

    def _rule(self, row: int, weighed: Weighed) -> str:
        return self.rule.name if weighed.flipped is None or not weighed.flipped[row] else COIN_RULE

    def decline(self, query: Query, reason: Reason, detail: str = "", steering: Steering | None = None) -> Decision:
        """The decision when nothing was scored: pins, or routing that failed or was late. Propensity 0.

        The order starts with the pinned, held or default endpoint where it is eligible; then cheapest first.
        """
        eligible = eligible_row(query, self.endpoints)
        cost_usd = self.cost.expected_usd([query])
        columns = self._cheapest_first(cost_usd)[0].tolist()
        wanted = query.pinned or query.held or self.default_endpoint
        first = self.names.index(wanted) if wanted in self.names else self._default
        if not eligible[first]:
            first = next(column for column in columns if eligible[column])
        order = tuple(self.names[i] for i in ranked(first, [0.0] * len(eligible), columns, eligible))
        return Decision(
            query_id=query.id,
            at=datetime.now(UTC),
            endpoint=order[0],
            order=order,
            propensity=0.0,
            endpoints=self.names,
            cost_usd=tuple(cost_usd[0].tolist()),
            eligible=tuple(eligible),
            worth_usd=query.preferences.worth_usd or self._usual_usd(steering),
            reason=reason,
            detail=detail,
            candidate=self.candidate if reason == "fallback:error" else None,
        )

    def _usual_usd(self, steering: Steering | None) -> float:
        return self.worth_usd if steering is None else steering.worth_usd

    def _batch(self, queries: Sequence[Query], embedding: Floats, earlier: Floats | None) -> Queries:
        return Queries(
            text=tuple(query.text for query in queries),
            embedding=embedding,
            tokens_input=np.array([query.tokens_input for query in queries], dtype=np.int64),
            space=self.space,
            earlier=earlier,
            routes=tuple(query.route for query in queries),
        )

    def _cheapest_first(self, cost_usd: Floats) -> Ints:
        """Columns by cost, then by name, (Q, E): read in this order, the first of equal values is the cheaper."""
        return self._alphabetical[cost_usd[:, self._alphabetical].argsort(axis=1, kind="stable")]

    def _admitted(self, seen: Assessment, value: Floats) -> Bools:
        """Eligible and with evidence enough, (Q, E); where the guard leaves nothing, it has no say."""
        if self.guard.admits_all:
            return seen.eligible
        admitted = seen.eligible & self.guard.admits(value, seen.scores.stddev, self._default)
        return np.where(admitted.any(axis=1, keepdims=True), admitted, seen.eligible)

    def _probabilities(self, value: Floats, seen: Assessment, admitted: Bools) -> Floats:
        """The rule sees columns cheapest first; what it says is put back in the pool's order."""
        row, columns = np.arange(len(value))[:, None], seen.columns
        probability = np.empty(value.shape)
        if self.newcomers is None or not (names := self.newcomers.names()):
            probability[row, columns] = self.rule.probabilities(value[row, columns], admitted[row, columns])
            return probability
        probability[row, columns] = with_newcomers(
            self.rule,
            value[row, columns],
            admitted=admitted[row, columns],
            eligible=seen.eligible[row, columns],
            new=np.array([name in names for name in self.names])[columns],
            share=self.newcomers.share,
        )
        return probability

    def _reason(
        self, chosen: int, likeliest: int, value: Sequence[float], eligible: Sequence[bool], admitted: Bools
    ) -> Reason:
        if chosen != likeliest:
            return "explored"
        guarded = chosen == self._default and not admitted[best(value, eligible)]
        return "guard:low_evidence" if guarded else "scored"

    @staticmethod
    def _held(query: Query, decision: Decision) -> Decision:
        """Inside a tool loop the endpoint that asked for the tool goes on; the rest remain as fallback."""
        if query.held is None or query.held not in decision.order:
            return decision
        order = (query.held, *(name for name in decision.order if name != query.held))
        return replace(decision, endpoint=query.held, order=order, propensity=0.0, reason="held:tool_state")


def scored(named: NamedPolicy, batch: Queries) -> Scores:
    """What the policy says of the batch. Raises BadScores for what can be no scores, and whatever the policy raises."""
    scores = named.policy.score(batch)
    scores.check(len(batch))
    return scores


def _within_bounds(queries: Sequence[Query], eligible: Bools, scores: Scores, cost_usd: Floats) -> Bools:
    """Apply `max_cost_usd`, then `quality_floor`; a bound that would leave nothing yields to what is nearest to it."""
    wishes = [query.preferences for query in queries]
    if all(wish.max_cost_usd is None and wish.quality_floor is None for wish in wishes):
        return eligible
    bounded = eligible.copy()
    for row, wish in enumerate(wishes):
        if wish.max_cost_usd is not None:
            bounded[row] &= cost_usd[row] <= max(wish.max_cost_usd, cost_usd[row][bounded[row]].min())
        if wish.quality_floor is not None:
            bounded[row] &= scores.quality[row] >= min(wish.quality_floor, scores.quality[row][bounded[row]].max())
    return bounded
