"""The ways of asking whether a policy learned anything, each as: what may be learned, in which order, and the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Bools, Floats, Ints, Query
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.perturb import PERTURBATIONS
from router_gateway.evaluation.prepared import Prepared
from router_gateway.evaluation.replay import query_of
from router_gateway.evaluation.splits import endpoints_apart, hash_order, partition, task_groups

TRAIN_SHARE = 0.7
POOL_SHARES = (0.6, 0.1, 0.3)
"""Of prompts, in the dynamic pool: to learn from, to label for the endpoints that arrive, to test."""
PROBES = (10, 20, 40, 80, 192)
PROBE_TEST_MAX = 500
"""Bound on the test prompts of one probes curve: it is walked once for every number of probes."""
AS_WRITTEN = "as written"
"""The part of `robustness` that nothing was done to."""
PERTURBED_MAX = 300
PERTURBED_SHARE = 0.3


class DoesNotFit(ValueError):
    """The set cannot be asked this way; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """One course of learning and one test.

    part : whose figures these are, as in "probes=40"; exams of one part are judged together
    stages : each bool (Q, E), the outcomes that may be learned: the first by `fit`, the rest by `partial_fit`
    test : int64, rows that are asked
    columns : int64, endpoints that may be chosen
    variant : the perturbation of the prompts, or none
    """

    part: str = ""
    stages: tuple[Bools, ...]
    test: Ints
    columns: Ints
    variant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Some rows of a set with their prompts changed.

    rows : int64 (n,); queries and float32 (n, d) embedding of the changed texts, in that order
    """

    rows: Ints
    queries: tuple[Query, ...]
    embedding: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A way of asking. `seeded` False: there is only one way to split, so one seed is enough."""

    name: str
    title: str
    exams: Callable[[Prepared, int], list[Exam]]
    seeded: bool = True


def pooled(prepared: Prepared, seed: int) -> list[Exam]:
    """Prompts 70 to 30 by hash, stratified by task; all endpoints."""
    train, test = partition(prepared.table, (TRAIN_SHARE, 1.0 - TRAIN_SHARE), seed=seed)
    return [Exam(stages=(cells(prepared.table, train),), test=asked(prepared.table, test), columns=_all(prepared))]


def tasks(prepared: Prepared, seed: int) -> list[Exam]:
    """Each task is asked of a policy that learned from all the others; the parts are judged together."""
    groups = task_groups(prepared.table)
    if len(groups) < 2:
        raise DoesNotFit("one task only")
    rows = np.arange(len(prepared))
    return [
        Exam(
            stages=(cells(prepared.table, np.setdiff1d(rows, held)),),
            test=asked(prepared.table, held),
            columns=_all(prepared),
        )
        for held in groups.values()
    ]


def dynamic(prepared: Prepared, seed: int) -> list[Exam]:
    """Endpoints that arrive after training, known by a tenth of the prompts alone; routing is among them only."""
    table = prepared.table
    if len(table.endpoints) < 4:
        raise DoesNotFit("fewer than four endpoints")
    learned, arriving = endpoints_apart(table.endpoints, seed=seed)
    train, labelled, test = partition(table, POOL_SHARES, seed=seed)
    stages = (cells(table, train, learned), cells(table, labelled, arriving))
    if not all(stage.any() for stage in stages):
        raise DoesNotFit("too few outcomes")
    return [Exam(stages=stages, test=asked(table, test, arriving), columns=arriving)]


def probes(prepared: Prepared, seed: int) -> list[Exam]:
    """One endpoint arrives with N labelled prompts, for several N and at last with all of train; the pool is whole."""
    table = prepared.table
    train, test = partition(table, (TRAIN_SHARE, 1.0 - TRAIN_SHARE), seed=seed)
    order = np.argsort(hash_order(table.endpoints, salt="probes"))
    newcomer = order[[seed % len(order)]]
    others = np.sort(np.setdiff1d(order, newcomer))
    known = train[np.isfinite(table.quality[train, newcomer[0]])]
    known = known[np.argsort(hash_order([table.prompts[i] for i in known], salt=f"probes {seed}"))]
    first = cells(table, train, others)
    numbers = [n for n in PROBES if n < len(known)]
    if not numbers or not first.any():
        raise DoesNotFit(f"fewer than {PROBES[0] + 1} outcomes of the arriving endpoint")
    rows = asked(table, test)
    rows = np.sort(rows[np.argsort(hash_order([table.prompts[i] for i in rows], salt="probed"))[:PROBE_TEST_MAX]])
    return [
        Exam(
            part=f"{n}" if n < len(known) else "all",
            stages=(first, cells(table, known[:n], newcomer)),
            test=rows,
            columns=_all(prepared),
        )
        for n in (*numbers, len(known))
    ]


def robustness(prepared: Prepared, seed: int) -> list[Exam]:
    """Some prompts, never learned from, as they are and perturbed."""
    test = perturbed_rows(prepared.table)
    learned = cells(prepared.table, np.setdiff1d(np.arange(len(prepared)), test))
    return [
        Exam(part=name or AS_WRITTEN, stages=(learned,), test=test, columns=_all(prepared), variant=name)
        for name in (None, *PERTURBATIONS)
    ]


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(name="pooled", title="70/30 by prompt, stratified by task", exams=pooled),
        Protocol(name="tasks", title="leave one task out", exams=tasks, seeded=False),
        Protocol(name="dynamic", title="endpoints that arrive later, known by a tenth of the prompts", exams=dynamic),
        Protocol(name="probes", title="one endpoint arrives, known by N prompts", exams=probes),
        Protocol(name="robustness", title="prompts perturbed", exams=robustness, seeded=False),
    )
}


def perturbed_rows(table: Benchmark) -> Ints:
    """The rows that `robustness` asks, ascending: chosen by their text, at most PERTURBED_MAX."""
    rows = asked(table, np.arange(len(table)))
    count = max(1, min(PERTURBED_MAX, int(PERTURBED_SHARE * len(rows))))
    return np.sort(rows[np.argsort(hash_order([table.prompts[i] for i in rows], salt="perturbed"))[:count]])


def perturbed_queries(prepared: Prepared, name: str) -> tuple[Query, ...]:
    """The queries of `perturbed_rows`, changed."""
    change = PERTURBATIONS[name]
    rows = perturbed_rows(prepared.table)
    return tuple(query_of(change(prepared.table.prompts[i]), prepared.queries[i].id) for i in rows)


def cells(table: Benchmark, rows: Ints, columns: Ints | None = None) -> Bools:
    """The observed outcomes of some rows and columns: bool (Q, E)."""
    chosen = np.zeros(table.quality.shape, dtype=bool)
    chosen[np.ix_(rows, np.arange(len(table.endpoints)) if columns is None else columns)] = True
    return np.asarray(chosen & np.isfinite(table.quality))


def _all(prepared: Prepared) -> Ints:
    return np.arange(len(prepared.endpoints))


def asked(table: Benchmark, rows: Ints, columns: Ints | None = None) -> Ints:
    """The rows that can be judged: those with every outcome, or, where these are under half, those with two."""
    quality = table.quality[rows] if columns is None else table.quality[np.ix_(rows, columns)]
    known = np.isfinite(quality).sum(axis=1)
    whole = known == quality.shape[1]
    kept = rows[whole] if whole.mean() >= 0.5 else rows[known >= min(2, quality.shape[1])]
    if not len(kept):
        raise DoesNotFit("no query to test has outcomes of two endpoints")
    return np.asarray(kept)
