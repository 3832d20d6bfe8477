"""`make coldstart`: what a gateway that was told only its endpoints' abilities does, and how fast it gets better.

On cascades (train split as traffic, test split to judge) the prior that is shipped, which has seen nothing of that set;
on fourtier (70 % and 30 %, another cut per seed) a prior made like it without fourtier and paretobandit, whose prompts
these are. An ability is declared as the mean quality on the traffic, rounded to 0.01 or to 0.05; `rough` adds an error
of standard deviation 0.1 before. The policy, with its defaults, is fitted on the prior; the traffic is drawn by
`InverseGap`, and only what the endpoint that served was worth is ever learned.

    prior            the starter prior
    abilities alone  the same without difficulty: every prompt alike
    no prior         no abilities; the first answers are of endpoints drawn evenly, and fit the policy

Gap closed: (AIQ - zero router) / (oracle - zero router) on the judging prompts, swept over the dial; the zero router
knows every endpoint's mean on those very prompts, which nobody was told. Writes docs/results/coldstart.json; intervals
are 95 % bootstrap intervals over seeds, and over prompts for the prior untaught.
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
import starter_prior

from router_gateway import registry
from router_gateway.core.errors import GatewayError
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import Policy, StartsFromPrior
from router_gateway.core.types import Bools, Floats, Ints, Queries
from router_gateway.embedding.static import StaticEmbedder
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.bootstrap import interval, resampled_means
from router_gateway.evaluation.fitting import embed_all, read_source
from router_gateway.evaluation.judging import as_json
from router_gateway.evaluation.metrics import (
    Curve,
    aiq,
    endpoint_points,
    gap_closed,
    hull,
    oracle_curve,
    zero_router,
)
from router_gateway.evaluation.sweep import dial_grid
from router_gateway.learning.starter import StarterPrior
from router_gateway.routing.rules import InverseGap

AFTER = (0, 50, 200, 1_000)
ROWS = ("prior", "abilities alone", "no prior")
MANNERS = ("to 0.01", "to 0.05", "rough")
_BATCH = 25
_JUDGED_MAX = 2_000
_RESAMPLES = 2_000
_PROMPT_RESAMPLES = 200
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Prompts with vectors, and what every endpoint would bring and cost: (Q, E), known everywhere."""

    vectors: Floats
    quality: Floats
    cost_usd: Floats
    space: str

    def take(self, rows: Ints | Bools) -> World:
        return replace(self, vectors=self.vectors[rows], quality=self.quality[rows], cost_usd=self.cost_usd[rows])

    def queries(self, rows: Ints | slice = slice(None)) -> Queries:
        vectors = self.vectors[rows]
        return Queries(
            text=("",) * len(vectors),
            embedding=vectors,
            tokens_input=np.full(len(vectors), 100, dtype=np.int64),
            space=self.space,
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"e{column}" for column in range(self.quality.shape[1]))


def world_of(table: Benchmark, embedder: StaticEmbedder) -> tuple[World, Bools]:
    """The prompts of which everything is known, and which of them the source calls training."""
    known = np.isfinite(table.quality).all(axis=1) & np.isfinite(table.cost_usd).all(axis=1)
    kept = table.select(np.flatnonzero(known))
    world = World(
        vectors=embed_all(embedder, kept.prompts),
        quality=kept.quality.astype(np.float64),
        cost_usd=kept.cost_usd,
        space=embedder.space,
    )
    return world, np.array([split == "train" for split in kept.splits])


def gap(policy: Policy, judged: World, mean_usd: Floats) -> float:
    """Gap closed of a policy's estimates at constant mean costs (E,)."""
    estimate = policy.score(judged.queries()).align(judged.names).quality.astype(np.float64)
    return _gap(estimate, judged, mean_usd)


def _gap(estimate: Floats, judged: World, mean_usd: Floats) -> float:
    rows, points = np.arange(len(estimate)), []
    for worth_usd in dial_grid(mean_usd):
        column = (estimate - mean_usd / worth_usd).argmax(axis=1)
        points.append((judged.cost_usd[rows, column].mean(), judged.quality[rows, column].mean()))
    own = hull(Curve(cost_usd=np.array([c for c, _ in points]), quality=np.array([q for _, q in points])))
    ends = endpoint_points(judged.quality, judged.cost_usd)
    zero, best = zero_router(ends), oracle_curve(judged.quality, judged.cost_usd)
    return gap_closed(aiq(own, ends), aiq(zero, ends), aiq(best, ends))


def abilities(traffic: World, manner: str, rng: np.random.Generator) -> dict[str, float]:
    """As an operator might declare them, in one of MANNERS."""
    mean = traffic.quality.mean(axis=0)
    if manner == "rough":
        mean = mean + rng.normal(0.0, 0.1, len(mean))
    step = 0.01 if manner == "to 0.01" else 0.05
    return dict(zip(traffic.names, np.clip(np.round(mean / step) * step, 0.05, 0.95).tolist(), strict=True))


def started(
    row: str, policy: Policy, prior: StarterPrior, declared: Mapping[str, float], embedder: StaticEmbedder
) -> Policy:
    """The policy before anybody was asked anything."""
    if row == "no prior":
        return policy
    if row == "abilities alone":
        flat, text_flat = np.zeros_like(prior.ease), np.zeros_like(prior.text_ease)
        prior = replace(prior, ease=flat, slope=flat, text_ease=text_flat, text_slope=1.0 + text_flat)
    if isinstance(policy, StartsFromPrior):
        return policy.start(prior.prior(declared))
    return policy.fit(prior.experience(declared, embedder))


def taught(policy: Policy, row: str, traffic: World, rng: np.random.Generator, judged: World) -> dict[int, float]:
    """Gap closed after so many outcomes; the policy decides who is asked, and learns of nobody else."""
    mean_usd = traffic.cost_usd.mean(axis=0)
    rule, worth_usd = InverseGap(), _chord(traffic)
    found = {} if row == "no prior" else {0: gap(policy, judged, mean_usd)}
    order = rng.permutation(len(traffic.vectors))[: AFTER[-1]]
    known = row != "no prior"
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        value = np.zeros((len(rows), len(traffic.names)))
        if known:
            value = policy.score(traffic.queries(rows)).align(traffic.names).quality - mean_usd / worth_usd
        columns = np.argsort(mean_usd, kind="stable")
        odds = (
            rule.probabilities(value[:, columns], np.ones(value.shape, dtype=bool))
            if known
            else value + 1 / len(columns)
        )
        chosen = columns[(odds.cumsum(axis=1) > rng.random((len(rows), 1))).argmax(axis=1)]
        lesson = _outcomes(traffic, rows, chosen)
        policy = copy.deepcopy(policy).partial_fit(lesson) if known else policy.fit(lesson)
        known = True
        if (done := start + len(rows)) in AFTER:
            found[done] = gap(policy, judged, mean_usd)
    return found


def _chord(world: World) -> float:
    """The dial at which the dearest endpoint of the hull is worth as much as the cheapest."""
    ends = zero_router(endpoint_points(world.quality, world.cost_usd))
    return float((ends.cost_usd[-1] - ends.cost_usd[0]) / (ends.quality[-1] - ends.quality[0]))


def _outcomes(world: World, rows: Ints, chosen: Ints) -> Experience:
    return Experience(
        queries=world.queries(rows),
        endpoints=world.names,
        query=np.arange(len(rows)),
        endpoint=chosen.astype(np.int64),
        quality=world.quality[rows, chosen].astype(np.float32),
        cost_usd=world.cost_usd[rows, chosen],
        propensity=np.ones(len(rows), dtype=np.float32),
    )


def over_prompts(policy: Policy, judged: World, mean_usd: Floats) -> tuple[float, float]:
    """95 % bootstrap interval over the judging prompts."""
    estimate = policy.score(judged.queries()).align(judged.names).quality.astype(np.float64)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_PROMPT_RESAMPLES):
        rows = rng.integers(0, len(estimate), len(estimate))
        drawn.append(_gap(estimate[rows], judged.take(rows), mean_usd))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def references(judged: World) -> dict[str, Any]:
    """Points and areas of those who need no policy."""
    ends = endpoint_points(judged.quality, judged.cost_usd)
    zero, best = zero_router(ends), oracle_curve(judged.quality, judged.cost_usd)
    cheapest, single = int(ends.cost_usd.argmin()), int(ends.quality.argmax())
    return {
        "random": {"quality": float(ends.quality.mean()), "usd": float(ends.cost_usd.mean())},
        "cheapest": {"quality": float(ends.quality[cheapest]), "usd": float(ends.cost_usd[cheapest])},
        "best single": {"quality": float(ends.quality[single]), "usd": float(ends.cost_usd[single])},
        "zero router": {"aiq": aiq(zero, ends)},
        "oracle": {"aiq": aiq(best, ends)},
    }


def at_cost(policy: Policy, judged: World, mean_usd: Floats, worth_usd: float) -> dict[str, float]:
    """Quality and cost at the dial of the traffic, and the zero router's quality at that cost."""
    estimate = policy.score(judged.queries()).align(judged.names).quality - mean_usd / worth_usd
    column, rows = estimate.argmax(axis=1), np.arange(len(estimate))
    usd = float(judged.cost_usd[rows, column].mean())
    zero = zero_router(endpoint_points(judged.quality, judged.cost_usd))
    return {
        "quality": float(judged.quality[rows, column].mean()),
        "usd": usd,
        "zero router at that cost": float(np.interp(usd, zero.cost_usd, zero.quality)),
    }


def told(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % bootstrap interval over seeds."""
    low, high = math.nan, math.nan
    if len(values) > 1:
        low, high = interval(resampled_means(np.array(values)[:, None], resamples=_RESAMPLES))
    return {"mean": float(np.mean(values)), "low": low, "high": high}


def measure(
    name: str, world: World, train: Bools, prior: StarterPrior, embedder: StaticEmbedder, seeds: int
) -> dict[str, Any]:
    """All rows of one set, for one policy; without a split of its own, another cut for each seed."""
    found: dict[str, dict[int, list[float]]] = {}
    first: dict[str, Any] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        own = train if 0 < train.sum() < len(train) else rng.random(len(train)) < 0.7
        judged_rows = np.flatnonzero(~own)
        judged = world.take(rng.permutation(judged_rows)[:_JUDGED_MAX])
        traffic = world.take(np.flatnonzero(own))
        for manner in MANNERS:
            declared = abilities(traffic, manner, rng)
            for row in ROWS:
                if row == "no prior" and manner != MANNERS[0]:
                    continue
                label = row if row == "no prior" else f"{row}, {manner}"
                policy = started(row, registry.create(name, {}), prior, declared, embedder)
                if seed == 0 and row != "no prior":
                    mean_usd = traffic.cost_usd.mean(axis=0)
                    whole = world.take(judged_rows)
                    first[label] = {
                        "gap closed": gap(policy, whole, mean_usd),
                        "95 % over prompts": over_prompts(policy, whole, mean_usd),
                        "at the traffic's dial": at_cost(policy, whole, mean_usd, _chord(traffic)),
                    }
                for after, value in taught(policy, row, traffic, np.random.default_rng(1_000 + seed), judged).items():
                    found.setdefault(label, {}).setdefault(after, []).append(value)
        print(f"seed {seed}", file=sys.stderr, flush=True)
    return {
        "references (last cut)": references(judged),
        "untaught, first cut": first,
        "gap closed after outcomes": {
            label: {str(after): told(values) for after, values in by_count.items()} for label, by_count in found.items()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of outcome tables")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--policy", default="bandit")
    parser.add_argument("--out", type=Path, default=_RESULTS / "coldstart.json")
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    embedder = StaticEmbedder()

    def table(name: str) -> Benchmark:
        return read_source(str(arguments.data / f"{name}.parquet"))[0].deduplicated()

    without = [starter_prior.Source.of(table("mmlu_pro"), embedder), starter_prior.labelled(embedder)]
    left_out = starter_prior.fit(without).prior(without, embedder, {})
    sets = {}
    for name, prior in (("cascades", StarterPrior.read()), ("fourtier", left_out)):
        world, train = world_of(table(name), embedder)
        sets[name] = measure(arguments.policy, world, train, prior, embedder, arguments.seeds)
    result = {
        "command": "make coldstart",
        "policy": arguments.policy,
        "rule": "inverse_gap",
        "embedding_space": embedder.space,
        "seeds": arguments.seeds,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("router-gateway", "numpy")},
        "seconds": round(time.perf_counter() - started_s),
        "sets": sets,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(as_json(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for name, own in sets.items():
        print(name)
        for label, by_count in own["gap closed after outcomes"].items():
            cells = "  ".join(
                f"{after}: {100 * v['mean']:6.1f} [{100 * v['low']:.1f}, {100 * v['high']:.1f}]"
                for after, v in by_count.items()
            )
            print(f"  {label:28}{cells}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
