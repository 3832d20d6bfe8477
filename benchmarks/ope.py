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
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ope_judge import ESTIMATORS, as_audited, summary, with_replacement
from ope_world import LOGGERS, SESSION, World, world
from rich.console import Console
from rich.table import Table

COVERAGE_MIN = 0.93
WRONG_MAX = 0.05
"""How often "worth it" may be said where routing is not; a two-sided 95 % interval promises a fortieth."""
_MANY = 5
_CASCADES = Path(__file__).resolve().parents[2] / "shared" / "data" / "cascades.parquet"
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "ope.json"


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
            min(arguments.audited_requests, len(own.sessions) // 2 * SESSION)
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


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
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
