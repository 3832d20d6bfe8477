"""From what came of an experiment's decisions to what it shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np

from router_gateway.core.money import NUSD_PER_USD
from router_gateway.ledger.candidates import Candidate, Transition
from router_gateway.ledger.experiments import Outcome
from router_gateway.lifecycle.assignment import Shares
from router_gateway.lifecycle.measures import Measure, Sessions, measure
from router_gateway.lifecycle.settings import Lifecycle, Margins
from router_gateway.lifecycle.verdict import Verdict, decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Both sides of an experiment; `rows` are the decisions behind them."""

    live: Sessions
    candidate: Sessions
    rows: int


ReadTrial: TypeAlias = Callable[[str, datetime, int], Trial]
"""Of an experiment, from an instant on, at most so many decisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one stage of a canary shows so far, and what follows."""

    share: float
    since: datetime
    rows: int
    sessions_live: int
    sessions_candidate: int
    measures: tuple[Measure, ...]
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """For audit trail, API and CLI."""
        values = asdict(self)
        values["since"] = self.since.isoformat()
        values["measures"] = [{**asdict(each), "finding": each.finding} for each in self.measures]
        return values


def assess(trial: Trial, candidate: Candidate, stage: Transition, settings: Lifecycle) -> Evidence:
    """Judge a canary. `stage` is the transition that began it: what came before it counts no more."""
    share = stage.share or settings.shares[0]
    margins = Margins(**{**settings.margins.model_dump(), **candidate.margins})
    found = measure(trial.live, trial.candidate, Shares(canary=share).group, margins, settings)
    last_stage = not any(wider > share for wider in settings.shares)
    return Evidence(
        share=share,
        since=stage.at,
        rows=trial.rows,
        sessions_live=len(trial.live.errors),
        sessions_candidate=len(trial.candidate.errors),
        measures=found,
        verdict=decide(found, last_stage=last_stage, settings=settings),
    )


def trial_of(outcomes: Sequence[Outcome]) -> Trial:
    """Outcomes by session. A session counts once, however many requests it has: its turns are not independent."""
    sides: dict[bool, dict[str, list[Outcome]]] = {True: defaultdict(list), False: defaultdict(list)}
    for outcome in outcomes:
        sides[outcome.canary][outcome.unit].append(outcome)
    live, candidate = (_sessions(list(sides[canary].values())) for canary in (False, True))
    return Trial(live=live, candidate=candidate, rows=len(outcomes))


def _sessions(grouped: Sequence[Sequence[Outcome]]) -> Sessions:
    """In order of arrival; for quality in the order in which ratings came, since late ones are late on both sides."""
    rated = sorted(
        (min(each.rated for each in own), float(np.mean([each.quality for each in own])))
        for own in ([each for each in session if each.quality is not None] for session in grouped)
        if own
    )
    waited = [[each.first_token_ms for each in own if each.first_token_ms] for own in grouped]
    return Sessions(
        quality=np.array([quality for _, quality in rated]),
        errors=np.array([np.mean([each.failed for each in own]) for own in grouped], dtype=np.float64),
        cost=np.array([np.mean([each.cost_nusd for each in own]) / NUSD_PER_USD for own in grouped], dtype=np.float64),
        first_token=np.array([np.exp(np.mean(np.log(own))) for own in waited if own], dtype=np.float64),
    )
