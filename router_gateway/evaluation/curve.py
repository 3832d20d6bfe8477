"""The cost/quality curve of policies over the dial, on an installation's own traffic, from the ledger's draws.

Everything that the dial does not change is done once: rows are read, policies fitted on one half of the sessions,
the other half scored and priced, and models of what was not drawn fitted across folds. A dial is then one `weigh`, and
all dials are resampled together, so that every difference is paired. See `audit` and docs/audit.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from router_gateway.core.errors import DataError, GatewayError
from router_gateway.core.types import Floats, Ints, NamedPolicy
from router_gateway.evaluation.audit import Installation
from router_gateway.evaluation.audit_question import CurveQuestion
from router_gateway.evaluation.audit_standing import always, cheapest, chosen
from router_gateway.evaluation.curve_result import Curves, Figured, Line, grid
from router_gateway.evaluation.logged_models import cross_fitted
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes, gathered, rated
from router_gateway.evaluation.logged_replay import Replayed, replayed
from router_gateway.evaluation.logged_values import DECISIONS_MIN, halves
from router_gateway.evaluation.offpolicy import Log, overlap
from router_gateway.evaluation.paired import Bounds, Figures, Paired, at_equal_cost
from router_gateway.evaluation.sweep import dial_grid
from router_gateway.ledger.decided import read_decided

_SCANNED = 3  # of the grid's dials one in so many is looked at to find where the dial changes anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A policy to draw. what : "live", "candidate" or "policy"; worth_usd : the dial it decides with now."""

    name: str
    what: str
    installation: Installation
    worth_usd: float


def curves(engine: Any, subjects: Sequence[Subject], question: CurveQuestion) -> Curves:
    """The curves of `subjects`, the live one first; a log that cannot say gives a refusal, not an error.

    Raises UnknownPolicy or BadParameters for a policy that there is not, LedgerUnavailable.
    """
    unfitted = [subject.installation.unfitted(subject.name) for subject in subjects]
    decided = read_decided(
        engine,
        since=question.since,
        decisions_max=question.decisions_max,
        rated_only=True,
        tenant=question.tenant,
        hearing=subjects[0].installation.hearing(engine),
    )
    told = Curves(on="traffic", rule=question.rule)
    try:
        outcomes = gathered(*rated("the ledger", decided))
    except DataError as error:
        return _refused(told, error.message)
    learned, asked = halves(outcomes, question.seed)
    if min(len(learned), len(asked)) < DECISIONS_MIN:
        return _refused(told, f"{len(learned)} decisions to learn from and {len(asked)} drawn ones to ask about")
    paired = _paired(outcomes, learned, asked, question)
    notes, replays = list(outcomes.notes), []
    for subject, policy in zip(subjects, unfitted, strict=True):
        try:
            named = NamedPolicy(name=subject.name, version=0, policy=policy.fit(outcomes.experience(learned)))
            manner = subject.installation.asked_by(question.rule)
            replays.append((subject, replayed(outcomes, asked, named, manner)))
        except (GatewayError, ValueError) as error:
            notes.append(f"{subject.name} cannot be judged on this log: {error}")
    if not replays or replays[0][0] is not subjects[0]:
        return _refused(told, notes[-1])
    return _Drawing(
        outcomes=outcomes, learned=learned, asked=asked, paired=paired, replays=replays, question=question, notes=notes
    ).curves()


def _refused(told: Curves, why: str) -> Curves:
    return Curves(on=told.on, rule=told.rule, refused=f"not identifiable: {why}")


def _paired(outcomes: LoggedOutcomes, learned: Ints, asked: Ints, question: CurveQuestion) -> Paired:
    _, cluster = np.unique([outcomes.sessions[i] for i in asked], return_inverse=True)
    log = Log(
        action=outcomes.drawn[asked],
        propensity=outcomes.propensity[asked],
        probability=outcomes.probability[asked],
        cluster=cluster,
        resamples=question.resamples,
        seed=question.seed,
    )
    quality, cost_usd = cross_fitted(outcomes, learned, asked, cluster, seed=question.seed)
    return Paired(
        log=log,
        quality=outcomes.quality[asked],
        cost_usd=outcomes.cost_usd[asked],
        quality_model=quality,
        cost_model=cost_usd,
        worth_usd=outcomes.worth_usd[asked],
    )


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """What is known before a dial is read. replays : of the subjects that could be fitted, the live one first."""

    outcomes: LoggedOutcomes
    learned: Ints
    asked: Ints
    paired: Paired
    replays: Sequence[tuple[Subject, Replayed]]
    question: CurveQuestion
    notes: list[str]

    def curves(self) -> Curves:
        live, first = self.replays[0]
        own = [subject.worth_usd for subject, _ in self.replays]
        dials = self._dials(first, own)
        now = first.target(live.worth_usd)
        targets = [replay.target(worth) for _, replay in self.replays for worth in dials]
        singles = {name: always(self.outcomes, self.asked, i) for i, name in enumerate(self.outcomes.endpoints)}
        plain = [*singles.values(), cheapest(self.outcomes, self.asked), self.paired.log.probability]
        figures = self.paired.figures([now, *targets, *plain])
        known = [name for name, target in singles.items() if not overlap(self.paired.log, target).refusal]
        worth = np.full(len(self.outcomes), live.worth_usd)
        best, corners = chosen(self.outcomes, self.learned, known, worth)
        at_singles = dict(zip(singles, figures[1 + len(targets) :], strict=False))
        mixing = [(at_singles[name], singles[name]) for name in corners]
        here = (self._figured(now, figures[0]), now)
        points = [
            self._figured(target, figure).point(
                worth, now=(here[0], self.paired.bounds_between(target, now)), mix=self._mix(target, figure, mixing)
            )
            for target, figure, worth in zip(targets, figures[1:], dials * len(self.replays), strict=False)
        ]
        baselines = [
            self._figured(target, figure).point(None, now=(here[0], self.paired.bounds_between(target, now)))
            for target, figure in zip(plain, figures[1 + len(targets) :], strict=True)
        ]
        return Curves(
            on="traffic",
            rule=self.question.rule,
            learned=len(self.learned),
            asked=len(self.asked),
            parts=int(self.paired.log.cluster.max()) + 1,
            lines=tuple(
                Line(
                    name=subject.name,
                    what=subject.what,
                    worth_usd=subject.worth_usd,
                    points=tuple(points[i * len(dials) : (i + 1) * len(dials)]),
                )
                for i, (subject, _) in enumerate(self.replays)
            ),
            singles=dict(zip(singles, baselines, strict=False)),
            best_single=best,
            cheapest=baselines[-2],
            logged=baselines[-1],
            mix=tuple(corners),
            notes=tuple(self.notes),
        )

    def _dials(self, replay: Replayed, own: Sequence[float]) -> list[float]:
        expected = self.outcomes.expected_cost_usd[self.asked]
        candidate = self.outcomes.candidate[self.asked]
        count = candidate.sum(axis=0)
        mean_usd = np.where(candidate, expected, 0.0).sum(axis=0)[count > 0] / count[count > 0]
        wide = dial_grid(mean_usd)[:0:-_SCANNED][::-1]
        spent = np.array([float((replay.target(worth) * expected).sum(axis=1).mean()) for worth in wide])
        return grid(wide, spent, self.question.points, own)

    def _figured(self, target: Floats, figure: Figures) -> Figured:
        seen = overlap(self.paired.log, target)
        return Figured(
            quality=figure.quality,
            cost_usd=np.maximum(figure.cost_usd, 0.0),
            bounds=self.paired.bounds_of(target),
            share=dict(zip(self.outcomes.endpoints, target.mean(axis=0).tolist(), strict=True)),
            refused=seen.refusal,
            warning=seen.warning,
        )

    def _mix(
        self, target: Floats, figure: Figures, mixing: Sequence[tuple[Figures, Floats]]
    ) -> tuple[Floats, Bounds] | None:
        """Quality of the coin that costs the same, and the range of the difference to it."""
        if not mixing:
            return None
        quality, weights = at_equal_cost([each for each, _ in mixing], figure.cost_usd)
        coin = np.asarray(sum(weight * single for weight, (_, single) in zip(weights, mixing, strict=True)))
        return quality, self.paired.bounds_between(target, coin)
