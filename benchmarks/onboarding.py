"""`make onboarding`: how many labelled prompts a new endpoint needs before routing uses it well.

On mmlu_pro, thirty-one endpoints of equal cost: each seed is one split of the protocol `probes` and another endpoint
that arrives. A policy learns from the others, is then shown N outcomes of the newcomer by `partial_fit`, and routes the
test prompts in the whole pool. N goes from none at all to all training prompts. `factors` may also choose its probes
(`Factors.informative`); every other row is given the protocol's random ones.

Writes docs/results/onboarding.json. Intervals are 95 % bootstrap intervals over newcomers.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway import registry
from router_gateway.core.errors import GatewayError
from router_gateway.core.types import Bools, Floats, Ints
from router_gateway.evaluation.backends import run_all
from router_gateway.evaluation.bootstrap import interval, resampled_means
from router_gateway.evaluation.calibration import brier
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.judging import as_json
from router_gateway.evaluation.metrics import oracle
from router_gateway.evaluation.over_seeds import mean, sd
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.protocols import PROTOCOLS, Exam, cells
from router_gateway.evaluation.sitting import ask, dials_of, experience, ground_of, taught

POLICIES = ("knn", "linear", "clusters", "lexical", "forest", "factors", "stack", "profile")
CHOSEN = "factors, chosen probes"
ALL = "all"
KEPT_AT, LOST_AT = "192", "40"
_SOURCE = "mmlu_pro"
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One policy and one newcomer."""

    prepared: Prepared
    policy: str
    seed: int


def sit_one(job: Job) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by row and number of probes: of the policy and, where it can choose its probes, of that, too."""
    exams = nothing_known(PROTOCOLS["probes"].exams(job.prepared, job.seed))
    policy = taught(registry.create(job.policy, {}), job.prepared, exams[0].stages)
    found = {job.policy: {exam.part: _figures(policy, job, exam, exams) for exam in exams}}
    if hasattr(policy, "informative"):
        known = np.flatnonzero(exams[-1].stages[1].any(axis=1))
        numbered = [exam for exam in exams if exam.part not in ("0", ALL)]
        most = max(int(exam.part) for exam in numbered)
        order = known[policy.informative(job.prepared.batch(known), most)]
        chosen = [with_probes(job.prepared, exam, order[: int(exam.part)], newcomer_of(exams)) for exam in numbered]
        own = found[job.policy]
        asked = {exam.part: _figures(policy, job, exam, exams) for exam in chosen}
        found[CHOSEN] = {"0": own["0"], **asked, ALL: own[ALL]}
    return found


def nothing_known(exams: Sequence[Exam]) -> list[Exam]:
    """The protocol's exams, and before them one in which the newcomer has not been asked at all."""
    return [replace(exams[0], part="0", stages=exams[0].stages[:1]), *exams]


def newcomer_of(exams: Sequence[Exam]) -> int:
    """The column of which the second stage has outcomes."""
    [column] = np.flatnonzero(exams[-1].stages[1].any(axis=0))
    return int(column)


def with_probes(prepared: Prepared, exam: Exam, rows: Ints, newcomer: int) -> Exam:
    """The exam with other probes."""
    probes: Bools = cells(prepared.table, rows, np.array([newcomer]))
    return replace(exam, stages=(exam.stages[0], probes))


def figures(quality: Floats, estimate: Floats, picked: Ints, without: Ints, newcomer: int) -> dict[str, float]:
    """Of one test: what routing brings, and how well the newcomer is judged.

    quality, estimate : (Q, E), outcomes, NaN where unknown, and the policy's
    picked, without : (Q,), columns chosen in the whole pool and in the pool before

    `regret` is the mean quality short of a judge who takes the newcomer just where its answer is the better one of
    the two; `sent` the share of prompts it gets.
    """
    rows = np.arange(len(quality))
    own = quality[:, newcomer].astype(np.float64)
    got, before = (quality[rows, columns].astype(np.float64) for columns in (picked, without))
    return {
        "quality": float(got.mean()),
        "gain_over_without": float((got - before).mean()),
        "regret": float((np.fmax(own, before) - got).mean()),
        "brier": brier(estimate[:, [newcomer]], quality[:, [newcomer]]),
        "sent": float((picked == newcomer).mean()),
        "newcomer_quality": float(np.nanmean(own)),
        "oracle_quality": float(quality[rows, oracle(quality, np.ones_like(quality))].mean(dtype=np.float64)),
    }


def summed(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """One row over newcomers: means, deviations and intervals by number of probes, and the two headlines."""
    parts: dict[str, Any] = {}
    for part in dict.fromkeys(part for one in found for part in one):
        own = [one[part] for one in found if part in one]
        parts[part] = {name: told([one[name] for one in own]) for name in own[0]}
    both = [one for one in found if {"0", KEPT_AT, LOST_AT, ALL} <= set(one)]
    kept = [one[KEPT_AT]["quality"] / one[ALL]["quality"] for one in both]
    lost = [100.0 * (one[ALL]["quality"] - one[LOST_AT]["quality"]) for one in both]
    return {
        f"quality_kept_at_{KEPT_AT}": told(kept),
        f"points_lost_at_{LOST_AT}": told(lost),
        f"estimates_kept_at_{KEPT_AT}": learned_share([[one[n]["brier"] for n in ("0", KEPT_AT, ALL)] for one in both]),
        "probes": parts,
    }


def learned_share(errors: Sequence[Sequence[float]]) -> dict[str, float]:
    """Of the fall of the error from no probes to all of them, the share that some bring.

    errors : of each newcomer with none, some and all; the share is that of the sums, as one may have no fall
    """
    if not errors:
        return {"mean": math.nan, "low": math.nan, "high": math.nan}
    table = np.array(errors)
    share, drawn = (
        (means[:, 0] - means[:, 1]) / (means[:, 0] - means[:, 2])
        for means in (table.mean(axis=0, keepdims=True), resampled_means(table, resamples=_RESAMPLES))
    )
    low, high = interval(drawn) if len(table) > 1 else (math.nan, math.nan)
    return {"mean": float(share[0]), "low": low, "high": high}


def told(values: Sequence[float]) -> dict[str, float]:
    """Mean, deviation and 95 % bootstrap interval of the mean; an interval needs two values."""
    low, high = math.nan, math.nan
    if len(values) > 1:
        low, high = interval(resampled_means(np.array(values)[:, None], resamples=_RESAMPLES))
    return {"mean": mean(values), "sd": sd(values), "low": low, "high": high}


def _figures(policy: Any, job: Job, exam: Exam, exams: Sequence[Exam]) -> dict[str, float]:
    """Of the policy after the exam's second stage; the policy given stays as it is."""
    prepared, newcomer = job.prepared, newcomer_of(exams)
    for stage in exam.stages[1:]:
        policy = copy.deepcopy(policy).partial_fit(experience(prepared, stage))
    swept = ask(policy, job.policy, prepared, exam, dials_of(prepared, [exam]), {})
    ground = ground_of(prepared, [exam], prepared.table)
    others = swept.seen.eligible.copy()
    others[:, newcomer] = False
    alone = replace(swept, seen=replace(swept.seen, eligible=others))
    picked, without = (one.expected(ground.quality, ground.cost_usd).picks[0] for one in (swept, alone))
    return figures(ground.quality, swept.seen.scores.quality, picked, without, newcomer)


def _table(rows: Mapping[str, Any]) -> str:
    """For the eye, in text; the file has everything."""
    lines = [f"{'':24}{'kept at ' + KEPT_AT:>26}{'points lost at ' + LOST_AT:>28}"]
    for label, row in rows.items():
        kept, lost = row[f"quality_kept_at_{KEPT_AT}"], row[f"points_lost_at_{LOST_AT}"]
        own = f"{kept['mean']:.2%} [{kept['low']:.2%}, {kept['high']:.2%}]"
        lines.append(f"{label:24}{own:>26}{lost['mean']:>12.2f} [{lost['low']:.2f}, {lost['high']:.2f}]")
        share = row[f"estimates_kept_at_{KEPT_AT}"]
        lines[-1] += f"   estimates {share['mean']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"
    for name in ("quality", "brier", "regret"):
        lines += ["", name]
        for label, row in rows.items():
            by_part = "  ".join(f"{part} {own[name]['mean']:.4f}" for part, own in row["probes"].items())
            lines.append(f"{label:24}{by_part}")
    return "\n".join(lines)


def main() -> int:
    arguments = _arguments()
    if not arguments.data.is_file():
        print(f"{arguments.data} is not there; name a table in the common schema with ARGS='--data FILE'")
        return 2
    started = time.perf_counter()
    [(name, table)] = load_tables(str(arguments.data))
    prepared = prepare(name, table, encoder=Encoder(kind="onnx"), cache=arguments.cache, workers=arguments.workers)
    prepared = replace(prepared, answers=None)  # large, and no policy here reads them
    seeds = range(arguments.seeds)
    slow_first = sorted(arguments.policies, key=lambda policy: policy != "stack")
    jobs = [Job(prepared=prepared, policy=policy, seed=seed) for policy in slow_first for seed in seeds]
    found: dict[str, dict[int, Any]] = {}
    for at, rows in run_all(sit_one, jobs, workers=arguments.workers):
        for label, parts in rows.items():
            found.setdefault(label, {})[jobs[at].seed] = parts
        print(f"{jobs[at].policy}: seed {jobs[at].seed}", file=sys.stderr, flush=True)
    newcomers = [newcomer_of(PROTOCOLS["probes"].exams(prepared, seed)) for seed in seeds]
    order = [label for label in (*arguments.policies, CHOSEN) if label in found]
    told_rows = {label: summed([found[label][seed] for seed in seeds]) for label in order}
    packages = ("router-gateway", "onnxruntime", "numpy", "scipy")
    result = {
        "command": "make onboarding",
        "set": name,
        "protocol": "probes",
        "seeds": arguments.seeds,
        "newcomers": [prepared.table.endpoints[column] for column in newcomers],
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
        "seconds": round(time.perf_counter() - started),
        "policies": told_rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(as_json(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(_table(told_rows))
    print(f"{result['seconds']} s")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(f"../shared/data/{_SOURCE}.parquet"), help="outcomes")
    parser.add_argument("--seeds", type=int, default=10, help="splits, and endpoints that arrive")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--out", type=Path, default=_RESULTS / "onboarding.json")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of cached vectors")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
