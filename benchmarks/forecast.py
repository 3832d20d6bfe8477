"""`make forecast`: how often the band of `router-gateway forecast` holds what came, on simulated traffic.

Five kinds of traffic, all with weekdays and Poisson counts, of 30, 300 or 3,000 requests a day: steady, growing by 2 %
a week, wandering (a level that is a random walk of 2 % a day), sticky (a bad day is followed by bad days) and bursty
(on one day in twenty twice the requests). A request costs what it costs, times a day's noise. The history is 4, 8 or 16
weeks; forecast are the next 30 days, of which the truth is then drawn. The band is P10 to P90: four in five should lie
in it. Writes docs/results/forecast.json; ends with 1 if over all worlds coverage is not from 75 to 90 %.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.daily_traffic import History, simulate

KINDS = ("steady", "growing", "wandering", "sticky", "bursty")
WEEKS = (4, 8, 16)
DAYS = 30
COVERAGE = (0.75, 0.90)
_WEEKDAYS = np.array([1.0, 1.05, 1.1, 1.05, 0.95, 0.45, 0.4])
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "forecast.json"


def traffic(kind: str, days: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Requests and spend of `days` days."""
    day, noise = np.arange(days), rng.normal(0, 0.1, days)
    level = np.full(days, np.log(rng.choice([30.0, 300.0, 3000.0])))
    if kind == "growing":
        level += day * np.log(1.02) / 7
    elif kind == "wandering":
        level += np.cumsum(rng.normal(0, 0.02, days))
    elif kind == "sticky":
        for t in range(1, days):
            noise[t] += 0.7 * noise[t - 1]
    elif kind == "bursty":
        noise += np.where(rng.random(days) < 0.05, np.log(2.0), 0.0)
    requests = rng.poisson(_WEEKDAYS[day % 7] * np.exp(level + noise))
    return requests, requests * 1e-3 * np.exp(rng.normal(0, 0.1, days))


def once(kind: str, weeks: int, seed: int) -> dict[str, tuple[float, float, float]]:
    """(P10, P90, truth) of the requests and of the spend in one world."""
    rng = np.random.default_rng([seed, weeks, KINDS.index(kind)])
    count = 7 * weeks
    requests, spend = traffic(kind, count + DAYS, rng)
    usd_each = np.divide(spend, requests, out=np.full(len(spend), np.nan), where=requests > 0)
    history = History(last=date(2026, 1, 31), requests=requests[:count], usd_each=usd_each[:count])
    paths = simulate(history, days=DAYS, paths=400, seed=seed)
    recent = rng.integers(
        max(0, count - DAYS), count, (400, min(count, DAYS))
    )  # a request's mean cost, resampled by day
    mean_usd = spend[recent].sum(axis=1) / requests[recent].sum(axis=1)
    drawn = {
        "requests": (paths.requests.sum(axis=1), requests[count:].sum()),
        "spend": ((paths.requests * paths.price).sum(axis=1) * mean_usd, spend[count:].sum()),
    }
    return {
        name: (float(np.quantile(each, 0.1)), float(np.quantile(each, 0.9)), float(truth))
        for name, (each, truth) in drawn.items()
    }


def summary(worlds: list[tuple[float, float, float]]) -> dict[str, Any]:
    """Coverage with Clopper and Pearson's 95 % interval, and how wide the band is by the truth."""
    low, high, truth = np.array(worlds).T
    hits, count = int(((low <= truth) & (truth <= high)).sum()), len(truth)
    return {
        "worlds": count,
        "coverage": hits / count,
        "coverage_low": float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0,
        "coverage_high": float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0,
        "below_p10": float((truth < low).mean()),
        "above_p90": float((truth > high).mean()),
        "width_by_truth": float(np.median((high - low) / truth)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=150, help="of each kind and length")
    parser.add_argument("--out", type=Path, default=_RESULTS)
    arguments, console, started = parser.parse_args(), Console(), time.process_time()
    rows, everything = [], {"requests": [], "spend": []}  # type: tuple[list[dict[str, Any]], dict[str, list[Any]]]
    table = Table("traffic", "weeks", "requests", "width", "spend", "width", title=f"P10 to P90 of {DAYS} days")
    for kind in KINDS:
        for weeks in WEEKS:
            worlds = [once(kind, weeks, seed) for seed in range(arguments.worlds)]
            told = {name: summary([world[name] for world in worlds]) for name in everything}
            for name, kept in everything.items():
                kept += [world[name] for world in worlds]
            rows.append({"traffic": kind, "weeks": weeks, **told})
            cells = [f"{told[n][c]:.2f}" for n in everything for c in ("coverage", "width_by_truth")]
            table.add_row(kind, str(weeks), *cells)
    overall = {name: summary(worlds) for name, worlds in everything.items()}
    console.print(table)
    console.print({name: f"{one['coverage']:.1%}" for name, one in overall.items()})
    result = {
        "command": " ".join(["make forecast", *sys.argv[1:]]),
        "days": DAYS,
        "overall": overall,
        "worlds": rows,
        "processor_seconds": round(time.process_time() - started),
        "versions": {name: version(name) for name in ("router-gateway", "numpy")}
        | {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"},
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(not all(COVERAGE[0] <= one["coverage"] <= COVERAGE[1] for one in overall.values()))


if __name__ == "__main__":
    sys.exit(main())
