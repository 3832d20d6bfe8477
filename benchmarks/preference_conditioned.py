"""`make preference-conditioned`: whether a router trained for all prices beats one that subtracts them.

An experiment, not a gateway policy: this router sees prices, which a policy never does. `preference_router.py` says
how it is trained, in three stages; `pretrained` and `tuned` are routers after stages 2 and 3, and those named `_log`
drew the log of the preference w evenly, not w.

Judged on the splits, with the bounds and by the integral of `router-gateway evaluate`, on the same phat and the same
mean costs of train throughout: `rule` is the gateway's, argmax phat - cost / worth, at every dial of an evaluation;
`target` is what stage 2 imitates, at the dials with w <= 2 that the learned routers are asked for.
Settings were chosen inside the split `train` of cascades and the validation part of paretobandit.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from preference_router import (
    PREFERENCE_MAX,
    SCALE,
    Asked,
    choose,
    imitated,
    item_response,
    log_uniform,
    of_unseen,
    pretrain,
    tune,
    uniform,
    unit_costs,
)
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student
from torch import Tensor

from router_gateway.core.errors import DataError, GatewayError
from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.judging import Bounds, judge
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.protocols import Exam, pooled
from router_gateway.evaluation.sitting import dials_of, ground_of
from router_gateway.evaluation.sweep import Expected, MeanCost

ROUTERS = ("rule", "target", "pretrained", "tuned", "pretrained_log", "tuned_log")
PAIRS = (
    ("tuned", "rule"),
    ("tuned", "target"),
    ("tuned", "pretrained"),
    ("tuned_log", "rule"),
    ("tuned_log", "target"),
    ("tuned_log", "pretrained_log"),
)
FIGURES = ("aiq_over_zero", "gap_closed")
SEEDS = 10
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "preference_conditioned.json"


def compare(prepared: Prepared, seed: int) -> dict[str, dict[str, float]]:
    """Figures of each of ROUTERS on one split."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    [exam] = pooled(prepared, seed)
    [learnable] = exam.stages
    train = np.flatnonzero(learnable.any(axis=1))
    table = prepared.table
    embedding = torch.from_numpy(prepared.embedding * np.float32(SCALE))
    quality = torch.from_numpy(np.where(learnable, table.quality, np.nan)[train].astype(np.float32))
    mean_usd = MeanCost.of(np.where(learnable, table.cost_usd, np.nan)).mean_usd
    cost = torch.from_numpy(unit_costs(mean_usd).astype(np.float32))

    model = item_response(embedding[train], quality)
    unseen = of_unseen(embedding[train], quality)
    identity = model.mean.detach()
    learned_from = Asked(embedding=embedding[train], phat=unseen, identity=identity, cost=cost)
    phat = model.estimate(embedding[exam.test])
    asked = Asked(embedding=embedding[exam.test], phat=phat, identity=identity, cost=cost)

    worth_usd = dials_of(prepared, [exam])
    preferences = np.ptp(mean_usd) / worth_usd
    narrow = preferences[preferences <= PREFERENCE_MAX]
    picks = {
        "rule": _at(preferences, lambda w: (phat - w * cost).argmax(1)),
        "target": _at(narrow, lambda w: imitated(phat, cost, torch.full((len(phat),), w))),
    }
    for suffix, draw in (("", uniform), ("_log", log_uniform)):
        policy = pretrain(learned_from, draw)
        picks[f"pretrained{suffix}"] = choose(policy, asked, narrow)
        tune(policy, learned_from, quality, draw)
        picks[f"tuned{suffix}"] = choose(policy, asked, narrow)
    return _judged(prepared, exam, picks, worth_usd)


def summed(seeds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means and sample deviations over seeds, and paired differences with Student's 95 % interval."""
    found: dict[str, Any] = {"routers": {}, "paired": {}}
    for name in ROUTERS:
        found["routers"][name] = {f: _over([seed[name][f] for seed in seeds]) for f in seeds[0][name]}
    for one, other in PAIRS:
        found["paired"][f"{one} - {other}"] = {
            f: _over([seed[one][f] - seed[other][f] for seed in seeds], interval=True) for f in FIGURES
        }
    return found


def _over(values: list[float], *, interval: bool = False) -> dict[str, float | None]:
    count, mean = len(values), float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if count > 1 else None
    told: dict[str, float | None] = {"mean": mean, "sd": sd}
    if interval:
        half = None if sd is None else float(student.ppf(0.975, count - 1)) * sd / count**0.5
        told |= {"low": None if half is None else mean - half, "high": None if half is None else mean + half}
    return told


def _judged(prepared: Prepared, exam: Exam, picks: dict[str, Ints], worth_usd: Floats) -> dict[str, dict[str, float]]:
    table = prepared.table
    ground = ground_of(prepared, [exam], table)
    if not (np.isfinite(ground.quality) & np.isfinite(ground.cost_usd)).all():
        raise DataError([f"{prepared.name}: outcomes are missing in the test"], hint="this comparison needs them all")
    bounds, rows = Bounds.of(ground), np.arange(len(exam.test))
    found = {}
    for name, chosen in picks.items():
        expected = Expected(
            quality=ground.quality[rows, chosen].astype(np.float64),
            cost_usd=ground.cost_usd[rows, chosen].astype(np.float64),
            picks=chosen.astype(np.int16),
        )
        figures = judge(expected, ground, bounds, worth_usd[: len(chosen)])
        found[name] = {
            "aiq_over_zero": figures["aiq"] - bounds.zero_aiq,
            "gap_closed": figures["gap_closed"],
            "quality_at_zero_price": figures["quality_at_zero_price"],
            "endpoints_used": float(figures["endpoints_used"]),
        }
    return found


def _at(preferences: Floats, pick: Callable[[float], Tensor]) -> Ints:
    return np.stack([pick(float(w)).numpy() for w in preferences])


def main() -> int:
    arguments, console = _arguments(), Console()
    missing = [source for source in arguments.data if not Path(source.partition(":")[0]).is_file()]
    if missing:
        console.print(
            f"[red]{', '.join(missing)}: not there.[/red] Name tables of outcomes with ARGS='--data FILE ...'."
        )
        return 2
    started = time.perf_counter()
    sets = {}
    for source in arguments.data:
        [(name, table)] = load_tables(source)
        prepared = prepare(name, table, encoder=Encoder(), cache=Path(arguments.cache), workers=arguments.workers)
        pool = Parallel(n_jobs=arguments.workers)
        sets[name] = summed(pool(delayed(compare)(prepared, seed) for seed in range(arguments.seeds)))
        console.print(_table(name, sets[name]))
    seconds = time.perf_counter() - started
    console.print(f"{seconds:.0f} s")
    if arguments.seeds == SEEDS:
        _write(sets, seconds)
    return 0


def _table(name: str, found: dict[str, Any]) -> Table:
    table = Table("", "AIQ over zero", "gap closed", title=name)
    for router, figures in found["routers"].items():
        table.add_row(router, *(f"{figures[f]['mean']:.4f} ± {figures[f]['sd'] or 0:.4f}" for f in FIGURES))
    for pair, figures in found["paired"].items():
        cells = []
        for f in FIGURES:
            own = figures[f]
            span = "" if own["low"] is None else f" [{own['low']:.4f}, {own['high']:.4f}]"
            cells.append(f"{own['mean']:+.4f}{span}")
        table.add_row(pair, *cells)
    return table


def _write(sets: dict[str, Any], seconds: float) -> None:
    packages = ("router-gateway", "torch", "onnxruntime", "numpy", "scipy")
    result = {
        "command": "make preference-conditioned",
        "seeds": SEEDS,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "seconds": round(seconds),
        "sets": sets,
    }
    _RESULTS.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = [f"../shared/data/{name}.parquet" for name in ("cascades", "fourtier")]
    parser.add_argument("--data", nargs="+", default=tables, help="outcomes in the common schema")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="splits; results are kept only of all of them")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--cache", default=str(default_cache()), help="folder of cached vectors")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
