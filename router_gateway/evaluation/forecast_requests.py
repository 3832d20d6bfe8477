"""What a request costs and brings, as logged and under a change: resampled figures for a forecast to multiply with.

Of the change only what can change is estimated. A pin, a tool loop or a declined routing stays what it was: such a row
enters every sum as it happened, with weight 1. Costs are known of every request, so all draws count for them; quality
is known of those that were rated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from router_gateway.core.errors import DataError
from router_gateway.core.types import Bools, Floats, Ints, NamedPolicy
from router_gateway.evaluation.audit import Candidate, Installation, candidate_of, unread
from router_gateway.evaluation.audit_question import Question
from router_gateway.evaluation.logged_models import cost_factor, cross_fitted
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes, gathered, of_one_space
from router_gateway.evaluation.logged_replay import replayed
from router_gateway.evaluation.logged_values import DECISIONS_MIN, TRAIN_SHARE
from router_gateway.evaluation.offpolicy import Log, overlap
from router_gateway.evaluation.paired import Bounds, Paired
from router_gateway.evaluation.splits import hash_order
from router_gateway.ledger.decided import Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Figures per request, each float64 (1 + R,): the estimate, then what each resample makes of it.

    bounds, change_bounds : of the mean quality and of its change, for their intervals
    """

    label: str
    cost_usd: Floats
    spend_by: Literal["log", "dr", "replay"]
    quality: Floats | None
    quality_refused: str
    bounds: Bounds | None
    share: Mapping[str, float]
    quality_change: Floats | None = None
    change_bounds: Bounds | None = None
    notes: tuple[str, ...] = ()


def logged_requests(decided: Sequence[Decided], question: Question) -> Requests:
    """As it was, over all decisions. Raises DataError for none."""
    if not decided:
        raise DataError(["no decision in the time asked about"])
    cost = np.array([one.cost_usd for one in decided])
    said = np.array([np.nan if one.quality is None else one.quality for one in decided])
    known = np.isfinite(said)
    log = _whole(_clusters([one.session or str(one.id) for one in decided]), question)
    sums = log.summed(np.column_stack([np.ones(len(cost)), cost, known, np.where(known, said, 0.0)]))
    totals = np.concatenate([sums.sum(axis=0, keepdims=True), log.resampled(sums)])
    with np.errstate(divide="ignore", invalid="ignore"):
        quality = totals[:, 3] / totals[:, 2]
    answered = [one.answered or one.drawn for one in decided]
    enough = int(known.sum()) >= DECISIONS_MIN
    return Requests(
        label="as logged",
        cost_usd=totals[:, 1] / totals[:, 0],
        spend_by="log",
        quality=quality if enough else None,
        quality_refused="" if enough else f"not identifiable: {int(known.sum())} rated decisions",
        bounds=Bounds(0.0, 1.0, float(known.sum())),
        share={name: answered.count(name) / len(answered) for name in sorted(set(answered))},
    )


def changed_requests(
    decided: Sequence[Decided],
    repriced: Sequence[Decided],
    installation: Installation,
    question: Question,
    logged: Requests,
) -> Requests:
    """Under the policy, dial and rule asked for, at the costs of `repriced`. Raises DataError and what policies raise.

    The cost is that of the log over all decisions, times what the change makes of it on those held out.
    """
    outcomes, routed = _all(repriced)
    before_usd = np.array([one.cost_usd for one in decided])
    candidate = candidate_of(installation, question)
    fit, asked, notes = _parts(outcomes, routed, candidate, question)
    if candidate is None:
        rows = fit[np.isfinite(outcomes.quality[fit]) & (np.abs(outcomes.queries.embedding[fit]).sum(axis=1) > 0)]
        if len(rows) < DECISIONS_MIN:
            raise DataError([f"{len(rows)} rated decisions to learn from"])
        policy = installation.unfitted(question.policy or installation.policy).fit(outcomes.experience(rows))
        candidate = Candidate(
            named=NamedPolicy(name=question.policy or installation.policy, version=0, policy=policy), learned=None
        )
    held = _Held(outcomes=outcomes, routed=routed[asked], fit=fit, asked=asked, question=question)
    target = held.target(candidate, installation)
    cost, spend_by, why = held.cost(target, before_usd[asked])
    quality = held.quality(target)
    return Requests(
        label=f"{candidate.named.name}, {question.rule}",
        cost_usd=logged.cost_usd * cost,
        spend_by=spend_by,
        share=dict(zip(outcomes.endpoints, target.mean(axis=0).tolist(), strict=True)),
        notes=(*notes, *([f"spend is what a replay expects: {why}"] if why else [])),
        **quality,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """The decisions held out. routed : bool (n,), those whose endpoint was drawn: it could have been another."""

    outcomes: LoggedOutcomes
    routed: Bools
    fit: Ints
    asked: Ints
    question: Question

    def target(self, candidate: Candidate, installation: Installation) -> Floats:
        """float64 (n, E): the candidate's odds where it may choose, what happened elsewhere."""
        target = self._as_happened()
        rows = self.asked[self.routed]
        dial = installation.dial(self.question)
        worth = self.outcomes.worth_usd[rows] if dial is None else dial
        if len(rows):
            asked = replayed(self.outcomes, rows, candidate.named, installation.asked(self.question))
            target[self.routed] = asked.target(worth)
        return target

    def cost(self, target: Floats, before_usd: Floats) -> tuple[Floats, Literal["dr", "replay"], str]:
        """By what the cost per request changes, how it was estimated, and why not doubly robust."""
        log = self._log(np.arange(len(self.asked)))
        model = self.outcomes.expected_cost_usd[self.asked] * cost_factor(self.outcomes, self.fit)
        model = np.where(self.routed[:, None], model, self.outcomes.cost_usd[self.asked][:, None])
        why = self._refusal(target, np.ones(len(self.asked), dtype=bool))
        terms = (target * model).sum(axis=1)
        if not why:
            terms += log.weights(target) * (self.outcomes.cost_usd[self.asked] - log.at_action(model))
        sums = log.summed(np.column_stack([before_usd, terms]))
        totals = np.concatenate([sums.sum(axis=0, keepdims=True), log.resampled(sums)])
        if not (totals[:, 0] > 0).all():
            raise DataError(["the requests held out cost nothing, so that no change of their cost can be told"])
        return np.maximum(totals[:, 1] / totals[:, 0], 0.0), "replay" if why else "dr", why

    def quality(self, target: Floats) -> dict[str, Any]:
        """Members of Requests about quality, of the rated decisions."""
        rated = np.isfinite(self.outcomes.quality[self.asked])
        why = self._refusal(target, rated)
        if why:
            return {"quality": None, "quality_refused": why, "bounds": None}
        at = np.flatnonzero(rated)
        log, rows = self._log(at), self.asked[at]
        learnable = self.fit[np.isfinite(self.outcomes.quality[self.fit])]
        model, _ = cross_fitted(self.outcomes, learnable, rows, log.cluster, seed=self.question.seed)
        paired = Paired(
            log=log,
            quality=self.outcomes.quality[rows],
            cost_usd=self.outcomes.cost_usd[rows],
            quality_model=model,
            cost_model=np.zeros(model.shape),
            worth_usd=self.outcomes.worth_usd[rows],
        )
        own, before = paired.figures([target[at], log.probability])
        return {
            "quality": own.quality,
            "quality_refused": "",
            "bounds": paired.bounds_of(target[at]),
            "quality_change": own.quality - before.quality,
            "change_bounds": paired.bounds_between(target[at], log.probability),
        }

    def _refusal(self, target: Floats, known: Bools) -> str:
        """Why the draws among `known` say nothing of the target; "" when they do."""
        at = np.flatnonzero(self.routed & known)
        if len(at) < DECISIONS_MIN:
            return f"not identifiable: {len(at)} draws to ask about"
        return overlap(self._log(at), target[at]).refusal

    def _log(self, at: Ints) -> Log:
        """Of the rows `at` among those held out; what was not drawn had only one outcome."""
        rows = self.asked[at]
        routed = self.routed[at]
        probability = np.where(routed[:, None], self.outcomes.probability[rows], self._as_happened()[at])
        return Log(
            action=self.outcomes.drawn[rows],
            propensity=np.where(routed, self.outcomes.propensity[rows], 1.0),
            probability=probability,
            cluster=_clusters([self.outcomes.sessions[i] for i in rows]),
            resamples=self.question.resamples,
            seed=self.question.seed,
        )

    def _as_happened(self) -> Floats:
        happened = np.zeros((len(self.asked), len(self.outcomes.endpoints)))
        happened[np.arange(len(self.asked)), self.outcomes.drawn[self.asked]] = 1.0
        return happened


def _all(decided: Sequence[Decided]) -> tuple[LoggedOutcomes, Bools]:
    """All decisions as arrays, those without a vector of the commonest space with zeros; and which were drawn."""
    kept, _ = of_one_space("the ledger", decided)
    space, width = kept[0].space, 0 if kept[0].vector is None else len(kept[0].vector)
    own = {one.id for one in kept}
    nothing = np.zeros(width, dtype=np.float32)
    rest = [one if one.id in own else replace(one, space=space, vector=nothing, propensity=0.0) for one in decided]
    outcomes = gathered(rest, [])
    return outcomes, outcomes.random


def _parts(
    outcomes: LoggedOutcomes, routed: Bools, candidate: Candidate | None, question: Question
) -> tuple[Ints, Ints, list[str]]:
    """Rows to learn from and rows held out, whole sessions each."""
    if candidate is not None:
        fresh, read = unread(outcomes, candidate)
        note = f"{candidate.named.label} has learned from {read} of these decisions: the change is judged on the rest"
        fit, asked = np.flatnonzero(~fresh), np.flatnonzero(fresh)
        if len(fit) < DECISIONS_MIN:
            fit = asked
        return fit, asked, [note]
    train = hash_order(outcomes.sessions, salt=f"logged {question.seed}") < TRAIN_SHARE
    return np.flatnonzero(train), np.flatnonzero(~train), []


def _clusters(sessions: Sequence[str]) -> Ints:
    return np.asarray(np.unique(list(sessions), return_inverse=True)[1])


def _whole(cluster: Ints, question: Question) -> Log:
    """Of nothing but clusters: for means of what was."""
    ones = np.ones((len(cluster), 1))
    return Log(
        action=np.zeros(len(cluster), dtype=np.int64),
        propensity=ones[:, 0],
        probability=ones,
        cluster=cluster,
        resamples=question.resamples,
        seed=question.seed,
    )
