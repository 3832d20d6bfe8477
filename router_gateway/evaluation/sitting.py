"""Policies sit the exams of one protocol and seed: learn, be asked, be judged."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from router_gateway import registry
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import MadeOfPolicies, Policy
from router_gateway.core.types import Bools, Floats, Ints, NamedPolicy
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.embeddings import repeating
from router_gateway.evaluation.fitting import with_texts
from router_gateway.evaluation.judging import Bounds, Ground, calibration, describe, gap_interval, judge, plain
from router_gateway.evaluation.papers import at_matched_cost, between_two, over_references
from router_gateway.evaluation.prepared import Prepared
from router_gateway.evaluation.pricing import CostKind, cost_model
from router_gateway.evaluation.protocols import AS_WRITTEN, PROTOCOLS, Exam, Variant
from router_gateway.evaluation.references import TaskTable, always, best_column, cheapest_column, uniform
from router_gateway.evaluation.splits import Sealed
from router_gateway.evaluation.sweep import Expected, MeanCost, Sweep, dial_grid, score_times_ms, sweep

REFERENCES = ("random", "cheapest", "best_single", "task_oracle")
"""Judged like policies; the zero router and the oracle are in every record besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A policy to be tried: registered `name`, parameters, costs as it is told, and the label of its figures."""

    name: str
    label: str
    params: Mapping[str, Any] = field(default_factory=dict)
    cost: CostKind = "mean"

    def build(self) -> Policy:
        """Unfitted. Raises UnknownPolicy, BadParameters."""
        return registry.create(self.name, self.params)


def sit(
    spec: Spec,
    prepared: Prepared,
    *,
    protocol: str,
    seed: int,
    variants: Mapping[str, Variant],
    resamples: int = 0,
) -> dict[str, Any]:
    """Figures by part: `{"parts": {part: figures}, "fit_s": …}`, JSON values throughout.

    variants : of the set's `perturbed_rows`, for the protocol `robustness`
    resamples : of the bootstrap over queries that puts an interval on the gap closed; 0 for none, and for none of
        the paired tests either, which belong to one test like the bootstrap
    Raises DoesNotFit.
    """
    [record] = sit_together([spec], prepared, protocol=protocol, seed=seed, variants=variants, resamples=resamples)
    return record


def sit_together(
    specs: Sequence[Spec],
    prepared: Prepared,
    *,
    protocol: str,
    seed: int,
    variants: Mapping[str, Variant],
    resamples: int = 0,
) -> list[dict[str, Any]]:
    """What `sit` says of each. A policy that one before it is made of is not learned again: its `fit_s` is 0."""
    exams = PROTOCOLS[protocol].exams(prepared, seed)
    worth_usd = dials_of(prepared, exams)
    courses = [_Course(spec.build(), prepared) for spec in specs]
    seen: list[list[tuple[Exam, Sweep]]] = [[] for _ in specs]
    records: list[dict[str, Any]] = [{} for _ in specs]
    for exam in exams:
        known: list[tuple[str, Mapping[str, Any], Policy]] = []
        for spec, course, own, record in zip(specs, courses, seen, records, strict=True):
            given = [part for name, params, part in known if (name, params) == (spec.name, spec.params)]
            policy = given[0] if given else course.after(exam.stages)
            if isinstance(policy, MadeOfPolicies):
                known += [(name, params, policy.parts()[name]) for name, params in policy.made_of().items()]
            if protocol == "pooled":
                p50, p99 = np.quantile(score_times_ms(policy, prepared.batch(exam.test)), [0.5, 0.99])
                record |= {"score_ms_p50": p50, "score_ms_p99": p99}
            own.append((exam, ask(policy, spec.label, prepared, exam, worth_usd, variants, cost=spec.cost)))
    for spec, course, own, record in zip(specs, courses, seen, records, strict=True):
        parts = _judged(spec, prepared, own, worth_usd, protocol=protocol, seed=seed, resamples=resamples)
        record |= {"parts": parts, "fit_s": course.fit_s, "params": dict(spec.params)}
    return [plain(record) for record in records]


def _judged(
    spec: Spec,
    prepared: Prepared,
    seen: Sequence[tuple[Exam, Sweep]],
    worth_usd: Floats,
    *,
    protocol: str,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Figures by part, with the outcomes of the test, which are opened here."""
    parts: dict[str, Any] = {}
    picks: dict[str, Ints] = {}
    sealed = Sealed(prepared.table)
    for part, group in _by_part(seen):
        outcomes = sealed.open(policy=f"{spec.label} {part}", seed=seed)
        expected = _joined(group, outcomes)
        ground = ground_of(prepared, [exam for exam, _ in group], outcomes)
        parts[part] = judge(expected, ground, Bounds.of(ground), worth_usd)
        picks[part] = expected.picks
        if protocol == "pooled":
            scores = group[0][1].seen.scores
            parts[part]["calibration"] = calibration(scores.quality, scores.stddev, ground.quality)
            parts[part] |= over_references(expected, ground) | between_two(scores.quality, ground)
        if resamples:
            parts[part] |= gap_interval(expected, ground, resamples=resamples, seed=seed)
            parts[part]["matched"] = at_matched_cost(expected, ground)
    if AS_WRITTEN in parts:
        for part, figures in parts.items():
            figures["unchanged"] = float((picks[part] == picks[AS_WRITTEN]).mean())
    return parts


def sit_references(prepared: Prepared, *, protocol: str, seed: int) -> dict[str, Any]:
    """The same for REFERENCES: `{"references": {name: {part: figures}}, "tests": {part: description}}`."""
    exams = [exam for exam in PROTOCOLS[protocol].exams(prepared, seed) if exam.variant is None]
    worth_usd = dials_of(prepared, exams)
    names = [f"{d}/{t}" for d, t in zip(prepared.table.datasets, prepared.table.tasks, strict=True)]
    course = _Course(TaskTable(task_of={q.text: n for q, n in zip(prepared.queries, names, strict=True)}), prepared)
    seen = [(exam, ask(course.after(exam.stages), "task_oracle", prepared, exam, worth_usd, {})) for exam in exams]
    figures: dict[str, dict[str, Any]] = {name: {} for name in REFERENCES}
    tests: dict[str, Any] = {}
    no_dial = np.array([np.inf])
    for part, group in _by_part(seen):
        ground = ground_of(prepared, [exam for exam, _ in group], prepared.table)
        bounds = Bounds.of(ground)
        tests[part] = describe(ground, bounds)
        rows = {
            "random": (uniform(ground.quality, ground.cost_usd), no_dial),
            "cheapest": (ground.cheapest, no_dial),
            "best_single": (ground.best_single, no_dial),
            "task_oracle": (_joined(group, prepared.table), worth_usd),
        }
        for name, (expected, dials) in rows.items():
            figures[name][part] = judge(expected, ground, bounds, dials)
            if protocol == "pooled":
                figures[name][part] |= over_references(expected, ground)
    return {"references": figures, "tests": tests}


def ask(
    policy: Policy,
    label: str,
    prepared: Prepared,
    exam: Exam,
    worth_usd: Floats,
    variants: Mapping[str, Variant],
    *,
    cost: CostKind = "mean",
) -> Sweep:
    """The policy's answers to one exam, before the outcomes are looked at."""
    queries = prepared.asked(exam.test, exam.columns)
    embedding = prepared.embedding[exam.test]
    if exam.variant is not None:
        changed = variants[exam.variant]
        queries = [
            replace(query, text=new.text, tokens_input=new.tokens_input)
            for query, new in zip(queries, changed.queries, strict=True)
        ]
        embedding = changed.embedding
    return sweep(
        NamedPolicy(name=label, version=0, policy=policy),
        prepared,
        queries,
        embedding,
        columns=exam.columns,
        cost=cost_model(cost, prepared, np.logical_or.reduce(exam.stages), exam.columns),
        worth_usd=worth_usd,
    )


def dials_of(prepared: Prepared, exams: Sequence[Exam]) -> Floats:
    """The dial's settings for a pool: the same for every seed, so that curves can be averaged.

    They come from all recorded costs; where a curve is sampled decides nothing.
    """
    return dial_grid(MeanCost.of(prepared.table.cost_usd[:, exams[0].columns]).mean_usd)


def ground_of(prepared: Prepared, exams: Sequence[Exam], outcomes: Benchmark) -> Ground:
    """The outcomes of the exams of one part, and the two single endpoints that train would have picked for each."""
    table = prepared.table
    best, cheapest = [], []
    for exam in exams:
        learnable = np.logical_or.reduce(exam.stages)
        quality = np.where(learnable, table.quality, np.nan)
        cost = np.where(learnable, table.cost_usd, np.nan)
        own = _cells(outcomes, exam)
        best.append(always(best_column(quality, cost, exam.columns), exam.columns, *own))
        cheapest.append(always(cheapest_column(cost, exam.columns), exam.columns, *own))
    rows = np.concatenate([exam.test for exam in exams])
    columns = exams[0].columns
    return Ground(
        quality=outcomes.quality[np.ix_(rows, columns)],
        cost_usd=outcomes.cost_usd[np.ix_(rows, columns)],
        endpoints=tuple(table.endpoints[c] for c in columns),
        tasks=tuple(table.tasks[i] for i in rows),
        columns=columns,
        best_single=Expected.joined(best),
        cheapest=Expected.joined(cheapest),
    )


def experience(prepared: Prepared, learnable: Bools) -> Experience:
    """The outcomes of a stage, bool (Q, E), of the endpoints that have any in it."""
    rows, columns = np.flatnonzero(learnable.any(axis=1)), np.flatnonzero(learnable.any(axis=0))
    at = np.ix_(rows, columns)
    quality = np.where(learnable[at], prepared.table.quality[at], np.nan)
    names = [prepared.table.endpoints[c] for c in columns]
    answers = None if prepared.answers is None else prepared.answers[at]
    return Experience.from_table(prepared.batch(rows), names, quality, prepared.table.cost_usd[at], answers)


def taught(policy: Policy, prepared: Prepared, stages: Sequence[Bools]) -> Policy:
    """The policy after `fit` on the first stage and `partial_fit` on each later one."""
    policy = with_texts(policy, lambda: repeating(prepared.encoder)).fit(experience(prepared, stages[0]))
    for stage in stages[1:]:
        policy = policy.partial_fit(experience(prepared, stage))
    return policy


class _Course:
    """Fitted policies by their stages; a first stage that exams share is learned once."""

    def __init__(self, unfitted: Policy, prepared: Prepared) -> None:
        self._unfitted, self._prepared = unfitted, prepared
        self._first: tuple[Bools, Policy] | None = None
        self.fit_s = 0.0

    def after(self, stages: Sequence[Bools]) -> Policy:
        started = time.perf_counter()
        if self._first is None or self._first[0] is not stages[0]:
            self._first = stages[0], taught(copy.deepcopy(self._unfitted), self._prepared, stages[:1])
        policy = self._first[1]
        for stage in stages[1:]:
            policy = copy.deepcopy(policy).partial_fit(experience(self._prepared, stage))
        self.fit_s += time.perf_counter() - started
        return policy


def _cells(outcomes: Benchmark, exam: Exam) -> tuple[Floats, Floats]:
    at = np.ix_(exam.test, exam.columns)
    return outcomes.quality[at], outcomes.cost_usd[at]


def _joined(group: Sequence[tuple[Exam, Sweep]], outcomes: Benchmark) -> Expected:
    return Expected.joined([swept.expected(*_cells(outcomes, exam)) for exam, swept in group])


def _by_part(seen: Sequence[tuple[Exam, Sweep]]) -> Iterator[tuple[str, list[tuple[Exam, Sweep]]]]:
    for part in dict.fromkeys(exam.part for exam, _ in seen):
        yield part, [item for item in seen if item[0].part == part]
