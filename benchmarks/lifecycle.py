"""`make lifecycle`: candidates whose worth is known beforehand, through the code that tries them on live traffic.

A synthetic world has endpoints that are each good at one kind of question, and a dear twin of the first. The live
policy is fitted on its outcomes, and a candidate is planted beside it: `bad` was taught two kinds of four wrongly,
`slightly bad` one, `dear` buys the twin, `equal` is the live policy once more, `better` is that policy where a badly
taught one is live. Sessions of a few turns arrive; the rollout assigns them, the routers decide, the world answers,
four answers of five are rated; the judge looks whenever 50 more sessions of the canary have ended, or a tenth more,
and moves the candidate by the desk, in a real register. Nothing there knows what was planted.

Decisions are those of `Router.route`, made once for each of 2,000 questions and looked up: the rule is greedy, so a
question has one decision. Assignment, judging and moving happen as they do in service. Writes
docs/results/lifecycle.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from lifecycle_stream import run, truth
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from router_gateway.lifecycle.settings import Lifecycle

RUNS = {"bad": 50, "slightly bad": 25, "dear": 25, "equal": 200, "better": 25}
SETTINGS = Lifecycle()
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "lifecycle.json"


def timed(kind: str, seed: int, settings: Lifecycle) -> tuple[dict[str, Any], float]:
    """One candidate's life, and the processor seconds that it took to simulate."""
    started = time.process_time()
    return run(kind, seed, settings), time.process_time() - started


def summary(rows: list[dict[str, Any]], settings: Lifecycle = SETTINGS) -> dict[str, Any]:
    """What became of the candidates of one kind."""
    back = [row for row in rows if row["state"] == "rolled_back"]
    within = [row for row in back if row["stage"] == 1 and row["blocks_in_stage"] <= settings.window_blocks]
    live = [row for row in rows if row["state"] == "live"]
    return {
        "runs": len(rows),
        "rolled_back": _share(len(back), len(rows)),
        "rolled_back_within_first_window": _share(len(within), len(rows)),
        "live": _share(len(live), len(rows)),
        "undecided": len(rows) - len(back) - len(live),
        "reasons": dict(Counter(row["reason"] for row in rows)),
        "until_rolled_back": _quantiles(back),
        "until_live": _quantiles(live),
    }


def _share(count: int, total: int) -> dict[str, float]:
    """With its 95 % Clopper-Pearson interval."""
    low = 0.0 if count == 0 else float(beta.ppf(0.025, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(0.975, count + 1, total - count))
    return {"count": count, "share": count / total, "low": low, "high": high}


def _quantiles(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]] | None:
    if not rows:
        return None
    return {
        name: {f"p{q}": float(np.percentile([row[name] for row in rows], q)) for q in (10, 50, 90, 100)}
        for name in ("canary_sessions", "sessions", "requests")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, help="runs of each kind (default: 50, of the equal one 200)")
    parser.add_argument("--to", type=Path, default=None, help="where the figures go")
    asked = parser.parse_args()
    runs = {kind: asked.runs or count for kind, count in RUNS.items()}
    console, started = Console(), time.perf_counter()
    tasks = [delayed(timed)(kind, seed, SETTINGS) for kind, count in runs.items() for seed in range(count)]
    rows, processor_s = zip(*Parallel(n_jobs=os.cpu_count() or 1)(tasks), strict=True)
    found = {kind: summary([row for row in rows if row["kind"] == kind]) for kind in runs}
    table = Table("candidate", "runs", "rolled back", "in the first window", "live", "undecided", "sessions until back")
    for kind, each in found.items():
        until = each["until_rolled_back"]
        table.add_row(
            kind,
            str(each["runs"]),
            *(f"{each[name]['count']}" for name in ("rolled_back", "rolled_back_within_first_window", "live")),
            str(each["undecided"]),
            "–" if until is None else f"{until['canary_sessions']['p50']:.0f} ({until['canary_sessions']['p100']:.0f})",
        )
    console.print(table)
    seconds = time.perf_counter() - started
    console.print(f"{seconds:.0f} s, {sum(processor_s):.0f} s of one core")
    facts = {
        "command": "make lifecycle",
        "settings": json.loads(SETTINGS.model_dump_json()),
        "truth": truth(),
        "results": found,
        "seconds": round(seconds, 1),
        "processor_seconds": round(sum(processor_s), 1),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "scipy")},
    }
    out = asked.to or (_RESULTS if asked.runs is None else None)
    if out is not None:
        out.write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
