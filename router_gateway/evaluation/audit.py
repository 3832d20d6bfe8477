"""What a policy or dial would have brought on an installation's own traffic, and whether routing is worth it there.

Estimated from the ledger's draws: see `offpolicy` for the formulas, `paired` for the intervals, `audit_standing` for
what routing is compared with, and docs/audit.md for how to read the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from router_gateway.core.errors import DataError, GatewayError
from router_gateway.core.protocols import Policy
from router_gateway.core.types import Bools, Floats, Ints, NamedPolicy
from router_gateway.evaluation.audit_question import Question
from router_gateway.evaluation.audit_result import AuditResult, Traffic
from router_gateway.evaluation.audit_standing import Compared, compare
from router_gateway.evaluation.logged_models import cross_fitted
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes, gathered, rated
from router_gateway.evaluation.logged_replay import Manner, replayed
from router_gateway.evaluation.logged_values import DECISIONS_MIN, halves
from router_gateway.evaluation.offpolicy import Log
from router_gateway.evaluation.paired import Paired
from router_gateway.learning import standing
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.decided import read_decided
from router_gateway.ledger.hearing import Hearing


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """How a gateway decides.

    policy : name of what is asked about where the question names no policy: the live one, or a candidate
    unfitted : builds a policy by its name; snapshots : the configured policies'; manner : of choosing
    worth_usd : the dial of `policy` where it is its own; None leaves every request the one it had
    hearing : of a ledger (an engine of ledger/), how its feedback is weighed
    """

    policy: str
    unfitted: Callable[[str], Policy]
    snapshots: Snapshots
    manner: Manner
    worth_usd: float | None = None
    hearing: Callable[[Any], Hearing] = lambda _: Hearing()

    def dial(self, question: Question) -> float | None:
        """The one dial of all requests, USD; None where each keeps its own."""
        return self.worth_usd if question.worth_usd is None else question.worth_usd

    def asked(self, question: Question) -> Manner:
        """The manner under the rule that was asked for."""
        return self.asked_by(question.rule)

    def asked_by(self, rule: str) -> Manner:
        """The manner, "configured" or "greedy"."""
        own = self.manner
        if rule == "configured":
            return own
        return Manner(guard=own.guard, optimism=own.optimism, default_endpoint=own.default_endpoint)


def audit(engine: Any, installation: Installation, question: Question) -> AuditResult:
    """Judge a candidate on the ledger's newest rated decisions; a log that cannot say gives a refusal, not an error.

    Raises UnknownPolicy, BadParameters, SnapshotMismatch for a candidate that there is not, LedgerUnavailable.
    """
    name = question.policy or installation.policy
    label = name if question.version is None else f"{name}@{question.version}"
    dial = installation.dial(question)
    candidate = candidate_of(installation, question)
    unfitted = installation.unfitted(name) if candidate is None else None
    decided = read_decided(
        engine,
        since=question.since,
        decisions_max=question.decisions_max,
        rated_only=True,
        tenant=question.tenant,
        hearing=installation.hearing(engine),
    )
    try:
        outcomes = gathered(*rated("the ledger", decided))
    except DataError as error:
        return AuditResult.refused(label, question.rule, dial, Traffic(rated=len(decided)), error.message)
    learned, asked, notes = _parts(outcomes, candidate, label, question.seed)
    traffic = Traffic(
        rated=len(outcomes),
        learned=len(learned),
        asked=len(asked),
        sessions=len({outcomes.sessions[i] for i in asked}),
    )
    notes = [*outcomes.notes, *notes]
    if len(asked) < DECISIONS_MIN or (candidate is None and len(learned) < DECISIONS_MIN):
        why = f"{len(learned)} decisions to learn from and {len(asked)} drawn ones to ask about"
        return AuditResult.refused(label, question.rule, dial, traffic, why, notes)
    try:
        if candidate is None:
            assert unfitted is not None
            fitted = unfitted.fit(outcomes.experience(learned))
            candidate = Candidate(named=NamedPolicy(name=name, version=0, policy=fitted), learned=None)
        found = _compared(outcomes, learned, asked, candidate.named, installation, question)
    except (GatewayError, ValueError) as error:
        why = f"{label} cannot be judged on this log: {error}"
        return AuditResult.refused(label, question.rule, dial, traffic, why, notes)
    return AuditResult.of(label, question.rule, dial, traffic, found, notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A policy to judge. learned : how far in the ledger it has read; None for one fitted here, out of fold."""

    named: NamedPolicy
    learned: standing.Standing | None


def candidate_of(installation: Installation, question: Question) -> Candidate | None:
    """The snapshot asked about; None where a policy is to be fitted anew. Raises SnapshotMismatch, UnknownPolicy."""
    if question.version is None:
        return None
    named, manifest = installation.snapshots.load(question.policy or installation.policy, question.version)
    return Candidate(named=named, learned=standing.Standing.of(manifest))


def unread(outcomes: LoggedOutcomes, candidate: Candidate) -> tuple[Bools, int]:
    """Bool (N,), decisions of sessions of which the candidate has learned nothing; and how many it has learned from."""
    reached = standing.Standing().reached if candidate.learned is None else candidate.learned.reached
    read = (outcomes.first_said <= np.array([reached.feedback, reached.comparisons])).any(axis=1)
    known = {outcomes.sessions[i] for i in np.flatnonzero(read)}
    return np.array([session not in known for session in outcomes.sessions], dtype=bool), int(read.sum())


def _parts(
    outcomes: LoggedOutcomes, candidate: Candidate | None, label: str, seed: int
) -> tuple[Ints, Ints, list[str]]:
    """Rows to learn from and draws to ask about: halves, or for a snapshot what it has not read and the rest."""
    learned, asked = halves(outcomes, seed)
    if candidate is None or candidate.learned is None:
        return learned, asked, []
    fresh, read = unread(outcomes, candidate)
    seen, new = np.flatnonzero(~fresh), np.flatnonzero(fresh & outcomes.random)
    if len(seen) < DECISIONS_MIN:  # it learned elsewhere: what it is compared with still needs rows of its own
        return learned, asked[fresh[asked]], [f"{label} has learned nothing of this ledger: valued on half of it"]
    told = f"{label} has learned from {read} of these decisions: valued on the draws of sessions since"
    return seen, new, [told]


def _compared(
    outcomes: LoggedOutcomes,
    learned: Ints,
    asked: Ints,
    named: NamedPolicy,
    installation: Installation,
    question: Question,
) -> Compared:
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
    dial = installation.dial(question)
    worth_usd: Floats = outcomes.worth_usd if dial is None else np.full(len(outcomes), dial)
    paired = Paired(
        log=log,
        quality=outcomes.quality[asked],
        cost_usd=outcomes.cost_usd[asked],
        quality_model=quality,
        cost_model=cost_usd,
        worth_usd=worth_usd[asked],
    )
    target = replayed(outcomes, asked, named, installation.asked(question)).target(worth_usd[asked])
    return compare(outcomes, learned, asked, paired, target, worth_usd)
