"""`make online`: the gateway that learns under a budget, against its peers on one stream of real outcomes.

(a) Every learner answers the same stream and is shown only what it chose. "offline": 30 % of the prompts are known
beforehand with all outcomes, to everybody alike; "cold": no outcome is known, only the prompts. (b) Half way through
a model gets worse, a price falls, an endpoint fails, a new one appears. (c) A month of traffic with a daily budget,
against a rule that falls back to the cheapest endpoint when 80 % of the day's budget is spent.

Writes docs/results/online.json and docs/results/budget.json, and the tables between the marks of docs/online.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from online_page import write_page
from online_peers import MabWiser, ParetoBandit
from online_stream import Offline, load, month, split
from rich.console import Console

from policies.bandit import Bandit
from router_gateway.core.errors import GatewayError
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Floats
from router_gateway.evaluation import online_events as events
from router_gateway.evaluation.metrics import endpoint_points, hull, oracle_curve, value_at
from router_gateway.evaluation.online import Learner, Stream, Trace, simulate
from router_gateway.evaluation.online_gateway import Paced, StepRule, teach_costs
from router_gateway.presets import PRESETS
from router_gateway.routing.floor import Floor
from router_gateway.routing.pacing import BudgetPacer
from router_gateway.routing.plans import PerPeriod, PerRequest, Plan
from router_gateway.routing.rules import Greedy, InverseGap
from router_gateway.routing.settings import Pacing
from router_gateway.routing.streaming_cost import StreamingLengthCost

BUDGETS_USD = {"tight": 3.0e-4, "middle": 6.62e-4, "loose": 1.87e-3}
"""Per request: the three of ParetoBandit's own experiments."""
EVENT_USD = 1.1e-3
"""Buys the second best answer when the best for the price is gone."""
PRESET = PRESETS["bandit"]
GAMMA, OPTIMISM = float(PRESET["rule"]["gamma"]), float(PRESET["optimism"])
OPTIMISM_MAX = float(Pacing.model_fields["optimism_max"].default)
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
EVENTS = ("quality drop", "price cut", "failure", "new endpoint")
_WINDOW = 20
_CONTEXTS = 16  # principal components in which MABWiser sees a prompt
_DAY_USD = 0.25
STEP_WORTH_USD = (0.05, 2.0)
"""Between these lies the dial of the step rule before it steps."""
_STEP_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One stream and what was known before it."""

    stream: Stream
    offline: Offline
    usd: float
    seed: int
    known: bool


def _costs(setup: Setup) -> StreamingLengthCost:
    cost = StreamingLengthCost(endpoints=setup.stream.endpoints)
    return teach_costs(cost, setup.offline.stream, hidden=setup.offline.hidden) if setup.known else cost


def ours(setup: Setup, *, plan: Plan | None = None, rule: Rule | None = None) -> Paced:
    """The preset `bandit`: Bandit, StreamingLengthCost, InverseGap, optimism and BudgetPacer; or by another rule."""
    rule = rule or InverseGap(gamma=GAMMA)
    pacer = BudgetPacer(
        plan=plan or PerRequest(usd=setup.usd), rule=rule, optimism=OPTIMISM, optimism_max=OPTIMISM_MAX, floor=Floor()
    )
    return Paced(
        policy=Bandit().fit(setup.offline.experience(outcomes=setup.known)),
        cost=_costs(setup),
        pacer=pacer,
        rule=rule,
        space=setup.stream.space,
        optimism=OPTIMISM,
    )


def mabwiser(setup: Setup, kind: str) -> Paced:
    """MABWiser's learner on our contexts, behind our costs and our pacer.

    alpha is its default, 1, from a cold start; with outcomes known a tenth of it serves it better.
    """
    alpha = 0.1 if setup.known else 1.0
    base = Bandit(components=_CONTEXTS).fit(setup.offline.experience(outcomes=False)).model_
    assert base is not None
    policy = MabWiser(kind=kind, centre=base.centre, whitening=base.whitening, alpha=alpha, seed=setup.seed)
    rule = Greedy()
    return Paced(
        policy=policy.fit(setup.offline.experience(outcomes=setup.known)),
        cost=_costs(setup),
        pacer=BudgetPacer(plan=PerRequest(usd=setup.usd), rule=rule),
        rule=rule,
        space=setup.stream.space,
    )


def paretobandit(setup: Setup, prior: str) -> ParetoBandit:
    return ParetoBandit(setup.stream, setup.usd, prior=prior, seed=setup.seed, offline=setup.offline)


LEARNERS: dict[str, Callable[[Setup], Learner]] = {
    "gateway": ours,
    "gateway, greedy": lambda s: ours(s, rule=Greedy()),
    "paretobandit": lambda s: paretobandit(s, "offline" if s.known else "none"),
    "paretobandit, shipped prior": lambda s: paretobandit(s, "shipped"),
    "MABWiser LinUCB": lambda s: mabwiser(s, "LinUCB"),
    "MABWiser LinTS": lambda s: mabwiser(s, "LinTS"),
}


def compare(table: Stream, budget: str, known: bool, seed: int, learners: Sequence[str]) -> list[dict[str, Any]]:
    """Section (a) for one seed."""
    offline, stream = split(table, seed)
    usd = BUDGETS_USD[budget]
    rows = []
    for name, build in LEARNERS.items():
        if name not in learners:
            continue
        trace = simulate(build(Setup(stream=stream, offline=offline, usd=usd, seed=seed, known=known)), stream)
        rows.append({"learner": name, "budget": budget, "known": known, "seed": seed, **_figures(trace, stream, usd)})
    uniform = np.random.default_rng(seed).integers(0, len(stream.endpoints), len(stream))
    at = np.arange(len(stream))
    chance = Trace(
        chosen=uniform,
        quality=stream.quality[at, uniform].astype(np.float64),
        cost_usd=stream.cost_usd[at, uniform],
        decide_s=np.zeros(len(stream)),
        learn_s=np.zeros(len(stream)),
    )
    return [
        *rows,
        {"learner": "random", "budget": budget, "known": known, "seed": seed, **_figures(chance, stream, usd)},
    ]


def _figures(trace: Trace, stream: Stream, usd: float) -> dict[str, Any]:
    spend = float(trace.cost_usd.mean())
    zero = hull(endpoint_points(stream.quality, stream.cost_usd))
    best = oracle_curve(stream.quality, stream.cost_usd)
    reward = float(trace.quality.mean())
    return {
        "reward": reward,
        "reward_total": float(trace.quality.sum()),
        "spend_of_budget": spend / usd,
        "over_zero_at_spend": reward - float(value_at(zero, spend)),
        "zero_at_budget": float(value_at(zero, usd)),
        "regret_to_oracle": (float(value_at(best, usd)) - reward) * len(trace),
        "decide_ms": float(np.median(trace.decide_s)) * 1e3,
        "learn_ms": float(np.median(trace.learn_s)) * 1e3,
    }


def happens(table: Stream, event: str, seed: int, learners: Sequence[str]) -> list[dict[str, Any]]:
    """Section (b) for one seed: ours and paretobandit, both with the offline part."""
    offline, stream = split(table, seed)
    half, usd = len(stream) // 2, BUDGETS_USD["middle"]
    names = [endpoint.name for endpoint in stream.endpoints]
    mistral, pro, flash = (next(i for i, n in enumerate(names) if word in n) for word in ("mistral", "pro", "flash"))
    known = offline
    changed, right = stream, flash
    if event == "quality drop":
        changed = events.quality_drop(stream, mistral, at=half, share=0.18)
    elif event == "price cut":
        changed, right = events.price_cut(stream, pro, at=half, factor=0.02), pro
    elif event == "failure":
        changed = events.failure(stream, mistral, at=half)
    else:
        changed, known, right = events.newcomer(stream, mistral, at=half), offline.without(mistral), mistral
    usd = EVENT_USD if event in ("quality drop", "failure") else usd
    rows = []
    for name in (name for name in ("gateway", "paretobandit") if name in learners):
        trace = simulate(LEARNERS[name](Setup(stream=changed, offline=known, usd=usd, seed=seed, known=True)), changed)
        hits = (trace.chosen == right).astype(float)
        rows.append(
            {
                "learner": name,
                "event": event,
                "seed": seed,
                "recovered_after": events.recovery_requests(hits, at=half, window=_WINDOW, target=0.5),
                "reward_after": float(trace.quality[half:].mean()),
                "reward_next_200": float(trace.quality[half : half + 200].mean()),
                "spend_of_budget_after": float(trace.cost_usd[half:].mean()) / usd,
            }
        )
    return rows


def a_month(table: Stream, seed: int) -> dict[str, Any]:
    """Section (c) for one seed: the pacer, then the step rule at the dial that makes it spend as much."""
    offline, stream = split(table, seed)
    traffic = month(stream, seed=seed, per_day=250)
    setup = Setup(stream=traffic, offline=offline, usd=_DAY_USD, seed=seed, known=True)
    paced = simulate(ours(setup, plan=PerPeriod(usd=_DAY_USD, requests=200)), traffic)
    total = float(paced.cost_usd.sum())
    return {
        "seed": seed,
        "requests": len(traffic),
        "spend_of_budget": total / (30 * _DAY_USD),
        "quality": float(paced.quality.mean()),
        **_step_rule(setup, total),
        "days_over_102": int((_by_day(paced, traffic) > 1.02 * _DAY_USD).sum()),
    }


def _step_rule(setup: Setup, total_usd: float) -> dict[str, float]:
    """The rule at the dial that makes it spend as much as `total_usd`, found by halving; between the nearest two.

    It falls back when 80 % of a budget is gone that is larger by a quarter: when the pacer's own would be gone. With
    less it could not spend as much at any dial.
    """
    low, high = (float(np.log(worth_usd)) for worth_usd in STEP_WORTH_USD)
    below, above = (0.0, 0.0, 0.0), (np.inf, 0.0, 0.0)
    for _ in range(_STEP_TRIES):
        dial = (low + high) / 2.0
        rule = StepRule(inner=ours(setup), worth_usd=float(np.exp(dial)), day_usd=setup.usd / 0.8, share=0.8)
        step = simulate(rule, setup.stream)
        run = (float(step.cost_usd.sum()), float(step.quality.mean()), float(np.exp(dial)))
        if run[0] < total_usd:
            low, below = dial, max(below, run)
        else:
            high, above = dial, min(above, run)
    if not 0.0 < below[0] <= above[0] < np.inf:
        spent, quality, worth_usd = below if below[0] > 0.0 else above
    else:
        part = (total_usd - below[0]) / max(above[0] - below[0], 1e-12)
        spent, quality, worth_usd = ((1.0 - part) * x + part * y for x, y in zip(below, above, strict=True))
    return {"step_worth_usd": worth_usd, "step_spend_of_paced": spent / total_usd, "step_quality": quality}


def _by_day(trace: Trace, stream: Stream) -> Floats:
    day = (stream.at_s // 86_400).astype(int)
    return np.bincount(day, weights=trace.cost_usd, minlength=30).astype(np.float64)


def main() -> int:
    arguments, console = _arguments(), Console()
    started = time.perf_counter()
    table = load(arguments.data)
    pool = Parallel(n_jobs=arguments.workers)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        found = _one_seed(pool, table, seed, arguments)
        _add(_RESULTS / "online.json", len(table), {k: found[k] for k in ("compared", "events") if k in found})
        _add(_RESULTS / "budget.json", len(table), {k: found[k] for k in ("months",) if k in found})
        console.print(f"seed {seed}: {time.perf_counter() - started:.0f} s since the start")
    write_page(_RESULTS, console)
    return 0


def _one_seed(pool: Parallel, table: Stream, seed: int, arguments: argparse.Namespace) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    learners = arguments.learners or list(LEARNERS)
    if "a" in arguments.parts:
        settings = [(budget, known) for known in (True, False) for budget in BUDGETS_USD]
        found["compared"] = _flat(
            pool(delayed(compare)(table, budget, known, seed, learners) for budget, known in settings)
        )
    if "b" in arguments.parts:
        found["events"] = _flat(pool(delayed(happens)(table, event, seed, learners) for event in EVENTS))
    if "c" in arguments.parts and seed < arguments.months:
        found["months"] = [a_month(table, seed)]
    return found


def _flat(rows: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for part in rows for row in part]


def _add(path: Path, queries: int, found: dict[str, list[Any]]) -> None:
    """Put these rows in the place of earlier ones of the same seed, learner and setting.

    A run that is killed keeps what it had.
    """
    if not found:
        return
    before = json.loads(path.read_text()) if path.is_file() else {}
    for part, rows in found.items():
        fresh = {_which(row) for row in rows}
        found[part] = sorted([row for row in before.get(part, []) if _which(row) not in fresh] + rows, key=_which)
    facts = {
        "command": "make online",
        "queries": queries,
        "versions": _versions(),
        "optimism": OPTIMISM,
        "gamma": GAMMA,
    }
    path.write_text(json.dumps(before | facts | found, indent=1, allow_nan=False) + "\n")


def _which(row: dict[str, Any]) -> tuple[Any, ...]:
    setting = (str(row.get(key, "")) for key in ("known", "budget", "event"))
    return (*setting, row["seed"], row.get("learner", ""))


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {n: version(n) for n in ("numpy", "paretobandit", "mabwiser")}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/fourtier.parquet", help="else the package's own outcomes")
    parser.add_argument("--parts", default="abc", help="which of the three to run")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--months", type=int, default=3)
    parser.add_argument("--learners", nargs="*", choices=list(LEARNERS), help="else all of them")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
