"""`make conformal`: whether the promise of `router-gateway tune` holds, and what the dial it picks is worth.

On a table of real outcomes, many times: split the prompts at random into a part to fit on, a part to calibrate
with and a part to test, let `tune` pick the dial, and look at the test part. Coverage is the share of splits in
which routing at the picked dial reached the floor there; a split in which nothing could be certified counts as
covered, since no promise was made, and is counted besides.

The promise is about expected quality, of which a test part shows a noisy copy, so coverage on it errs on the low
side. Beside it stands the exact one: calibration queries drawn with replacement from all that were held out,
whose mean quality is then the truth. Writes docs/results/conformal.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import beta

from router_gateway.core.errors import GatewayError
from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.conformal import Promise, certify
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.splits import hash_order
from router_gateway.evaluation.tuning import Asked, Setting, ask

_FIT, _CALIBRATE = 0.30, 0.25  # the rest tests: it is the measuring instrument and must be finer than what it measures
_HEADLINE = Promise(floor=0.95, of="best-single", confidence=0.9)
_PROMISES = (
    *(Promise(floor=floor, confidence=0.9) for floor in (0.90, 0.95, 0.98, 1.00)),
    *(Promise(floor=0.95, confidence=confidence) for confidence in (0.8, 0.95)),
)
_CHUNK = 10  # splits a job: the set is sent along with each
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "conformal.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one promise came to on one split. Saving and quality, shares of the best single's, None if not certified."""

    certified: bool
    covered: bool
    covered_exactly: bool
    saving: float | None = None
    quality: float | None = None


def main() -> int:
    arguments, console = _arguments(), Console()
    source = Path(arguments.data)
    if not source.is_file():
        console.print(
            f"[red]{source} is not there.[/red] `make conformal` needs a table of outcomes; "
            "name one in the common schema with ARGS='--data FILE'."
        )
        return 2
    started = time.perf_counter()
    name, table = load_tables(str(source))[0]
    prepared = prepare(name, table, encoder=Encoder(), cache=Path(arguments.cache), workers=arguments.workers)
    chunks = [range(start, min(start + _CHUNK, arguments.splits)) for start in range(0, arguments.splits, _CHUNK)]
    jobs = list(product(arguments.policies, chunks))
    pool = Parallel(n_jobs=arguments.workers, return_as="generator")
    results = pool(delayed(_some)(prepared, policy, [arguments.seed + i for i in chunk]) for policy, chunk in jobs)
    kept: dict[str, list[list[Kept]]] = {policy: [] for policy in arguments.policies}
    for (policy, _), part in zip(jobs, track(results, "Splits", total=len(jobs), console=console), strict=True):
        kept[policy] += part
    found = {
        policy: [
            {"floor": promise.floor, "confidence": promise.confidence, **_summary([split[i] for split in splits])}
            for i, promise in enumerate(_PROMISES)
        ]
        for policy, splits in kept.items()
    }
    console.print(_table(found))
    seconds = time.perf_counter() - started
    console.print(f"{seconds:.0f} s")
    _write(arguments, source, found, prepared, seconds)
    headlines = [own[_PROMISES.index(_HEADLINE)] for own in found.values()]
    if all(h["coverage"]["share"] >= _HEADLINE.confidence and (h["saving_mean"] or 0.0) > 0.0 for h in headlines):
        return 0
    console.print("[red]the promise does not hold, or saves nothing[/red]")
    return 1


def _some(prepared: Prepared, policy: str, seeds: list[int]) -> list[list[Kept]]:
    """What every promise came to on some splits; runs in a process of its own."""
    return [_split(prepared, Setting(policy=policy), seed) for seed in seeds]


def _split(prepared: Prepared, setting: Setting, seed: int) -> list[Kept]:
    """Fit once, then make every promise."""
    fit, calibration, test, drawn = _parts(prepared, seed)
    asked = ask(setting, prepared, fit, prepared, np.concatenate([calibration, test]))
    rows = np.arange(len(calibration) + len(test))
    return [_kept(promise, asked, rows[: len(calibration)], rows[len(calibration) :], drawn) for promise in _PROMISES]


def _kept(promise: Promise, asked: Asked, calibration: Ints, test: Ints, drawn: Ints) -> Kept:
    """One promise: rows of `asked` to calibrate with and to test, and as many drawn with replacement from all."""
    reference = asked.reference(promise.of)
    again = _picked(promise, asked, reference, drawn)
    exact = again is None or _quality(asked, reference, again, np.arange(len(reference))) >= promise.floor
    picked = _picked(promise, asked, reference, calibration)
    if picked is None:
        return Kept(certified=False, covered=True, covered_exactly=exact)
    quality = _quality(asked, reference, picked, test)
    own_usd = asked.expected.cost_usd[picked, test].mean(dtype=np.float64)
    saving = float(1.0 - own_usd / asked.cost_usd[test, asked.best_single].mean())
    return Kept(certified=True, covered=quality >= promise.floor, covered_exactly=exact, saving=saving, quality=quality)


def _summary(splits: list[Kept]) -> dict[str, Any]:
    """Shares over splits; means over those in which something was certified."""
    saving = [s.saving for s in splits if s.saving is not None]
    quality = [s.quality for s in splits if s.quality is not None]
    return {
        "splits": len(splits),
        "not_certified": sum(not s.certified for s in splits) / len(splits),
        "coverage": _share([s.covered for s in splits]),
        "coverage_where_certified": _share([s.covered for s in splits if s.certified]),
        "coverage_exact": _share([s.covered_exactly for s in splits]),
        "saving_mean": float(np.mean(saving)) if saving else None,
        "saving_sd": float(np.std(saving, ddof=1)) if len(saving) > 1 else None,
        "quality_kept_mean": float(np.mean(quality)) if quality else None,
    }


def _parts(prepared: Prepared, seed: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Rows to fit on, calibrate with and test; and, as positions in the last two together, a draw with replacement."""
    rank = hash_order(prepared.table.prompts, salt=f"conformal {seed}")
    order = np.argsort(rank)
    order = order[prepared.table.complete()[order]]
    first, second = np.searchsorted(rank[order], [_FIT, _FIT + _CALIBRATE])
    held_out = len(order) - first
    drawn = np.random.default_rng(seed).integers(0, held_out, second - first)
    return order[:first], order[first:second], order[second:], drawn


def _picked(promise: Promise, asked: Asked, reference: Floats, rows: Ints) -> int | None:
    """The dial that `tune` would pick from these calibration rows."""
    quality = asked.expected.quality[:, rows]
    certified = certify(quality, reference[rows], promise).certified
    return int(asked.expected.cost_usd[:certified, rows].mean(axis=1, dtype=np.float64).argmin()) if certified else None


def _quality(asked: Asked, reference: Floats, dial: int, rows: Ints) -> float:
    """Routed quality as a share of the reference's."""
    return float(asked.expected.quality[dial, rows].mean(dtype=np.float64) / reference[rows].mean())


def _share(of: list[bool]) -> dict[str, Any]:
    """A share with its 95 % interval (Clopper and Pearson 1934)."""
    hits, count = sum(of), len(of)
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return {"share": hits / count if count else None, "low": low, "high": high, "of": count}


def _table(found: dict[str, list[dict[str, Any]]]) -> Table:
    columns = ("policy", "floor", "confidence", "coverage (test)", "exact", "saving", "quality kept", "not certified")
    table = Table(*columns, title="Promises kept over random splits")
    for policy, rows in found.items():
        for row in rows:
            test, exact = row["coverage"], row["coverage_exact"]
            table.add_row(
                policy,
                f"{row['floor']:g}",
                f"{row['confidence']:g}",
                f"{test['share']:.3f} [{test['low']:.3f}, {test['high']:.3f}]",
                f"{exact['share']:.3f} [{exact['low']:.3f}, {exact['high']:.3f}]",
                "-" if row["saving_mean"] is None else f"{row['saving_mean']:.1%}",
                "-" if row["quality_kept_mean"] is None else f"{row['quality_kept_mean']:.3f}",
                f"{row['not_certified']:.1%}",
            )
    return table


def _write(
    arguments: argparse.Namespace, source: Path, found: dict[str, Any], prepared: Prepared, seconds: float
) -> None:
    packages = ("router-gateway", "onnxruntime", "faiss-cpu", "numpy", "scipy")
    result = {
        "command": "make conformal",
        "set": source.name,
        "seed": arguments.seed,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "reference": _HEADLINE.of,
        "headline": {"policy": arguments.policies[0], "floor": _HEADLINE.floor, "confidence": _HEADLINE.confidence},
        "queries": len(prepared),
        "shares": {"fitted": _FIT, "calibrated": _CALIBRATE, "tested": round(1.0 - _FIT - _CALIBRATE, 6)},
        "seconds": round(seconds),
        "policies": found,
    }
    _RESULTS.parent.mkdir(parents=True, exist_ok=True)
    _RESULTS.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/cascades.parquet", help="outcomes in the common schema")
    parser.add_argument("--policies", nargs="+", default=["knn", "linear"])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--cache", default=str(default_cache()), help="folder of cached vectors")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
