"""`python -P benchmarks/decision.py`: how long one routing decision takes, from text to choice, by policy and by stage.

Texts of about a hundred tokens on a dozen subjects; outcomes of a pool that is good at different ones. Policies learn
from `--rows` of them; then other texts are encoded and routed one at a time, on one thread, the policies in turn within
a round, so that a busy moment meets all of them. The garbage collector is frozen, as in a gateway.

Every stage is told in microseconds of wall clock (p50, p99, least) and as a share of the slowest stage of its policy:
shares and least times say the same on a busy machine. Writes JSON with `--out FILE`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from router_gateway import registry
from router_gateway.core.experience import Experience
from router_gateway.core.ids import uuid7
from router_gateway.core.protocols import Embedder
from router_gateway.core.types import Endpoint, Floats, Ints, NamedPolicy, Queries, Query, Scores
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.router import Router
from router_gateway.routing.rules import InverseGap
from router_gateway.routing.together import TOGETHER_MAX

POLICIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "knn": ("knn", {"k": 160}),
    "linear": ("linear", {}),
    "clusters": ("clusters", {}),
    "lexical": ("lexical", {}),
    "forest": ("forest", {}),
    "stack": ("stack", {}),
}
"""What is measured, by label: a registered name and its parameters."""

STAGES = ("embed", "score", "rest", "route", "whole", "together")
"""Encoding the text; the policy's `score`; everything else of `Router.route`; all of it; text to choice; `Router.route`
a query where as many as a gateway decides together are (routing/together.py)."""

_COMMON = (
    "the of and to in is that for it with as on be at by this have from or an are not what which when how can you your "
    "please give me one more than other some about into only then there these two who would could explain write find "
    "following answer question"
)
_SUBJECTS = (
    "sum integral matrix proof theorem prime equation angle fraction vector limit root",
    "python function loop string class compile pointer recursion stack test bug array",
    "contract clause court liability tenant statute damages appeal jury breach party notice",
    "cell protein enzyme gene membrane mutation species bacteria tissue receptor dna plant",
    "force energy velocity mass photon orbit circuit wave pressure heat field friction",
    "king empire war treaty revolution colony dynasty army century parliament trade slave",
    "price market inflation tax demand profit bond interest wage budget labour stock",
    "patient dose symptom fever surgery tumour diagnosis kidney infection pain nurse heart",
    "novel poem verse metaphor character chapter author irony drama rhyme sonnet prose",
    "oven flour butter garlic simmer recipe sauce bake onion pepper salt boil",
    "acid bond ion catalyst oxide polymer solvent reaction molar salt electron base",
    "virtue duty mind ethics argument belief reason cause freedom truth moral self",
)
_WORDS_A_TEXT = 75  # about a hundred tokens
_OUTCOMES_SEED, _ASKED_SEED = 1, 2
_WORTH_USD = 0.02
_WARM_UPS = 50


@dataclass(slots=True, kw_only=True)
class Clocked:
    """A fitted policy that notes how long its last `score` took."""

    policy: Any
    took_ns: int = 0

    def score(self, queries: Queries) -> Scores:
        began = time.perf_counter_ns()
        scores: Scores = self.policy.score(queries)
        self.took_ns = time.perf_counter_ns() - began
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One policy under measurement, and its times in nanoseconds by stage."""

    router: Router
    clocked: Clocked
    fit_s: float
    arrays_mib: float
    times: dict[str, list[int]] = field(default_factory=lambda: {stage: [] for stage in STAGES})


def texts(count: int, *, seed: int) -> tuple[tuple[str, ...], Ints]:
    """`count` texts, and the subject (count,) of each; half of a text's words are its subject's."""
    rng = np.random.default_rng(seed)
    words = [np.array([*_COMMON.split(), *subject.split()]) for subject in _SUBJECTS]
    subject = rng.integers(0, len(_SUBJECTS), count)
    common = len(_COMMON.split())
    chance = [np.repeat([0.5 / common, 0.5 / (len(own) - common)], [common, len(own) - common]) for own in words]
    return tuple(" ".join(rng.choice(words[s], _WORDS_A_TEXT, p=chance[s])) for s in subject), subject


def pool(count: int) -> tuple[Endpoint, ...]:
    """Endpoints of rising price."""
    return tuple(
        Endpoint(
            name=f"maker/model-{i}",
            model=f"model-{i}",
            price_input_usd_per_mtok=Decimal(i + 1),
            price_output_usd_per_mtok=Decimal(4 * i + 4),
            price_cached_input_usd_per_mtok=Decimal(0),
            price_cache_write_usd_per_mtok=Decimal(0),
            context_tokens_max=128_000,
            offers=frozenset({"tools", "json"}),
        )
        for i in range(count)
    )


def outcomes(embedder: Embedder, endpoints: Sequence[Endpoint], rows: int) -> Experience:
    """Zero or one for every text and endpoint, by how good the endpoint is at the text's subject."""
    text, subject = texts(rows, seed=_OUTCOMES_SEED)
    rng = np.random.default_rng(_OUTCOMES_SEED)
    chance = rng.random((len(_SUBJECTS), len(endpoints)))[subject]
    vectors = np.concatenate([embedder.embed(text[start : start + 256]) for start in range(0, rows, 256)])
    queries = Queries(
        text=text, embedding=vectors, tokens_input=np.full(rows, 100, dtype=np.int64), space=embedder.space
    )
    quality = (rng.random(chance.shape) < chance).astype(np.float32)
    return Experience.from_table(queries, [endpoint.name for endpoint in endpoints], quality)


def subject(label: str, experience: Experience, endpoints: tuple[Endpoint, ...]) -> Subject:
    """A policy that has learned, in a router of its own."""
    name, parameters = POLICIES[label]
    started = time.perf_counter()
    policy = registry.create(name, parameters).fit(experience)
    fit_s = time.perf_counter() - started
    clocked: Any = Clocked(policy=policy)
    named = NamedPolicy(name=name, version=1, policy=clocked)
    router = Router(
        endpoints=endpoints,
        default_endpoint=endpoints[0].name,
        live=lambda: named,
        cost=TokenPriceCost(endpoints=endpoints),
        rule=InverseGap(gamma=2_000.0),
        space=experience.queries.space,
        worth_usd=_WORTH_USD,
    )
    return Subject(router=router, clocked=clocked, fit_s=fit_s, arrays_mib=arrays_mib(policy))


def arrays_mib(thing: object) -> float:
    """Memory of all numpy arrays that can be reached from an object, each counted once; not what FAISS holds."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type | Callable):
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            whole = one if one.base is None else one.base
            found[id(whole)] = getattr(whole, "nbytes", one.nbytes)
        else:
            waiting += gc.get_referents(one)
    return sum(found.values()) / 2**20


def decide(one: Subject, embedder: Embedder, text: str, *, counted: bool) -> None:
    """One decision, timed by stage."""
    query = Query(id=uuid7(), text=text, tokens_input=100)
    clock = time.perf_counter_ns
    began = clock()
    vector = embedder.embed([text])
    embedded = clock()
    one.router.route([query], vector)
    routed = clock()
    if counted:
        score_ns = one.clocked.took_ns
        took = (embedded - began, score_ns, routed - embedded - score_ns, routed - embedded, routed - began)
        for stage, each in zip(STAGES[:-1], took, strict=True):
            one.times[stage].append(each)


def decide_together(one: Subject, asked: Sequence[str], vectors: Floats) -> None:
    """Texts, with their vectors (Q, d), decided in batches as a gateway under load would, timed a query."""
    for start in range(0, len(vectors), TOGETHER_MAX):
        batch = vectors[start : start + TOGETHER_MAX]
        queries = [Query(id=uuid7(), text=text, tokens_input=100) for text in asked[start : start + TOGETHER_MAX]]
        began = time.perf_counter_ns()
        one.router.route(queries, batch)
        one.times["together"].append((time.perf_counter_ns() - began) // len(batch))


def measure(subjects: Mapping[str, Subject], embedder: Embedder, asked: Sequence[str], rounds: int) -> None:
    """`rounds` times every text by every policy, in turn."""
    for one in subjects.values():
        for text in asked[:_WARM_UPS]:
            decide(one, embedder, text, counted=False)
    vectors = embedder.embed(asked)
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            for one in subjects.values():
                for text in asked:
                    decide(one, embedder, text, counted=True)
                decide_together(one, asked, vectors)
    finally:
        gc.unfreeze()


def told(times: Mapping[str, Sequence[int]]) -> dict[str, dict[str, float]]:
    """Microseconds by stage, and the median as a share of that of the slowest part."""
    slowest = max(float(np.median(times[stage])) for stage in ("embed", "score", "rest"))
    return {
        stage: {
            "p50_us": float(np.median(took)) / 1e3,
            "p99_us": float(np.percentile(took, 99)) / 1e3,
            "least_us": float(np.min(took)) / 1e3,
            "of_slowest": float(np.median(took)) / slowest,
        }
        for stage, took in times.items()
    }


def _table(found: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"{'p50 / p99 / least, us':22}" + "".join(f"{stage:>24}" for stage in STAGES)]
    for label, row in found.items():
        cells = (row["stages"][stage] for stage in STAGES)
        told = "".join(f"{c['p50_us']:>10.0f}{c['p99_us']:>7.0f}{c['least_us']:>7.0f}" for c in cells)
        lines.append(f"{label:22}{told}   arrays {row['arrays_mib']:.1f} MiB, fitted in {row['fit_s']:.1f} s")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _arguments(arguments)
    embedder = Encoder.named(chosen.encoder).build()
    endpoints = pool(chosen.endpoints)
    experience = outcomes(embedder, endpoints, chosen.rows)
    asked, _ = texts(chosen.queries, seed=_ASKED_SEED)
    with threadpool_limits(limits=1):
        subjects = {label: subject(label, experience, endpoints) for label in chosen.policies}
        measure(subjects, embedder, asked, chosen.rounds)
    found = {
        label: {"stages": told(one.times), "fit_s": one.fit_s, "arrays_mib": one.arrays_mib}
        for label, one in subjects.items()
    }
    print(_table(found))
    if chosen.out is not None:
        result = {
            "command": "python -P benchmarks/decision.py",
            "settings": {name: getattr(chosen, name) for name in ("rows", "endpoints", "queries", "rounds", "encoder")},
            "versions": {"python": platform.python_version(), "numpy": version("numpy"), "faiss": version("faiss-cpu")},
            "load_before": os.getloadavg()[0],
            "policies": found,
        }
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=30_000, help="distinct texts that the policies learn from")
    parser.add_argument("--endpoints", type=int, default=11)
    parser.add_argument("--queries", type=int, default=300, help="texts that are routed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", default="hashing", help="as in a configuration's embedder.kind")
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--out", type=Path)
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
