"""The worlds of `make ope`: recorded outcomes, loggers and targets over them, and logs drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from router_gateway import registry
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes
from router_gateway.evaluation.offpolicy import Log
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.splits import partition, strata
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap

LOGGERS: dict[str, Rule] = {"epsilon_greedy 0.3": EpsilonGreedy(epsilon=0.3), "inverse_gap 20": InverseGap(gamma=20.0)}
TARGETS: dict[str, tuple[str | None, Rule, float]] = {
    "knn": ("knn", Greedy(), 1.0),
    "knn, cheap": ("knn", Greedy(), 0.1),
    "linear, drawn": ("linear", InverseGap(gamma=50.0), 1.0),
    "best on average": (None, Greedy(), np.inf),
}
"""Policy (None: the mean qualities), rule, and dial in multiples of the logger's."""
SESSION = 3
"""Requests in one."""
_FIT_SHARE = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """P prompts nobody learned from, with everything known of them.

    quality, cost_usd, model : float64 (P, E); model is an outcome model fitted on other prompts
    mean_usd : float64 (E,), of those others; worth_usd : the dial
    loggers, targets : float64 (P, E) each, by name
    sessions : int64 (S, 3), rows
    """

    name: str
    prepared: Prepared
    rows: Ints
    quality: Floats
    cost_usd: Floats
    mean_usd: Floats
    worth_usd: float
    model: Floats
    loggers: Mapping[str, Floats]
    targets: Mapping[str, Floats]
    sessions: Ints

    def value(self, target: Floats, *, price: bool = False) -> float:
        """The truth: mean quality over all sessions, less what it costs in the dial's terms."""
        rows = self.sessions.ravel()
        worth = self.quality[rows] - (self.cost_usd[rows] / self.worth_usd if price else 0.0)
        return float((target[rows] * worth).sum(axis=1).mean())

    def usd(self, target: Floats) -> float:
        """The true cost of a request."""
        rows = self.sessions.ravel()
        return float((target[rows] * self.cost_usd[rows]).sum(axis=1).mean())


def world(source: str, *, seed: int = 0) -> World:
    """Policies fitted on a third of the prompts, the rest to draw logs from."""
    name, table = load_tables(source)[0]
    prepared = prepare(name, table, encoder=Encoder(), cache=default_cache())
    complete = prepared.table.complete()
    fit, rest = (part[complete[part]] for part in partition(prepared.table, (_FIT_SHARE, 1 - _FIT_SHARE), seed=seed))
    quality, cost = prepared.table.quality, prepared.table.cost_usd
    experience = Experience.from_table(prepared.batch(fit), prepared.table.endpoints, quality[fit], cost[fit])
    mean_usd = cost[fit].mean(axis=0)
    by_cost = np.argsort(mean_usd, kind="stable")
    worth_usd = 4.0 * float(mean_usd.max())
    names = prepared.table.endpoints

    def odds(policy: str | None, rule: Rule, dial: float) -> Floats:
        """float64 (P, E)."""
        if policy is None:
            scored = np.broadcast_to(quality[fit].mean(axis=0), (len(rest), len(names)))
        else:
            scored = registry.create(policy, {}).fit(experience).score(prepared.batch(rest)).align(names).quality
        value = (scored - mean_usd / (dial * worth_usd))[:, by_cost]
        out = np.empty(value.shape)
        out[:, by_cost] = rule.probabilities(value, np.ones(value.shape, dtype=bool))
        return out

    order = np.lexsort((np.random.default_rng(seed).random(len(rest)), strata(prepared.table)[rest]))
    return World(
        name=name,
        prepared=prepared,
        rows=rest,
        quality=quality[rest].astype(np.float64),
        cost_usd=cost[rest].astype(np.float64),
        mean_usd=mean_usd.astype(np.float64),
        worth_usd=worth_usd,
        model=registry.create("linear", {}).fit(experience).score(prepared.batch(rest)).align(names).quality,
        loggers={each: odds("clusters", rule, 1.0) for each, rule in {**LOGGERS, "greedy": Greedy()}.items()},
        targets={each: odds(policy, rule, dial) for each, (policy, rule, dial) in TARGETS.items()},
        sessions=order[: len(order) // SESSION * SESSION].reshape(-1, SESSION),
    )


def draw(own: World, logger: str, rows: Ints, rng: np.random.Generator, *, seed: int, resamples: int) -> Log:
    """A log of these rows, three to a session."""
    probability = own.loggers[logger][rows]
    action = (rng.random((len(rows), 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=probability.shape[1] - 1)
    return Log(
        action=action,
        propensity=probability[np.arange(len(rows)), action],
        probability=probability,
        cluster=np.repeat(np.arange(len(rows) // SESSION), SESSION),
        resamples=resamples,
        seed=seed,
    )


def as_ledger(own: World, rows: Ints, log: Log) -> LoggedOutcomes:
    """The log as the ledger would give it."""
    count = len(rows)
    return LoggedOutcomes(
        queries=own.prepared.batch(own.rows[rows]),
        ids=tuple(UUID(int=i) for i in range(count)),
        sessions=tuple(map(str, log.cluster)),
        endpoints=own.prepared.table.endpoints,
        drawn=log.action,
        answered=log.action,
        propensity=log.propensity,
        probability=log.probability,
        expected_cost_usd=np.tile(own.mean_usd, (count, 1)),
        candidate=np.ones(log.probability.shape, dtype=bool),
        quality=own.quality[rows, log.action],
        cost_usd=own.cost_usd[rows, log.action],
        worth_usd=np.full(count, own.worth_usd),
        random=np.ones(count, dtype=bool),
        first_said=np.zeros((count, 2), dtype=np.int64),
        notes=(),
    )
