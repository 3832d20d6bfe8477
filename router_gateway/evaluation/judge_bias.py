"""How far judges can be trusted: their bias against the truth, by endpoint, by position and by length of the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import combinations
from math import log2, sqrt
from typing import Any
from uuid import UUID

import numpy as np

from router_gateway.core.types import FeedbackSource, Floats
from router_gateway.evaluation.prediction_powered import Estimate, mean
from router_gateway.ledger.judged import Graded, Reading, read_graded, read_readings

_Z = 1.959964
_PAIRS_MIN = 10
"""Fewer pairs of truth and score say nothing of length."""
_COMPARED_MAX = 20
"""Endpoints of which every two are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval, over `count` cases."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointQuality:
    """The mean quality of one endpoint's answers, three times; None where too little is known.

    labels : of the answers whose truth is known, alone
    judged : of the judges' scores, alone, with their bias in it
    powered : of both: the scores of all, corrected by what they are worth where the truth is known
    """

    endpoint: str
    labels: Estimate | None
    judged: Interval | None
    powered: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much better `endpoint` is than `other`, by `powered`."""

    endpoint: str
    other: str
    quality: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeBias:
    """One judge. Biases are mean score less truth; None where too little is known.

    bias : over all endpoints; bias_by_endpoint : of each
    correlation : of score and truth
    length : what doubling an answer's length adds to score less truth
    first : of the verdicts for one side, the share for the answer read first; 1/2 is no bias
    contradicted : share of the pairs read in both orders where the two verdicts do not agree
    longer : of the pairs on which they agree, the share won by the longer answer
    """

    judge: str
    scores: int
    bias: Interval | None
    bias_by_endpoint: dict[str, Interval]
    correlation: float | None
    length: Interval | None
    first: Interval | None
    contradicted: Interval | None
    longer: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """Everything that is known of judges; `as_dict` is JSON."""

    judges: tuple[JudgeBias, ...]
    endpoints: tuple[EndpointQuality, ...]
    differences: tuple[Difference, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def report_of(engine: Any, truth: Sequence[FeedbackSource], *, since: datetime | None = None) -> JudgeReport:
    """The report of a ledger's database (an engine of ledger/); blocks.

    truth : the sources that count as true, the first one first; since : what was said from then on
    """
    return judge_report(read_graded(engine, truth, since=since), read_readings(engine, since=since))


def judge_report(graded: Sequence[Graded], readings: Sequence[Reading]) -> JudgeReport:
    """The figures of `ledger.judged.read_graded` and `read_readings`."""
    names = sorted({row.endpoint for row in graded})
    endpoints = tuple(_quality(name, [row for row in graded if row.endpoint == name]) for name in names)
    known = [each for each in endpoints if each.powered is not None][:_COMPARED_MAX]
    differences = tuple(
        Difference(endpoint=one.endpoint, other=other.endpoint, quality=one.powered.minus(other.powered))
        for one, other in combinations(known, 2)
        if one.powered is not None and other.powered is not None
    )
    judges = sorted({row.judge for row in graded if row.judge} | {row.judge for row in readings})
    return JudgeReport(
        judges=tuple(_bias(name, graded, readings) for name in judges), endpoints=endpoints, differences=differences
    )


def _quality(endpoint: str, rows: Sequence[Graded]) -> EndpointQuality:
    """Several judges of one answer count as their mean: any prediction will do, as long as it is made alike for all."""
    truth: dict[UUID, float] = {row.query_id: row.truth for row in rows if row.truth is not None}
    scores: dict[UUID, list[float]] = defaultdict(list)
    for row in rows:
        if row.score is not None:
            scores[row.query_id].append(row.score)
    predicted = {query_id: float(np.mean(said)) for query_id, said in scores.items()}
    both = [query_id for query_id in predicted if query_id in truth]
    rest = _array(score for query_id, score in predicted.items() if query_id not in truth)
    labels = _array(truth.values())
    return EndpointQuality(
        endpoint=endpoint,
        labels=mean(labels, labels, np.zeros(0), power=0.0),
        judged=_mean(_array(predicted.values())),
        powered=mean(_array(truth[query_id] for query_id in both), _array(predicted[q] for q in both), rest),
    )


def _bias(judge: str, graded: Sequence[Graded], readings: Sequence[Reading]) -> JudgeBias:
    own = [row for row in graded if row.judge == judge]
    pairs = [row for row in own if row.truth is not None and row.score is not None]
    by_endpoint: dict[str, list[Graded]] = defaultdict(list)
    for row in pairs:
        by_endpoint[row.endpoint].append(row)
    found = {name: _mean(_excess(rows)) for name, rows in sorted(by_endpoint.items())}
    read = [row for row in readings if row.judge == judge]
    first, contradicted, longer = _positions(read)
    return JudgeBias(
        judge=judge,
        scores=len(own),
        bias=_mean(_excess(pairs)),
        bias_by_endpoint={name: bias for name, bias in found.items() if bias is not None},
        correlation=_correlation(pairs),
        length=_length(pairs),
        first=first,
        contradicted=contradicted,
        longer=longer,
    )


def _positions(readings: Sequence[Reading]) -> tuple[Interval | None, Interval | None, Interval | None]:
    sided = [row for row in readings if row.score in (0.0, 1.0)]
    first = proportion(sum(row.score == 1.0 for row in sided), len(sided))
    by_pair: dict[tuple[UUID, frozenset[str]], list[Reading]] = defaultdict(list)
    for row in readings:
        by_pair[row.query_id, frozenset((row.first, row.second))].append(row)
    both = [rows for rows in by_pair.values() if len(rows) == 2 and rows[0].first == rows[1].second]
    agreed = [rows[0] for rows in both if rows[0].score + rows[1].score == 1.0]
    won = [row for row in agreed if row.score != 0.5 and row.first_chars != row.second_chars]
    by_longer = sum((row.score == 1.0) == (row.first_chars > row.second_chars) for row in won)
    return first, proportion(len(both) - len(agreed), len(both)), proportion(by_longer, len(won))


def proportion(hits: int, count: int) -> Interval | None:
    """A share with Wilson's interval; None of nothing."""
    if count == 0:
        return None
    share, weight = hits / count, _Z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    arm = _Z * sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return Interval(value=share, low=max(centre - arm, 0.0), high=min(centre + arm, 1.0), count=count)


def _mean(values: Floats) -> Interval | None:
    if len(values) < 2:
        return None
    from scipy.stats import t

    value = float(values.mean())
    arm = float(t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / sqrt(len(values))
    return Interval(value=value, low=value - arm, high=value + arm, count=len(values))


def _length(pairs: Sequence[Graded]) -> Interval | None:
    """The slope of score less truth on the binary logarithm of the answer's length, by least squares."""
    known = [row for row in pairs if row.chars]
    if len(known) < _PAIRS_MIN:
        return None
    from scipy.stats import t

    size = np.array([log2(row.chars or 1) for row in known])
    excess = _excess(known)
    away = size - size.mean()
    spread = float((away**2).sum())
    if spread == 0.0:
        return None
    slope = float((away * excess).sum()) / spread
    left = excess - excess.mean() - slope * away
    dof = len(known) - 2
    arm = float(t.ppf(0.975, dof)) * sqrt(float((left**2).sum()) / dof / spread)
    return Interval(value=slope, low=slope - arm, high=slope + arm, count=len(known))


def _correlation(pairs: Sequence[Graded]) -> float | None:
    score, truth = _array(row.score or 0.0 for row in pairs), _array(row.truth or 0.0 for row in pairs)
    if len(pairs) < 3 or score.std() == 0.0 or truth.std() == 0.0:
        return None
    return float(np.corrcoef(score, truth)[0, 1])


def _excess(pairs: Sequence[Graded]) -> Floats:
    return _array((row.score or 0.0) - (row.truth or 0.0) for row in pairs)


def _array(values: Iterable[float]) -> Floats:
    return np.fromiter(values, dtype=np.float64)
