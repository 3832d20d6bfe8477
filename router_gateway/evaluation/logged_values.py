"""Judges policies on a log of drawn decisions: fit on some sessions, ask about others, estimate what that brings.

Nobody knows what an endpoint that was not drawn would have answered, so there are no curves and no oracle here,
but values with intervals, and a refusal where the log cannot say. The formulas are in `offpolicy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from router_gateway.core.errors import DataError, GatewayError
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Floats, Ints, NamedPolicy
from router_gateway.evaluation.logged_models import cross_fitted
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes
from router_gateway.evaluation.logged_replay import Manner, replayed
from router_gateway.evaluation.offpolicy import Estimate, Log, Overlap, estimate, overlap
from router_gateway.evaluation.sitting import Spec
from router_gateway.evaluation.splits import hash_order

TRAIN_SHARE = 0.5
DIALS = (float("inf"), 10.0, 1.0, 0.1)
"""Settings of the dial, as multiples of the log's median `worth_usd`."""
DECISIONS_MIN = 20
"""Fewer to learn from, or fewer draws to ask about, say nothing."""


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
    learned, asked = halves(outcomes, seed)
    if min(len(learned), len(asked)) < DECISIONS_MIN:
        raise DataError(
            [f"{name}: {len(learned)} decisions to learn from and {len(asked)} drawn ones to ask about"],
            hint=f"an estimate needs {DECISIONS_MIN} of each; let the gateway explore and post feedback",
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
    quality, cost_usd = cross_fitted(outcomes, learned, asked, cluster, seed=seed)
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


def halves(outcomes: LoggedOutcomes, seed: int) -> tuple[Ints, Ints]:
    """Rows of one half of the sessions, to learn from, and the draws of the other, to ask about."""
    train = hash_order(outcomes.sessions, salt=f"logged {seed}") < TRAIN_SHARE
    return np.flatnonzero(train), np.flatnonzero(~train & outcomes.random)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """The decisions asked about. quality, cost_usd : float64 (n, E), by models that have not seen their outcomes."""

    outcomes: LoggedOutcomes
    asked: Ints
    log: Log
    quality: Floats
    cost_usd: Floats

    def values(self, named: NamedPolicy, rules: Sequence[Rule], median_usd: float) -> Iterator[Value]:
        """At every rule and dial."""
        for rule in rules:
            asked = replayed(self.outcomes, self.asked, named, Manner(rule=rule))
            for worth_usd in (median_usd * factor for factor in DIALS):
                yield self.value(asked.target(worth_usd), policy=named.name, rule=rule.name, worth_usd=worth_usd)

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
