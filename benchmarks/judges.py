"""`make judges`: what judges are worth on recorded outcomes, where the truth of every answer is known.

Judges are made up, with faults that are known; answers and their quality are real. Many times: of each endpoint's
answers n are drawn whose truth is known as well as the judge's score, and N more that only the judge has scored. The
mean quality of the endpoint is then estimated by the labels alone, by the judge alone, and by both
(prediction-powered); a 95 % interval covers when it holds the mean over the whole table. Differences are those of each
endpoint to the dearest one.

Besides: the error that is left in judges' scores, by endpoint, when the learner's correction is fitted on such labels.
Writes docs/results/judges.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import beta

from router_gateway.core.errors import GatewayError
from router_gateway.core.types import Floats
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.prediction_powered import Estimate, mean
from router_gateway.evaluation.prepared import load_tables
from router_gateway.learning.recalibration import Recalibration
from router_gateway.ledger.judged import Graded

_LABELS = (25, 100, 400)
_JUDGED = 2_000
_PRIOR = 20.0
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "judges.json"
_SETS = ("../shared/data/cascades.parquet", "../shared/data/fourtier.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One endpoint's answers to Q prompts: quality (Q,) in [0, 1], and length as its logarithm, centred, (Q,)."""

    quality: Floats
    length: Floats


Judge = Callable[[np.random.Generator, Answers, int], Floats]
"""Scores of answers by the endpoint of that number, (Q,) in [0, 1]."""


def sharp(rng: np.random.Generator, answers: Answers, endpoint: int) -> Floats:
    """Sees most of the truth, and is generous."""
    return _clipped(0.25 + 0.65 * answers.quality + rng.normal(0, 0.1, len(answers.quality)))


def partial_to_one(rng: np.random.Generator, answers: Answers, endpoint: int) -> Floats:
    """Likewise, and gives every other endpoint 0.2 more."""
    return _clipped(sharp(rng, answers, endpoint) - 0.1 + 0.2 * (endpoint % 2))


def fond_of_length(rng: np.random.Generator, answers: Answers, endpoint: int) -> Floats:
    """Likewise, and gives 0.1 for each doubling of an answer's length."""
    return _clipped(sharp(rng, answers, endpoint) - 0.1 + 0.1 * answers.length)


def hasty(rng: np.random.Generator, answers: Answers, endpoint: int) -> Floats:
    """Takes three answers of ten for the opposite of what they are."""
    wrong = rng.random(len(answers.quality)) < 0.3
    seen = np.where(wrong, 1.0 - answers.quality, answers.quality)
    return _clipped(0.3 + 0.5 * seen + rng.normal(0, 0.1, len(seen)))


def useless(rng: np.random.Generator, answers: Answers, endpoint: int) -> Floats:
    """Never looks at the answer."""
    return _clipped(rng.normal(0.8, 0.1, len(answers.quality)))


JUDGES: Mapping[str, Judge] = {
    "sharp": sharp,
    "partial": partial_to_one,
    "length": fond_of_length,
    "hasty": hasty,
    "useless": useless,
}


@dataclass(slots=True)
class Tally:
    """How many intervals covered, and how wide they were."""

    hits: int = 0
    count: int = 0
    width: float = 0.0

    def add(self, low: float, high: float, truth: float) -> None:
        self.hits += low <= truth <= high
        self.count += 1
        self.width += high - low

    def figures(self) -> dict[str, float]:
        """Coverage with Clopper and Pearson's interval, and the mean width."""
        hits, count = self.hits, self.count
        return {
            "coverage": hits / count,
            "low": float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0,
            "high": float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0,
            "width": self.width / count,
            "intervals": count,
        }


def answers_of(benchmark: Benchmark) -> list[Answers]:
    """By endpoint; where lengths are not recorded they are all alike."""
    found = []
    for column in range(len(benchmark.endpoints)):
        known = ~np.isnan(benchmark.quality[:, column])
        size = np.nan_to_num(benchmark.tokens_output[known, column], nan=1.0).clip(1.0)
        logarithm = np.log2(size)
        quality = benchmark.quality[known, column].astype(np.float64)
        found.append(Answers(quality=quality, length=logarithm - np.median(logarithm)))
    return found


def repeated(
    pool: list[Answers], judge: Judge, labels: int, *, seeds: int, dearest: int
) -> tuple[dict[str, Tally], dict[str, Tally]]:
    """Means and differences, by estimator."""
    means: dict[str, Tally] = defaultdict(Tally)
    apart: dict[str, Tally] = defaultdict(Tally)
    truth = [float(answers.quality.mean()) for answers in pool]
    for seed in range(seeds):
        rng = np.random.default_rng((seed, labels))
        found = [estimated(rng, answers, judge, number, labels) for number, answers in enumerate(pool)]
        for number, each in enumerate(found):
            for name, estimate in each.items():
                means[name].add(estimate.low, estimate.high, truth[number])
                if number != dearest:
                    less = estimate.minus(found[dearest][name])
                    apart[name].add(less.low, less.high, truth[number] - truth[dearest])
    return means, apart


def estimated(
    rng: np.random.Generator, answers: Answers, judge: Judge, number: int, labels: int
) -> dict[str, Estimate]:
    """The three estimates from one draw, with replacement: the table's mean is then the truth."""
    drawn = rng.integers(0, len(answers.quality), labels + _JUDGED)
    asked = Answers(quality=answers.quality[drawn], length=answers.length[drawn])
    scores = judge(rng, asked, number)
    known = asked.quality[:labels]
    by_labels = mean(known, known, np.zeros(0), power=0.0)
    by_judge = mean(scores, scores, np.zeros(0), power=0.0)
    by_both = mean(known, scores[:labels], scores[labels:])
    assert by_labels is not None
    assert by_judge is not None
    assert by_both is not None
    return {"labels": by_labels, "judge": by_judge, "both": by_both}


def corrected(pool: list[Answers], judge: Judge, labels: int, *, seeds: int) -> dict[str, float]:
    """Mean absolute error of an endpoint's mean score, as said and as the learner corrects it, labels as above."""
    said, mended = [], []
    for seed in range(seeds):
        rng = np.random.default_rng((seed, labels, 1))
        rows, later = [], []
        for number, answers in enumerate(pool):
            drawn = rng.integers(0, len(answers.quality), labels + _JUDGED)
            asked = Answers(quality=answers.quality[drawn], length=answers.length[drawn])
            scores = judge(rng, asked, number)
            rows += [
                Graded(query_id=UUID(int=i), endpoint=str(number), truth=float(y), judge="j", score=float(s))
                for i, (y, s) in enumerate(zip(asked.quality[:labels], scores[:labels], strict=True))
            ]
            later.append((number, scores[labels:], float(asked.quality[labels:].mean())))
        fitted = Recalibration.of(rows, prior=_PRIOR)
        for number, scores, truth in later:
            said.append(abs(float(scores.mean()) - truth))
            better = [fitted.corrected("j", str(number), float(score)) for score in scores]
            mended.append(abs(float(np.mean(better)) - truth))
    return {"as_said": float(np.mean(said)), "corrected": float(np.mean(mended))}


def of_set(name: str, benchmark: Benchmark, *, seeds: int, console: Console) -> dict[str, Any]:
    """Every judge, every number of labels."""
    pool = answers_of(benchmark)
    dearest = int(np.nan_to_num(np.nanmean(benchmark.cost_usd, axis=0)).argmax())
    found: dict[str, Any] = {"endpoints": len(pool), "judges": {}}
    for judge_name, judge in track(JUDGES.items(), name, console=console):
        rows = {}
        for labels in _LABELS:
            means, apart = repeated(pool, judge, labels, seeds=seeds, dearest=dearest)
            rows[str(labels)] = {
                "mean": {by: tally.figures() for by, tally in means.items()},
                "difference": {by: tally.figures() for by, tally in apart.items()},
                "width_of_both_to_labels": means["both"].width / means["labels"].width,
                "error_of_scores": corrected(pool, judge, labels, seeds=min(seeds, 20)),
            }
        found["judges"][judge_name] = {"what": judge.__doc__, "labels": rows}
    return found


def shown(found: Mapping[str, Any]) -> Table:
    """The headline of each set."""
    table = Table(
        "set", "judge", "labels", "coverage: labels", "judge", "both", "width to labels'", "score error", "corrected"
    )
    for name, of in found.items():
        for judge, told in of["judges"].items():
            for labels, row in told["labels"].items():
                covers = (f"{row['mean'][by]['coverage']:.3f}" for by in ("labels", "judge", "both"))
                error = row["error_of_scores"]
                table.add_row(
                    name,
                    judge,
                    labels,
                    *covers,
                    f"{row['width_of_both_to_labels']:.2f}",
                    f"{error['as_said']:.3f}",
                    f"{error['corrected']:.3f}",
                )
    return table


def main() -> int:
    arguments, console = _arguments(), Console()
    missing = [source for source in arguments.data if not Path(source).is_file()]
    if missing:
        console.print(f"[red]{missing[0]} is not there.[/red] Name tables of outcomes with ARGS='--data FILE ...'.")
        return 2
    found = {}
    for source in arguments.data:
        [(_, table), *_] = load_tables(source)
        found[Path(source).stem] = of_set(Path(source).stem, table, seeds=arguments.seeds, console=console)
    console.print(shown(found))
    result = {
        "command": "make judges",
        "seeds": arguments.seeds,
        "judged_without_label": _JUDGED,
        "judge_prior": _PRIOR,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("router-gateway", "numpy", "scipy")},
        "sets": found,
    }
    Path(arguments.to).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return 0


def _clipped(scores: Floats) -> Floats:
    return np.clip(scores, 0.0, 1.0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(_SETS), help="tables of outcomes in the common schema")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--to", default=str(_RESULTS), help="file of the results")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
