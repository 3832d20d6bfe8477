"""Policies that may also choose a cascade, beside the same policies without, on the same splits and the same bounds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from router_gateway.evaluation.backends import Backend, run_sharing
from router_gateway.evaluation.cascades import Cascade, chosen, with_cascades
from router_gateway.evaluation.judging import Bounds, plain
from router_gateway.evaluation.metrics import aiq_of_hulls, endpoint_points, gap_closed, hull
from router_gateway.evaluation.prepared import Prepared
from router_gateway.evaluation.protocols import Exam, cells, pooled
from router_gateway.evaluation.sitting import Spec, ask, dials_of, ground_of, taught

if TYPE_CHECKING:
    from rich.table import Table

COINS = "coin flips"
"""The row of no policy at all: the hull of the single endpoints, and with the cascades among them."""
NOTE = (
    "With cascades the actions see answers before they decide, which no policy alone does, and the judge is "
    "simulated from the outcomes themselves. Zero router and oracle are those of the endpoints without cascades."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """All policies on one seed."""

    specs: tuple[Spec, ...]
    seed: int
    count: int
    error: float


def cascade_figures(
    sets: Mapping[str, Prepared],
    specs: Sequence[Spec],
    *,
    seeds: Sequence[int],
    count: int,
    error: float,
    backend: Backend = "processes",
    workers: int = 1,
    scheduler: str | None = None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """`{set: {"zero", "oracle", "judge_error", "offered", "rows": {policy: {…}}}}` under the pooled split, JSON values.

    A row has AIQ and gap closed without cascades (`aiq`, `gap_closed`) and with them (`…_with`), means over seeds,
    and the mean and standard deviation over seeds of the difference of AIQ. `offered` counts the seeds in which
    each cascade was among the `count`, which the train outcomes of the seed decide.
    """
    jobs = [(name, _Job(specs=tuple(specs), seed=seed, count=count, error=error)) for name in sets for seed in seeds]
    done = dict(run_sharing(_sit, jobs, sets, backend=backend, workers=workers, scheduler=scheduler))
    return {
        name: plain(_summary([done[at] for at, (own, _) in enumerate(jobs) if own == name], error)) for name in sets
    }


def tables(file: Path) -> list[Table]:
    """One table per set of a `cascades.json`, for a terminal."""
    return [table(name, figures) for name, figures in json.loads(file.read_text(encoding="utf-8")).items()]


def table(name: str, figures: Mapping[str, Any]) -> Table:
    """One set's rows, the best with cascades first."""
    from rich.table import Table

    judge = "perfect judge" if figures["judge_error"] == 0 else f"judge wrong in {figures['judge_error']:.0%}"
    drawn = Table(title=f"{name}: cascades offered, {judge}", caption=NOTE)
    drawn.add_column("", no_wrap=True)
    for heading in ("AIQ", "gap closed", "AIQ with cascades", "gap closed", "difference ± sd"):
        drawn.add_column(heading, justify="right")
    for label, row in sorted(figures["rows"].items(), key=lambda item: -(item[1]["aiq_with"] or 0.0)):
        if row["difference"] is None:
            drawn.add_row(label, *["–"] * 5)
            continue
        drawn.add_row(
            label,
            f"{row['aiq']:.4f}",
            _percent(row["gap_closed"]),
            f"{row['aiq_with']:.4f}",
            _percent(row["gap_closed_with"]),
            f"{row['difference']:+.4f} ± {row['difference_sd']:.4f}",
        )
    return drawn


def _sit(job: _Job, prepared: Prepared) -> dict[str, Any]:
    """One seed: bounds, what was offered, and AIQ without and with cascades by policy."""
    [exam] = pooled(prepared, job.seed)
    cascades = chosen(prepared.table, exam.stages[0], count=job.count, error=job.error)
    ground = ground_of(prepared, [exam], prepared.table)
    bounds = Bounds.of(ground)
    wider, offered = _offered(prepared, exam, cascades)
    at = np.ix_(offered.test, offered.columns)
    coins = hull(endpoint_points(wider.table.quality[at], wider.table.cost_usd[at]))
    rows = {COINS: (bounds.zero_aiq, aiq_of_hulls(coins, bounds.zero))}
    for spec in job.specs:
        rows[spec.label] = (_aiq(spec, prepared, exam, bounds), _aiq(spec, wider, offered, bounds))
    return {
        "zero": bounds.zero_aiq,
        "oracle": bounds.oracle_aiq,
        "offered": [cascade.name for cascade in cascades],
        "rows": rows,
    }


def _offered(prepared: Prepared, exam: Exam, cascades: Sequence[Cascade]) -> tuple[Prepared, Exam]:
    """The set and the exam with cascades among what can be learned and chosen; the same rows on either side."""
    wider = with_cascades(prepared.table, cascades)
    learnable = cells(wider, np.flatnonzero(exam.stages[0].any(axis=1)))
    answers = prepared.answers
    if answers is not None:  # a cascade has none of its own: zeros say so
        answers = np.pad(answers, ((0, 0), (0, len(cascades)), (0, 0)))
    first = [prepared.endpoints[wider.endpoints.index(cascade.order[0])] for cascade in cascades]
    named = [replace(own, name=c.name, model=c.name) for own, c in zip(first, cascades, strict=True)]
    pool = (*prepared.endpoints, *named)
    return (
        replace(prepared, table=wider, endpoints=pool, answers=answers),
        replace(exam, stages=(learnable,), columns=np.arange(len(pool))),
    )


def _aiq(spec: Spec, prepared: Prepared, exam: Exam, bounds: Bounds) -> float:
    """Of the policy taught and asked as everywhere, told mean costs; NaN where it raises.

    Over the range of costs of the endpoints without cascades.
    """
    try:
        policy = taught(spec.build(), prepared, exam.stages)
        swept = ask(policy, spec.label, prepared, exam, dials_of(prepared, [exam]), {})
    except Exception:  # somebody else's policy may fail in any way; the main table says how
        return math.nan
    at = np.ix_(exam.test, exam.columns)
    expected = swept.expected(prepared.table.quality[at], prepared.table.cost_usd[at])
    return aiq_of_hulls(hull(expected.curve), bounds.zero)


def _summary(seeds: Sequence[Mapping[str, Any]], error: float) -> dict[str, Any]:
    zero, oracle = (float(np.mean([seed[key] for seed in seeds])) for key in ("zero", "oracle"))
    rows = {}
    for label in seeds[0]["rows"]:
        plainly, wider = np.array([seed["rows"][label] for seed in seeds]).T
        gaps = [
            [gap_closed(aiq, seed["zero"], seed["oracle"]) for aiq, seed in zip(own, seeds, strict=True)]
            for own in (plainly, wider)
        ]
        rows[label] = {
            "aiq": plainly.mean(),
            "aiq_with": wider.mean(),
            "gap_closed": np.mean(gaps[0]),
            "gap_closed_with": np.mean(gaps[1]),
            "difference": (wider - plainly).mean(),
            "difference_sd": (wider - plainly).std(ddof=min(1, len(seeds) - 1)),
        }
    offered = Counter(name for seed in seeds for name in seed["offered"])
    return {
        "zero": zero,
        "oracle": oracle,
        "judge_error": error,
        "offered": dict(offered.most_common()),
        "rows": rows,
        "note": NOTE,
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
