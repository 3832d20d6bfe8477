"""What an evaluation found, as plain values: made by the runner, kept as JSON, drawn by the report.

Costs are mean USD per request, quality and AIQ are in [0, 1], means over seeds unless said otherwise.
A figure that is not defined (an AIQ without costs, a quality never reached) is NaN here and null in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, TypeAdapter

SCHEMA = 1
"""Raised when a reader of older results would misread newer ones."""

Number: TypeAlias = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
Numbers: TypeAlias = tuple[Number, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One named point of the cost-quality plane: a single endpoint, random, the task oracle."""

    name: str
    cost_usd: Number
    quality: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """N points of a curve in order of cost, as the zero router's or the oracle's hull."""

    cost_usd: Numbers
    quality: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class DialCurve:
    """A policy over D settings of the dial, each a mean over seeds; the order is that of the dial.

    worth_usd : (D,) what a perfect answer is worth; infinity (null in JSON), where price plays no part, is NaN
    cost_usd, quality : (D,); quality_sd : (D,) standard deviation over seeds, 0 for one seed
    shares : (D, E) of requests, over the set's `endpoints`; empty where not kept
    """

    worth_usd: Numbers
    cost_usd: Numbers
    quality: Numbers
    quality_sd: Numbers
    shares: tuple[Numbers, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Reliability of predicted quality: B bins, their cells counted, means of prediction and outcome; ECE, Brier."""

    count: tuple[int, ...]
    predicted: Numbers
    observed: Numbers
    ece: Number
    brier: Number = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """One row under the pooled split: a policy, or a reference swept or judged like one.

    reference : random, cheapest, best_single, task_oracle and their like, which learn nothing from the prompt
    aiq_sd : over seeds; gap_closed_low, gap_closed_high : 95 % bootstrap interval over queries
    quality_at_zero_price : where price plays no part
    cost_at_best_single_quality : least cost on the hull with the best single endpoint's quality; NaN: never reached
    score_ms_p50, score_ms_p99 : of `score` for one query, embedding not included
    other : further figures by the name of the metric (area, qnc, arena_score, selection_entropy, …)
    """

    name: str
    reference: bool = False
    aiq: Number
    aiq_sd: Number = math.nan
    gap_closed: Number = math.nan
    gap_closed_low: Number = math.nan
    gap_closed_high: Number = math.nan
    quality_at_zero_price: Number = math.nan
    cost_at_best_single_quality: Number = math.nan
    score_ms_p50: Number = math.nan
    score_ms_p99: Number = math.nan
    curve: DialCurve | None = None
    calibration: Bins | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """One task of the test: quality and mean USD at `SetResult.tasks_at`, by row (policies, best_single, oracle, …)."""

    name: str
    queries: int
    quality: Mapping[str, Number]
    cost_usd: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """Figures of one part of a protocol, by row name (policies and references such as zero_router, oracle).

    name : the number of probes, the perturbation, the task held out; "" where a protocol has one part
    unchanged : by policy, share of decisions that a perturbation did not change
    """

    name: str
    aiq: Mapping[str, Number]
    aiq_sd: Mapping[str, Number] = field(default_factory=dict)
    gap_closed: Mapping[str, Number] = field(default_factory=dict)
    quality_at_zero_price: Mapping[str, Number] = field(default_factory=dict)
    unchanged: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolResult:
    """One way of asking; `skipped` says why it did not fit the set, and then there are no parts."""

    name: str
    title: str
    parts: tuple[PartResult, ...] = ()
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """Everything about one set of outcomes.

    zero, oracle : AIQ of the zero router and of the oracle swept over the dial
    zero_other : further figures of the zero router by the name of the metric, as `PolicyResult.other`
    best_single : the endpoint that was best on train; "" where seeds disagree
    zero_line, oracle_line : their hulls; singles : endpoints; points : random and other points without a curve
    tasks_at : at which setting of the dial the tasks are compared, for the reader
    priced : False where no cost is recorded and every call is taken to cost the same
    notes : what was dropped or filled, one sentence each
    """

    name: str
    queries: int
    tasks_count: int
    endpoints: tuple[str, ...]
    priced: bool
    zero: Number
    oracle: Number
    zero_other: Mapping[str, Number] = field(default_factory=dict)
    best_single: str = ""
    zero_line: Line
    oracle_line: Line
    singles: tuple[Point, ...]
    points: tuple[Point, ...] = ()
    policies: tuple[PolicyResult, ...]
    tasks: tuple[TaskResult, ...] = ()
    tasks_at: str = "where price plays no part"
    protocols: tuple[ProtocolResult, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """One run of `evaluate`.

    command : what was typed, to repeat it; versions : of whatever the figures depend on, by name
    """

    sets: tuple[SetResult, ...]
    seeds: tuple[int, ...]
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps(…, allow_nan=False)`; what is not finite becomes null."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: Any) -> EvaluationResult:
        """What `to_json` gave. Raises pydantic's ValidationError (a ValueError) for anything else."""
        found = TypeAdapter(cls).validate_python(data)
        if found.schema != SCHEMA:
            raise ValueError(f"results of schema {found.schema}; this version reads {SCHEMA}")
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(own) for own in value]
    return value
