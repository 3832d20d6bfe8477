"""`make ope`: whether off-policy estimates tell the truth, on logs drawn from recorded outcomes where it is known.

A table of outcomes says what every endpoint answered, so the value of any policy is known exactly. From the prompts
that no policy learned from, sessions of three requests of one task are drawn with replacement; a logger answers each
request and only its own endpoint's outcome is kept. What `offpolicy.estimate` makes of such a log is compared with the
mean over all those prompts, which is then the truth and not another estimate. Two hundred logs for each logger;
vectors, policies and the outcome model, fitted on other prompts, are the same for all of them.

`as audited` besides: logs drawn without replacement, the outcome model fitted on the log itself, out of fold, and the
gains over the best single endpoint and over a random mix at equal cost, as `audit` has them. Its intervals are longer
than they need be, since half a table is no longer a sample of it.

Writes docs/results/ope.json. Ends with 1 if coverage falls below 93 % for DR or SNIPS, if DR's intervals are not
narrower than IPS's, or if a deterministic logger gives a number.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from router_gateway import registry
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.audit_result import Gains
from router_gateway.evaluation.audit_standing import compare
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.logged_models import cross_fitted
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes
from router_gateway.evaluation.offpolicy import Log, estimate, overlap
from router_gateway.evaluation.paired import Paired
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.splits import partition, strata
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap

COVERAGE_MIN = 0.93
WRONG_MAX = 0.05
"""How often "worth it" may be said where routing is not; a two-sided 95 % interval promises a fortieth."""
ESTIMATORS = ("ips", "snips", "dr", "switch")
LOGGERS: dict[str, Rule] = {"epsilon_greedy 0.3": EpsilonGreedy(epsilon=0.3), "inverse_gap 20": InverseGap(gamma=20.0)}
TARGETS: dict[str, tuple[str | None, Rule, float]] = {
    "knn": ("knn", Greedy(), 1.0),
    "knn, cheap": ("knn", Greedy(), 0.1),
    "linear, drawn": ("linear", InverseGap(gamma=50.0), 1.0),
    "best on average": (None, Greedy(), np.inf),
}
"""Policy (None: the mean qualities), rule, and dial in multiples of the logger's."""
_SESSION = 3
_MANY = 5
_FIT_SHARE = 0.35
_CASCADES = Path(__file__).resolve().parents[2] / "shared" / "data" / "cascades.parquet"
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "ope.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """P prompts nobody learned from, with everything known of them.

    quality, cost_usd, model : float64 (P, E); model is an outcome model fitted on other prompts
    mean_usd : float64 (E,), of those others; worth_usd : the dial
    loggers, targets : float64 (P, E) each, by name
    sessions : int64 (S, 3), rows
    """

    name: str
    prepared: Prepared
    rows: Ints
    quality: Floats
    cost_usd: Floats
    mean_usd: Floats
    worth_usd: float
    model: Floats
    loggers: Mapping[str, Floats]
    targets: Mapping[str, Floats]
    sessions: Ints

    def value(self, target: Floats, *, price: bool = False) -> float:
        """The truth: mean quality over all sessions, less what it costs in the dial's terms."""
        rows = self.sessions.ravel()
        worth = self.quality[rows] - (self.cost_usd[rows] / self.worth_usd if price else 0.0)
        return float((target[rows] * worth).sum(axis=1).mean())

    def usd(self, target: Floats) -> float:
        """The true cost of a request."""
        rows = self.sessions.ravel()
        return float((target[rows] * self.cost_usd[rows]).sum(axis=1).mean())


def world(source: str, *, seed: int = 0) -> World:
    """Policies fitted on a third of the prompts, the rest to draw logs from."""
    name, table = load_tables(source)[0]
    prepared = prepare(name, table, encoder=Encoder(), cache=default_cache())
    complete = prepared.table.complete()
    fit, rest = (part[complete[part]] for part in partition(prepared.table, (_FIT_SHARE, 1 - _FIT_SHARE), seed=seed))
    quality, cost = prepared.table.quality, prepared.table.cost_usd
    experience = Experience.from_table(prepared.batch(fit), prepared.table.endpoints, quality[fit], cost[fit])
    mean_usd = cost[fit].mean(axis=0)
    by_cost = np.argsort(mean_usd, kind="stable")
    worth_usd = 4.0 * float(mean_usd.max())
    names = prepared.table.endpoints

    def odds(policy: str | None, rule: Rule, dial: float) -> Floats:
        """float64 (P, E)."""
        if policy is None:
            scored = np.broadcast_to(quality[fit].mean(axis=0), (len(rest), len(names)))
        else:
            scored = registry.create(policy, {}).fit(experience).score(prepared.batch(rest)).align(names).quality
        value = (scored - mean_usd / (dial * worth_usd))[:, by_cost]
        out = np.empty(value.shape)
        out[:, by_cost] = rule.probabilities(value, np.ones(value.shape, dtype=bool))
        return out

    order = np.lexsort((np.random.default_rng(seed).random(len(rest)), strata(prepared.table)[rest]))
    return World(
        name=name,
        prepared=prepared,
        rows=rest,
        quality=quality[rest].astype(np.float64),
        cost_usd=cost[rest].astype(np.float64),
        mean_usd=mean_usd.astype(np.float64),
        worth_usd=worth_usd,
        model=registry.create("linear", {}).fit(experience).score(prepared.batch(rest)).align(names).quality,
        loggers={each: odds("clusters", rule, 1.0) for each, rule in {**LOGGERS, "greedy": Greedy()}.items()},
        targets={each: odds(policy, rule, dial) for each, (policy, rule, dial) in TARGETS.items()},
        sessions=order[: len(order) // _SESSION * _SESSION].reshape(-1, _SESSION),
    )


def draw(own: World, logger: str, rows: Ints, rng: np.random.Generator, *, seed: int, resamples: int) -> Log:
    """A log of these rows, three to a session."""
    probability = own.loggers[logger][rows]
    action = (rng.random((len(rows), 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=probability.shape[1] - 1)
    return Log(
        action=action,
        propensity=probability[np.arange(len(rows)), action],
        probability=probability,
        cluster=np.repeat(np.arange(len(rows) // _SESSION), _SESSION),
        resamples=resamples,
        seed=seed,
    )


def with_replacement(own: World, logger: str, seed: int, requests: int, resamples: int) -> dict[str, dict[str, Any]]:
    """By target: what each estimator said of one log, whether that covers, and how long the interval is."""
    rng = np.random.default_rng([seed, requests])
    rows = own.sessions[rng.integers(0, len(own.sessions), requests // _SESSION)].ravel()
    log = draw(own, logger, rows, rng, seed=seed, resamples=resamples)
    return _judged(own, log, rows, own.model[rows])


def as_audited(own: World, logger: str, seed: int, requests: int, resamples: int) -> dict[str, dict[str, Any]]:
    """Likewise, as `audit` does it: the outcome model fitted out of fold, and gains over what needs no router.

    As many requests again, of other sessions, are learned from: which single endpoint is best, and the model's half.
    """
    rng = np.random.default_rng([seed, requests, 1])
    rows = own.sessions[rng.permutation(len(own.sessions))[: 2 * requests // _SESSION]].ravel()
    whole = draw(own, logger, rows, rng, seed=seed, resamples=1)
    outcomes = _outcomes(own, rows, whole)
    learned, asked = np.arange(len(rows))[: len(rows) // 2], np.arange(len(rows))[len(rows) // 2 :]
    cluster = np.unique(whole.cluster[asked], return_inverse=True)[1]
    log = Log(
        action=whole.action[asked],
        propensity=whole.propensity[asked],
        probability=whole.probability[asked],
        cluster=cluster,
        resamples=resamples,
        seed=seed,
    )
    quality, cost_usd = cross_fitted(outcomes, learned, asked, cluster, seed=seed)
    paired = Paired(
        log=log,
        quality=outcomes.quality[asked],
        cost_usd=outcomes.cost_usd[asked],
        quality_model=quality,
        cost_model=cost_usd,
        worth_usd=outcomes.worth_usd[asked],
    )
    found = _judged(own, log, rows[asked], quality)
    for name, target in own.targets.items():
        gains = compare(outcomes, learned, asked, paired, target[rows[asked]], outcomes.worth_usd).gains
        if gains is not None:
            found[name] |= {"gains": _gains(own, target, gains)}
    return found


def _outcomes(own: World, rows: Ints, log: Log) -> LoggedOutcomes:
    """The log as the ledger would give it."""
    count = len(rows)
    return LoggedOutcomes(
        queries=own.prepared.batch(own.rows[rows]),
        ids=tuple(UUID(int=i) for i in range(count)),
        sessions=tuple(map(str, log.cluster)),
        endpoints=own.prepared.table.endpoints,
        drawn=log.action,
        answered=log.action,
        propensity=log.propensity,
        probability=log.probability,
        expected_cost_usd=np.tile(own.mean_usd, (count, 1)),
        candidate=np.ones(log.probability.shape, dtype=bool),
        quality=own.quality[rows, log.action],
        cost_usd=own.cost_usd[rows, log.action],
        worth_usd=np.full(count, own.worth_usd),
        random=np.ones(count, dtype=bool),
        first_said=np.zeros((count, 2), dtype=np.int64),
        notes=(),
    )


def _gains(own: World, target: Floats, gains: Gains) -> dict[str, Any]:
    """Whether the intervals of the gains cover the true ones, and whether "worth it" would be said without reason."""
    names = own.prepared.table.endpoints
    single = np.eye(len(names))[names.index(gains.best_single)]
    net = own.value(target, price=True) - own.value(np.broadcast_to(single, target.shape), price=True)
    corners = [np.broadcast_to(np.eye(len(names))[names.index(name)], target.shape) for name in gains.mix]
    points = sorted((own.usd(corner), own.value(corner)) for corner in corners)
    coin = own.value(target) - float(np.interp(own.usd(target), *np.array(points).T))
    over, mixed = gains.net_over_best_single, gains.quality_at_equal_cost
    return {
        "net_over_best_single": (over.value - net, over.low <= net <= over.high),
        "quality_at_equal_cost": (mixed.value - coin, mixed.low <= coin <= mixed.high),
        "wrongly_worth_it": over.low > 0 and net <= 0,
        "worth_it": over.low > 0,
        "net": net,
    }


def _judged(own: World, log: Log, rows: Ints, model: Floats) -> dict[str, dict[str, Any]]:
    reward = own.quality[rows, log.action]
    found: dict[str, dict[str, Any]] = {}
    for name, target in own.targets.items():
        seen = overlap(log, target[rows])
        if seen.refusal:
            found[name] = {"refused": seen.refusal}
            continue
        truth = own.value(target)
        estimates = estimate(log, target[rows], reward, model, bounds=(0.0, 1.0))
        found[name] = {
            each: (one.value - truth, one.low <= truth <= one.high, one.high - one.low)
            for each, one in estimates.items()
        } | {"ess": seen.ess}
    return found


def summary(logs: list[dict[str, dict[str, Any]]], target: str) -> dict[str, Any]:
    """Over the seeds: coverage with its interval, bias in standard errors, length, and DR's length by IPS's."""
    said = [log[target] for log in logs if "refused" not in log[target]]
    told: dict[str, Any] = {"seeds": len(logs), "refused": len(logs) - len(said)}
    if not said:
        return told | {"refusal": logs[0][target]["refused"]}
    told |= {"ess_mean": float(np.mean([one["ess"] for one in said]))}
    for name in ESTIMATORS:
        error, covered, length = (
            np.array(each, dtype=float) for each in zip(*(one[name] for one in said), strict=True)
        )
        told[name] = {
            "coverage": _share(covered),
            "bias": float(error.mean()),
            "bias_stderr": float(error.std(ddof=1) / np.sqrt(len(error))),
            "rmse": float(np.sqrt((error**2).mean())),
            "length_mean": float(length.mean()),
        }
    if kept := [one["gains"] for one in said if "gains" in one]:
        told["gains"] = _gains_summary(kept)
    ratio = np.log([one["dr"][2] / one["ips"][2] for one in said])
    arm = 1.96 * ratio.std(ddof=1) / np.sqrt(len(ratio))
    told["dr_length_by_ips"] = {
        "geometric_mean": float(np.exp(ratio.mean())),
        "low": float(np.exp(ratio.mean() - arm)),
        "high": float(np.exp(ratio.mean() + arm)),
    }
    return told


def _gains_summary(kept: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"logs": len(kept), "true_net_gain_mean": float(np.mean([one["net"] for one in kept]))}
    for name in ("net_over_best_single", "quality_at_equal_cost"):
        error, covered = (np.array(each, dtype=float) for each in zip(*(one[name] for one in kept), strict=True))
        told[name] = {"coverage": _share(covered), "bias": float(error.mean())}
    for name in ("worth_it", "wrongly_worth_it"):
        told[name] = _share(np.array([one[name] for one in kept], dtype=float))
    return told


def _share(covered: Floats) -> dict[str, float]:
    """With Clopper and Pearson's 95 % interval."""
    hits, count = int(covered.sum()), len(covered)
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return {"share": hits / count, "low": low, "high": high}


def main() -> int:
    arguments, console, started = _arguments(), Console(), time.process_time()
    found: dict[str, Any] = {}
    for source in arguments.sources:
        own = world(source)
        found[own.name] = _of(own, arguments, console)
    seconds = time.process_time() - started
    console.print(f"{seconds:.0f} s of one core")
    problems = list(_problems(found))
    for problem in problems:
        console.print(f"[red]{problem}[/red]")
    _write(arguments, found, problems, seconds)
    return int(bool(problems))


def _of(own: World, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All logs of one world."""
    parts: dict[str, Any] = {"prompts": len(own.rows), "endpoints": len(own.prepared.table.endpoints), "logs": []}
    runs = [(logger, with_replacement, "drawn with replacement", arguments.seeds) for logger in LOGGERS]
    audited = LOGGERS if len(own.prepared.table.endpoints) < _MANY else list(LOGGERS)[-1:]  # a model of each endpoint
    runs += [(logger, as_audited, "as audited", arguments.audited_seeds) for logger in audited]
    runs.append(("greedy", with_replacement, "drawn with replacement", 5))
    table = Table("logger", "log", "target", "refused", "ESS", *ESTIMATORS, "DR / IPS", "gain", "said", title=own.name)
    for logger, once, kind, seeds in runs:
        count = (
            min(arguments.audited_requests, len(own.sessions) // 2 * _SESSION)
            if once is as_audited
            else arguments.requests
        )
        logs = [once(own, logger, seed, count, arguments.resamples) for seed in range(seeds)]
        for target in own.targets:
            told = summary(logs, target)
            parts["logs"].append({"logger": logger, "log": kind, "requests": count, "target": target} | told)
            cells = [f"{told[name]['coverage']['share']:.3f}" if name in told else "" for name in ESTIMATORS]
            ratio = f"{told['dr_length_by_ips']['geometric_mean']:.2f}" if "dr_length_by_ips" in told else ""
            gains = told.get("gains")
            cells += [ratio, f"{gains['net_over_best_single']['coverage']['share']:.3f}" if gains else ""]
            cells.append(f"{gains['worth_it']['share']:.2f}" if gains else "")
            table.add_row(logger, kind, target, str(told["refused"]), f"{told.get('ess_mean', 0):.0f}", *cells)
    console.print(table)
    return parts


def _problems(found: Mapping[str, Any]) -> Any:
    """What does not hold of what is promised."""
    for name, parts in found.items():
        for log in parts["logs"]:
            where = f"{name}, {log['logger']}, {log['log']}, {log['target']}"
            if log["logger"] == "greedy":
                if log["refused"] < log["seeds"] or "deterministic" not in log["refusal"]:
                    yield f"{where}: a deterministic logger gave a number"
                continue
            if log["refused"] == log["seeds"]:
                yield f"{where}: refused: {log['refusal']}"
                continue
            for each in ("dr", "snips"):
                if (share := log[each]["coverage"]["share"]) < COVERAGE_MIN:
                    yield f"{where}: {each} covers in {share:.1%}"
            for each in ("net_over_best_single", "quality_at_equal_cost") if "gains" in log else ():
                if (share := log["gains"][each]["coverage"]["share"]) < COVERAGE_MIN:
                    yield f"{where}: {each} covers in {share:.1%}"
            if log.get("gains", {}).get("wrongly_worth_it", {}).get("share", 0.0) > WRONG_MAX:
                yield f"{where}: routing is said to be worth it without reason"
            if log["dr_length_by_ips"]["high"] >= 1.0:
                yield f"{where}: DR's intervals are not narrower than IPS's"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [str(_CASCADES)] if _CASCADES.is_file() else []
    parser.add_argument("--sources", nargs="*", default=[*default, "paretobandit"], help="tables of outcomes")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--audited-seeds", type=int, default=100, help="logs that are judged as `audit` does")
    parser.add_argument("--requests", type=int, default=1500, help="in a log, all rated")
    parser.add_argument("--audited-requests", type=int, default=900, help="asked about, as many learned from")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=_RESULTS)
    return parser.parse_args()


def _write(arguments: argparse.Namespace, found: Mapping[str, Any], problems: list[str], seconds: float) -> None:
    arguments.out.write_text(
        json.dumps(
            {
                "command": " ".join(["make ope", *sys.argv[1:]]),
                "sets": found,
                "problems": problems,
                "processor_seconds": round(seconds),
                "versions": {name: version(name) for name in ("router-gateway", "numpy", "scikit-learn")}
                | {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"},
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    sys.exit(main())
