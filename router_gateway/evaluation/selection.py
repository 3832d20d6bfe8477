"""Parameters chosen inside train: cross-validation by prompt, and a small grid for each policy that has one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from router_gateway.core.types import Bools
from router_gateway.evaluation.judging import Bounds
from router_gateway.evaluation.metrics import aiq_of_hulls, hull
from router_gateway.evaluation.prepared import Prepared
from router_gateway.evaluation.protocols import DoesNotFit, Exam, asked
from router_gateway.evaluation.sitting import Spec, ask, dials_of, ground_of, taught
from router_gateway.evaluation.splits import hash_order

GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "knn": {"k": (40, 80, 160), "sharpness": (0.0, 7.0)},
    "linear": {"penalty": (10.0, 30.0, 100.0)},
    "clusters": {"clusters": (16, 32, 64)},
}
"""Tried for a policy whose parameters the caller has not set; any other keeps its defaults."""

FOLDS = 3
ROWS_MAX = 2_000
"""Train prompts that selection looks at: differences it could not see on these are not worth its time."""


def select(spec: Spec, prepared: Prepared, learnable: Bools, *, seed: int) -> Spec:
    """`spec` with the parameters of its grid that have the best mean AIQ over FOLDS folds of `learnable`.

    learnable : bool (Q, E), the outcomes of train; no other has a say (where the dial is sampled decides nothing)
    Of equals the first in the grid. A policy with parameters set, or without a grid, comes back as it is.
    """
    grid = GRIDS.get(spec.name)
    if not grid or spec.params:
        return spec
    exams = _folds(prepared, learnable, seed)
    if not exams:
        return spec
    candidates = [
        replace(spec, params=dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())
    ]
    return max(candidates, key=lambda candidate: _mean_aiq(candidate, prepared, exams))


def _folds(prepared: Prepared, learnable: Bools, seed: int) -> list[Exam]:
    rows = np.flatnonzero(learnable.any(axis=1))
    rank = hash_order([prepared.table.prompts[i] for i in rows], salt=f"folds {seed}")
    rows = rows[np.argsort(rank)][:ROWS_MAX]
    columns = np.flatnonzero(learnable.any(axis=0))
    exams = []
    for fold in range(FOLDS):
        held = np.zeros(len(prepared), dtype=bool)
        held[rows[fold::FOLDS]] = True
        kept = np.zeros_like(held)
        kept[np.setdiff1d(rows, rows[fold::FOLDS])] = True
        stage = learnable & kept[:, None]
        try:
            test = asked(prepared.table, np.flatnonzero(held & learnable.all(axis=1)), columns)
        except DoesNotFit:
            continue
        if stage.any():
            exams.append(Exam(stages=(stage,), test=test, columns=columns))
    return exams


def _mean_aiq(spec: Spec, prepared: Prepared, exams: Sequence[Exam]) -> float:
    values = []
    for exam in exams:
        worth_usd = dials_of(prepared, [exam])
        policy = taught(spec.build(), prepared, exam.stages)
        ground = ground_of(prepared, [exam], prepared.table)
        expected = ask(policy, spec.name, prepared, exam, worth_usd, {}, cost=spec.cost).expected(
            ground.quality, ground.cost_usd
        )
        values.append(aiq_of_hulls(hull(expected.curve), Bounds.of(ground).zero))
    return float(np.mean(values))
