"""Decisions that were drawn, each with one endpoint's outcome, as arrays: what an off-policy estimate reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from router_gateway.core.errors import DataError
from router_gateway.core.experience import Experience
from router_gateway.core.types import Bools, Floats, Ints, Queries
from router_gateway.ledger.decided import Decided

_DRIFT = 1e-6  # a propensity further than this from its row's probability is another number


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedOutcomes:
    """N decisions over E endpoints. A decision's outcome is what its client got, fallbacks included.

    queries : the N queries; ids, sessions : N each, a decision without a session being one of its own
    endpoints : E names
    drawn, answered : int64 (N,), columns; answered is the drawn one where nobody answered
    propensity : float64 (N,), of the endpoint drawn, as logged
    probability, expected_cost_usd : float64 (N, E), 0 where not a candidate
    candidate : bool (N, E)
    quality : float64 (N,), NaN where nobody said
    cost_usd, worth_usd : float64 (N,); the cost is that of all attempts together
    random : bool (N,), where the endpoint was drawn by the rule, so that an estimate may use the row
    first_said : int64 (N, 2), see `Decided`; the largest integer where nothing was said
    notes : what was left out, one sentence each
    """

    queries: Queries
    ids: tuple[UUID, ...]
    sessions: tuple[str, ...]
    endpoints: tuple[str, ...]
    drawn: Ints
    answered: Ints
    propensity: Floats
    probability: Floats
    expected_cost_usd: Floats
    candidate: Bools
    quality: Floats
    cost_usd: Floats
    worth_usd: Floats
    random: Bools
    first_said: Ints
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Ints) -> LoggedOutcomes:
        """The named decisions alone."""
        arrays: tuple[str, ...] = ("drawn", "answered", "propensity", "probability", "expected_cost_usd", "candidate")
        arrays += ("quality", "cost_usd", "worth_usd", "random", "first_said")
        return replace(
            self,
            queries=self.queries.take(rows),
            ids=tuple(self.ids[i] for i in rows),
            sessions=tuple(self.sessions[i] for i in rows),
            **{name: getattr(self, name)[rows] for name in arrays},
        )

    def experience(self, rows: Ints, *, credit_drawn: bool = False) -> Experience:
        """What a policy learns from these rated rows, as the live learner would: credit goes to who answered.

        credit_drawn : to the endpoint drawn instead, as a model of what drawing it brings needs it
        """
        fallback = self.answered[rows] != self.drawn[rows]
        return Experience(
            queries=self.queries.take(rows),
            endpoints=self.endpoints,
            query=np.arange(len(rows), dtype=np.int64),
            endpoint=(self.drawn if credit_drawn else self.answered)[rows],
            quality=self.quality[rows].astype(np.float32),
            cost_usd=self.cost_usd[rows],
            propensity=np.where(fallback, 0.0, self.propensity[rows]).astype(np.float32),
        )


def rated(source: str, decisions: Sequence[Decided]) -> tuple[list[Decided], list[str]]:
    """Those with feedback and a vector of the commonest space, and what was left out. Raises DataError for none."""
    said = [each for each in decisions if each.quality is not None]
    kept, notes = of_one_space(source, said)
    if dropped := len(decisions) - len(said):
        share = f"{dropped} of {len(decisions)} decisions"
        notes.insert(0, f"{share} have no feedback: the figures are about decisions that get some")
    return kept, notes


def of_one_space(source: str, decisions: Sequence[Decided]) -> tuple[list[Decided], list[str]]:
    """Those with a vector of the commonest space, and what was left out. Raises DataError for none."""
    spaces = Counter((each.space, len(each.vector)) for each in decisions if each.vector is not None)
    if not spaces:
        raise DataError([f"{source}: no decision with both feedback and a vector"], hint="post feedback first")
    [(common, _)] = spaces.most_common(1)
    kept = [each for each in decisions if each.vector is not None and (each.space, len(each.vector)) == common]
    dropped = len(decisions) - len(kept)
    notes = [f"{dropped} decisions without a vector of {common[0]}, {common[1]} wide, are left out"] if dropped else []
    return kept, notes


def gathered(decisions: Sequence[Decided], notes: Sequence[str]) -> LoggedOutcomes:
    """Arrays of decisions of one space, in their order."""
    names = tuple(sorted({name for each in decisions for name in (*each.candidates, each.drawn, _answering(each))}))
    column = {name: i for i, name in enumerate(names)}
    shape = (len(decisions), len(names))
    probability, expected, candidate = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for i, each in enumerate(decisions):
        at = [column[name] for name in each.candidates]
        candidate[i, at] = True
        if each.probability:
            probability[i, at] = [value or 0.0 for value in each.probability]
            expected[i, at] = [value or 0.0 for value in each.expected_cost_usd]
    drawn = np.array([column[each.drawn] for each in decisions], dtype=np.int64)
    propensity = np.array([each.propensity for each in decisions])
    quality = np.array([np.nan if each.quality is None else each.quality for each in decisions])
    own = probability[np.arange(len(decisions)), drawn]
    told = (propensity == 1.0) & (own < 1.0 - _DRIFT)  # `explore: false`: not drawn, so it says nothing of the others
    random = (propensity > 0) & ~told
    return LoggedOutcomes(
        queries=Queries(
            text=tuple(each.text for each in decisions),
            embedding=np.array([each.vector for each in decisions], dtype=np.float32),
            tokens_input=np.array([each.tokens_input for each in decisions], dtype=np.int64),
            space=decisions[0].space,
        ),
        ids=tuple(each.id for each in decisions),
        sessions=tuple(each.session or str(each.id) for each in decisions),
        endpoints=names,
        drawn=drawn,
        answered=np.array([column[_answering(each)] for each in decisions], dtype=np.int64),
        propensity=propensity,
        probability=probability,
        expected_cost_usd=expected,
        candidate=candidate,
        quality=quality,
        cost_usd=np.array([each.cost_usd for each in decisions]),
        worth_usd=np.array([each.worth_usd for each in decisions]),
        random=random,
        first_said=np.array([[_LAST if s is None else s for s in each.first_said] for each in decisions]),
        notes=(*notes, *_told(np.isfinite(quality), propensity, own, told, random)),
    )


_LAST = np.iinfo(np.int64).max


def _answering(each: Decided) -> str:
    return each.drawn if each.answered is None else each.answered


def _told(said: Bools, propensity: Floats, own: Floats, told: Bools, random: Bools) -> list[str]:
    notes = []
    for rows, what in ((propensity == 0, "the rule did not make (pins, fallbacks)"), (told, "not drawn but asked for")):
        if (rows & said).any():
            notes.append(f"{int((rows & said).sum())} rated decisions {what}: learned from, not estimated with")
    if drifted := int((random & (np.abs(propensity - own) > _DRIFT)).sum()):
        notes.append(f"{drifted} propensities are not what their rule's probabilities say; the propensities are used")
    return notes
