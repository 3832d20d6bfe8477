"""Judges' scores as they would be without the judges' bias, before a policy learns them or is compared by them.

Where the truth of an answer is known as well as a judge's score s of it, the two are a pair. From the pairs of a judge
comes a line, and from those of each endpoint a shift:

    y ≈ s + a + b (s - m) + c_endpoint          m: mean score of the judge's pairs

fitted by ridge regression towards a = b = c = 0, the score as it is, which weighs as much as `prior` pairs of scores
spread evenly over [0, 1]. So a judge that nobody has checked is believed, one that was checked twice a little less, and
one that was checked a thousand times not at all where it errs. b mends judges that use a part of the scale only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np

from router_gateway.learning.settings import Learning
from router_gateway.ledger.hearing import Hearing
from router_gateway.ledger.judged import UNNAMED, Graded, read_graded

PAIRS_READ_MAX = 20_000
"""Newest words of judges, and of the truth, from which the judges' bias is measured."""
_EVEN_VARIANCE = 1.0 / 12.0
"""Of scores spread evenly over [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one judge's scores are worth: `shift` + `slope` · (score - `centre`) is added, and `by_endpoint`."""

    centre: float = 0.0
    shift: float = 0.0
    slope: float = 0.0
    by_endpoint: Mapping[str, float] = field(default_factory=dict)

    def corrected(self, score: float, endpoint: str) -> float:
        moved = score + self.shift + self.slope * (score - self.centre) + self.by_endpoint.get(endpoint, 0.0)
        return min(max(moved, 0.0), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """The lines of all judges; a judge without pairs is believed as it is."""

    lines: Mapping[str, Line] = field(default_factory=dict)

    @classmethod
    def of(cls, graded: Sequence[Graded], *, prior: float) -> Self:
        """Fit on answers that have both; `prior` is the weight in pairs of leaving the scores alone."""
        pairs: dict[str, list[Graded]] = defaultdict(list)
        for row in graded:
            if row.judge is not None and row.score is not None and row.truth is not None:
                pairs[row.judge].append(row)
        return cls(lines={judge: _line(rows, prior) for judge, rows in pairs.items()})

    def corrected(self, judge: str | None, endpoint: str, score: float) -> float:
        """What a score teaches, in [0, 1]."""
        line = self.lines.get(judge or UNNAMED)
        return score if line is None else line.corrected(score, endpoint)


class JudgeCorrection:
    """Feedback rows as they are to be learned. The pairs are read once a round, and only if a judge spoke in it.

    graded : reads the answers that judges scored and the truth is known of
    """

    def __init__(self, graded: Callable[[], Sequence[Graded]], *, prior: float) -> None:
        self._graded = graded
        self._prior = prior
        self._fitted: Recalibration | None = None

    def renew(self) -> None:
        """A new round of learning begins: what is known of judges may have changed."""
        self._fitted = None

    def quality(self, row: Any) -> float:
        """Of a row of `ledger.learnable.outcomes_past`."""
        if row.source != "judge":
            return float(row.quality)
        if self._fitted is None:
            self._fitted = Recalibration.of(self._graded(), prior=self._prior)
        return self._fitted.corrected(row.judge, row.answered, float(row.quality))


def hearing_of(engine: Any, settings: Learning, *, until: datetime | None = None) -> Hearing:
    """How what the ledger (an engine of ledger/) says of answers is to be weighed where policies are compared.

    What judges said is corrected by the pairs known before `until` (None: by all), and not heard where the truth spoke.
    With `learning.corrects_judges` off everything counts as it was said.
    """
    if not settings.corrects_judges:
        return Hearing()
    graded = read_graded(engine, settings.truth, until=until, rows_max=PAIRS_READ_MAX)
    fitted = Recalibration.of(graded, prior=settings.judge_prior)
    return Hearing(truth=frozenset(settings.truth), corrected=fitted.corrected)


def _line(pairs: Sequence[Graded], prior: float) -> Line:
    score = np.array([row.score for row in pairs], dtype=np.float64)
    truth = np.array([row.truth for row in pairs], dtype=np.float64)
    centre = float(score.mean())
    away, short = score - centre, truth - score
    # `away` sums to zero, so shift and slope are fitted apart.
    shift = float(short.sum()) / (len(pairs) + prior)
    slope = float((short * away).sum()) / (float((away**2).sum()) + prior * _EVEN_VARIANCE)
    left = short - shift - slope * away
    by_endpoint: dict[str, list[float]] = defaultdict(list)
    for row, rest in zip(pairs, left, strict=True):
        by_endpoint[row.endpoint].append(float(rest))
    shifts = {name: sum(rest) / (len(rest) + prior) for name, rest in by_endpoint.items()}
    return Line(centre=centre, shift=shift, slope=slope, by_endpoint=shifts)
