"""Judges policies on a log of drawn decisions: fit on some sessions, ask about others, estimate what that brings.

Nobody knows what an endpoint that was not drawn would have answered, so there are no curves and no oracle here,
but values with intervals, and a refusal where the log cannot say. The formulas are in `offpolicy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from router_gateway import registry
from router_gateway.core.errors import DataError, GatewayError
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Attempt, Endpoint, Floats, Ints, NamedPolicy, Preferences, Query
from router_gateway.evaluation.logged import LoggedOutcomes
from router_gateway.evaluation.offpolicy import Estimate, Log, Overlap, estimate, overlap
from router_gateway.evaluation.sitting import Spec
from router_gateway.evaluation.splits import hash_order
from router_gateway.routing.router import Router

TRAIN_SHARE = 0.5
DIALS = (float("inf"), 10.0, 1.0, 0.1)
"""Settings of the dial, as multiples of the log's median `worth_usd`."""
OUTCOME_MODEL = "linear"
_FOLDS = 5
_DECISIONS_MIN = 20
_CONTEXT_TOKENS = 1 << 40  # candidates of the log did fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What one policy under one rule and dial would have brought per request.

    quality, cost_usd, net : by estimator (ips, snips, dr, switch); empty where `refused`
    net : quality - cost_usd / worth_usd
    """

    policy: str
    rule: str
    worth_usd: float
    overlap: Overlap
    refused: str
    warning: str
    quality: Mapping[str, Estimate]
    cost_usd: Mapping[str, Estimate]
    net: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedResult:
    """One log: how much of it was learned from and asked about, the logger's own value first, then the policies'."""

    name: str
    learned: int
    asked: int
    sessions: int
    endpoints: tuple[str, ...]
    values: tuple[Value, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite dial is null."""
        data = asdict(self)
        for value, own in zip(data["values"], self.values, strict=True):
            value["worth_usd"] = own.worth_usd if np.isfinite(own.worth_usd) else None
        return data


def judge_logged(
    name: str,
    outcomes: LoggedOutcomes,
    specs: Sequence[Spec],
    rules: Sequence[Rule],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> LoggedResult:
    """Fit each policy on half of the sessions and estimate its value, under each rule, on the other half's draws.

    A policy that cannot learn from this log is named in the notes. Raises DataError for a log without draws.
    """
    train = hash_order(outcomes.sessions, salt=f"logged {seed}") < TRAIN_SHARE
    learned, asked = np.flatnonzero(train), np.flatnonzero(~train & outcomes.random)
    if min(len(learned), len(asked)) < _DECISIONS_MIN:
        raise DataError(
            [f"{name}: {len(learned)} decisions to learn from and {len(asked)} drawn ones to ask about"],
            hint=f"an estimate needs {_DECISIONS_MIN} of each; let the gateway explore and post feedback",
        )
    _, cluster = np.unique([outcomes.sessions[i] for i in asked], return_inverse=True)
    log = Log(
        action=outcomes.drawn[asked],
        propensity=outcomes.propensity[asked],
        probability=outcomes.probability[asked],
        cluster=cluster,
        resamples=resamples,
        seed=seed,
    )
    quality, cost_usd = _cross_fitted(outcomes, learned, asked, log)
    course = _Course(outcomes=outcomes, asked=asked, log=log, quality=quality, cost_usd=cost_usd)
    median_usd = float(np.median(outcomes.worth_usd[asked]))
    values = [course.value(log.probability, policy="as logged", rule="as logged", worth_usd=median_usd)]
    notes = list(outcomes.notes)
    for spec in specs:
        try:
            policy = spec.build().fit(outcomes.experience(learned))
            values += course.values(NamedPolicy(name=spec.label, version=0, policy=policy), rules, median_usd)
        except (GatewayError, ValueError) as error:
            notes.append(f"{spec.label} cannot be judged on this log: {error}")
    return LoggedResult(
        name=name,
        learned=len(learned),
        asked=len(asked),
        sessions=int(cluster.max()) + 1,
        endpoints=outcomes.endpoints,
        values=tuple(values),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """The decisions asked about. quality, cost_usd : float64 (n, E), by models that have not seen their outcomes."""

    outcomes: LoggedOutcomes
    asked: Ints
    log: Log
    quality: Floats
    cost_usd: Floats

    def values(self, named: NamedPolicy, rules: Sequence[Rule], median_usd: float) -> Iterator[Value]:
        """At every rule and dial; scored once."""
        queries = [self._query(i) for i in self.asked]
        embedding = self.outcomes.queries.embedding[self.asked]
        cost = _AsExpected({self.outcomes.ids[i]: self.outcomes.expected_cost_usd[i] for i in self.asked})
        pool = tuple(_endpoint(name) for name in self.outcomes.endpoints)
        for rule in rules:
            router = Router(
                endpoints=pool,
                default_endpoint=pool[0].name,
                live=lambda: named,
                cost=cost,
                rule=rule,
                space=self.outcomes.queries.space,
                worth_usd=median_usd,
            )
            seen = router.assess(queries, embedding)
            for worth_usd in (median_usd * factor for factor in DIALS):
                target = router.weigh(seen, np.asarray(worth_usd)).probability
                yield self.value(target, policy=named.name, rule=rule.name, worth_usd=worth_usd)

    def value(self, target: Floats, *, policy: str, rule: str, worth_usd: float) -> Value:
        seen = overlap(self.log, target)
        refused = seen.refusal
        quality, cost_usd = self.outcomes.quality[self.asked], self.outcomes.cost_usd[self.asked]
        price = float((target * self.cost_usd).sum(axis=1).mean()) / worth_usd
        rewards = {
            "quality": (quality, self.quality, (0.0, 1.0)),
            "cost_usd": (cost_usd, self.cost_usd, None),  # nobody knows the most that a request may cost
            "net": (quality - cost_usd / worth_usd, self.quality - self.cost_usd / worth_usd, (-price, 1.0 - price)),
        }
        return Value(
            policy=policy,
            rule=rule,
            worth_usd=worth_usd,
            overlap=seen,
            refused=refused,
            warning=seen.warning,
            **{
                name: {} if refused else estimate(self.log, target, reward, model, bounds=bounds)
                for name, (reward, model, bounds) in rewards.items()
            },
        )

    def _query(self, row: int) -> Query:
        """Confined to the candidates of its decision; preferences of its client are in them already."""
        names = [name for name, can in zip(self.outcomes.endpoints, self.outcomes.candidate[row], strict=True) if can]
        return Query(
            id=self.outcomes.ids[row],
            text=self.outcomes.queries.text[row],
            tokens_input=int(self.outcomes.queries.tokens_input[row]),
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


def _cross_fitted(outcomes: LoggedOutcomes, learned: Ints, asked: Ints, log: Log) -> tuple[Floats, Floats]:
    """Quality and cost if drawn, float64 (n, E): from the training half and the other folds of the asked one.

    Folds are whole sessions, so no prediction has seen an outcome that depends on its own (cross-fitting:
    Chernozhukov et al., 2018, "Double/debiased machine learning", arXiv:1608.00060).
    """
    quality = np.empty((len(asked), len(outcomes.endpoints)))
    cost_usd = np.empty_like(quality)
    fold = np.random.default_rng(log.seed).permutation(int(log.cluster.max()) + 1)[log.cluster] % _FOLDS
    for number in np.unique(fold):
        own = fold == number
        seen = np.concatenate([learned, asked[~own]])
        model = registry.create(OUTCOME_MODEL, {}).fit(outcomes.experience(seen, credit_drawn=True))
        quality[own] = model.score(outcomes.queries.take(asked[own])).align(outcomes.endpoints).quality
        cost_usd[own] = outcomes.expected_cost_usd[asked[own]] * _cost_factor(outcomes, seen)
    return quality, cost_usd


def _cost_factor(outcomes: LoggedOutcomes, rows: Ints) -> Floats:
    """float64 (E,): what a draw of each endpoint cost, by what the gateway expected; all endpoints' where none was."""
    drawn, count = outcomes.drawn[rows], len(outcomes.endpoints)
    spent = np.bincount(drawn, weights=outcomes.cost_usd[rows], minlength=count)
    expected = np.bincount(drawn, weights=outcomes.expected_cost_usd[rows, drawn], minlength=count)
    overall = spent.sum() / expected.sum() if expected.sum() > 0 else 0.0
    return np.asarray(np.divide(spent, expected, out=np.full(count, overall), where=expected > 0))


def _endpoint(name: str) -> Endpoint:
    """An endpoint that exists only in a log."""
    prices: dict[str, Any] = {
        f"price_{kind}_usd_per_mtok": Decimal(0) for kind in ("input", "output", "cached_input", "cache_write")
    }
    return Endpoint(name=name, model=name, context_tokens_max=_CONTEXT_TOKENS, **prices)


def _literal(name: str) -> str:
    """The name as a glob that matches nothing else."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
