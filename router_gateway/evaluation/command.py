"""`router-gateway evaluate`: sources in, a table on the terminal and JSON in a folder."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from router_gateway import registry
from router_gateway.core.errors import ConfigError, DataError
from router_gateway.core.types import Endpoint
from router_gateway.evaluation.backends import BACKENDS, Backend
from router_gateway.evaluation.cascading import cascade_figures
from router_gateway.evaluation.embeddings import Encoder, default_cache, embed_cached
from router_gateway.evaluation.perturb import PERTURBATIONS
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.pricing import COST_KINDS
from router_gateway.evaluation.protocols import PROTOCOLS, DoesNotFit, Variant, perturbed_queries, perturbed_rows
from router_gateway.evaluation.results import EvaluationResult, PolicyResult, SetResult
from router_gateway.evaluation.runner import Entry, plan, run
from router_gateway.evaluation.sitting import REFERENCES, Spec
from router_gateway.evaluation.summary import by_name, summarise
from router_gateway.presets import PRESETS

if TYPE_CHECKING:
    from rich.table import Table

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a label, a context manager whose value is called with (done, total)."""

SEEDS_MAX = 1_000
CASCADES = "cascades.json"
_VERSIONS = ("router-gateway", "numpy", "scikit-learn", "faiss-cpu", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `evaluate` is asked to do.

    policies : each `name`, `name:parameter=value:…` or `…@learned` to predict each query's cost, or a preset
        (`carrot`) in place of a name; empty for every installed one
    pool : endpoints whose own prices are used; empty for the recorded costs
    select : choose parameters inside train where the caller set none
    resamples : of the bootstrap over queries, on the first seed
    cascades, judge_error : how many are offered besides, see `cascading`; how often their judge is wrong
    """

    policies: tuple[str, ...] = ()
    protocols: tuple[str, ...] = tuple(PROTOCOLS)
    seeds: int = 10
    backend: Backend = "processes"
    workers: int = 2
    scheduler: str | None = None
    cache: Path | None = None
    encoder: Encoder = field(default_factory=Encoder)
    pool: tuple[Endpoint, ...] = ()
    select: bool = False
    resamples: int = 300
    cascades: int = 0
    judge_error: float = 0.0
    command: str = "router-gateway evaluate"


def evaluate(sources: Sequence[str], options: Options, *, out: Path, progress: Progress) -> EvaluationResult:
    """Judge policies on every set of `sources`; writes evaluation.json and results.json into `out`.

    Raises ConfigError for options that name nothing, DataError for files with anything wrong in them,
    before anything is embedded.
    """
    specs, protocols = chosen_specs(options), _protocols(options)
    tables = [pair for source in sources for pair in load_tables(source)]
    names = _distinct([name for name, _ in tables])
    entries = {}
    for name, (_, table) in zip(names, tables, strict=True):
        with progress(f"Embedding {name}") as advance:
            prepared = prepare(
                name,
                table,
                encoder=options.encoder,
                cache=options.cache or default_cache(),
                pool=options.pool,
                workers=options.workers,
                advance=advance,
            )
        entries[name] = _entry(prepared, options, progress, perturbed="robustness" in protocols)
    seeds = tuple(range(options.seeds))
    jobs = plan(
        entries,
        specs=specs,
        protocols=protocols,
        seeds=seeds,
        resamples=options.resamples,
        select_parameters=options.select,
    )
    with progress(f"Evaluating {len(specs)} policies") as advance:
        records = run(
            entries,
            jobs,
            folder=out / "jobs",
            backend=options.backend,
            workers=options.workers,
            scheduler=options.scheduler,
            advance=advance,
        )
    result = summarise(entries, records, command=options.command, versions=_versions(), seeds=seeds)
    _write(out / "evaluation.json", by_name(result))
    _write(out / "results.json", result.to_json())
    if options.cascades:
        with progress("Offering cascades") as advance:
            figures = cascade_figures(
                {name: entry.prepared for name, entry in entries.items()},
                specs,
                seeds=seeds,
                count=options.cascades,
                error=options.judge_error,
                backend=options.backend,
                workers=options.workers,
                scheduler=options.scheduler,
                advance=advance,
            )
        _write(out / CASCADES, figures)
    return result


def tables(result: EvaluationResult) -> list[Table]:
    """One table per set, for a terminal: policies and references under the pooled split.

    Gap closed with its 95 % interval; quality where price plays no part; USD per 1,000 requests at the quality of
    the best single endpoint; milliseconds to score one query, p50 and p99.
    """
    from rich.table import Table

    drawn = []
    for one in result.sets:
        table = Table(title=f"{one.name}: {one.queries} queries, {len(one.endpoints)} endpoints", caption=_caption(one))
        table.add_column("", no_wrap=True)
        for heading in ("AIQ", "over zero ± sd", "gap closed", "quality", "USD/1,000", "score ms"):
            table.add_column(heading, justify="right")
        learned = sorted((p for p in one.policies if not p.reference), key=lambda p: -p.aiq)
        for p in learned:
            table.add_row(*_cells(p, priced=one.priced))
        table.add_section()
        for p in one.policies:
            if p.reference:
                table.add_row(*_cells(p, priced=one.priced))
        table.add_row("zero_router", _number(one.zero, 4))
        table.add_row("oracle", _number(one.oracle, 4), _number(one.oracle - one.zero, 4), _percent(1.0))
        drawn.append(table)
    return drawn


def _entry(prepared: Prepared, options: Options, progress: Progress, *, perturbed: bool) -> Entry:
    """The set and, for `robustness`, its perturbed prompts with their vectors.

    Raises DataError for a set that cannot be split.
    """
    try:
        PROTOCOLS["pooled"].exams(prepared, 0)
    except DoesNotFit as error:
        raise DataError([f"{prepared.name}: cannot be judged: {error}"]) from error
    variants: dict[str, Variant] = {}
    try:
        rows = perturbed_rows(prepared.table) if perturbed else None
    except DoesNotFit:
        rows = None  # the protocol says so, too
    if rows is not None:
        changed = {name: perturbed_queries(prepared, name) for name in PERTURBATIONS}
        with progress(f"Embedding {prepared.name}, perturbed") as advance:
            vectors = embed_cached(
                options.encoder,
                [query.text for queries in changed.values() for query in queries],
                folder=options.cache or default_cache(),
                workers=options.workers,
                advance=advance,
            )
        for (name, queries), own in zip(changed.items(), np.split(vectors.embedding, len(changed)), strict=True):
            variants[name] = Variant(rows=rows, queries=queries, embedding=own)
    return Entry(prepared=prepared, variants=variants, fingerprint=prepared.fingerprint())


def chosen_specs(options: Options) -> list[Spec]:
    """Raises UnknownPolicy and BadParameters before any work is done."""
    chosen = options.policies or tuple(name for name in registry.available() if name not in REFERENCES)
    specs = [_spec(text) for text in dict.fromkeys(chosen)]
    for spec in specs:
        spec.build()
    return specs


def _spec(text: str) -> Spec:
    told, _, cost = text.partition("@")
    name, *settings = told.split(":")
    if cost and cost not in COST_KINDS:
        raise ConfigError([f"--policies {text}: costs are {' or '.join(COST_KINDS)}, not {cost!r}"])
    preset = {} if name in registry.available() else PRESETS.get(name, {})  # a policy goes before its namesake
    chosen = preset.get("policy", {})
    name, cost = chosen.get("name", name), cost or preset.get("cost_model", "")
    params: dict[str, Any] = dict(chosen.get("params", {}))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError([f"--policies {text}: {setting!r} is not parameter=value"])
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return Spec(name=name, params=params, label=text, cost="learned" if cost == "learned" else "mean")


def _protocols(options: Options) -> list[str]:
    problems = [
        f"--protocols {name}: there are {', '.join(PROTOCOLS)}" for name in options.protocols if name not in PROTOCOLS
    ]
    if options.backend not in BACKENDS:
        problems.append(f"--backend {options.backend}: there are {', '.join(BACKENDS)}")
    if not 1 <= options.seeds <= SEEDS_MAX:
        problems.append(f"--seeds {options.seeds}: must lie in [1, {SEEDS_MAX}]")
    if options.cascades < 0 or not 0.0 <= options.judge_error <= 0.5:
        problems.append("--cascades must be at least 0, and --judge-error lie in [0, 0.5]")
    if options.workers < 1:
        problems.append(f"--workers {options.workers}: must be at least 1")
    if problems:
        raise ConfigError(problems)
    return [name for name in PROTOCOLS if name == "pooled" or name in options.protocols]  # every table needs it


def _distinct(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return distinct


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    aside.replace(path)


def _cells(row: PolicyResult, *, priced: bool) -> list[str]:
    low, high = _percent(row.gap_closed_low), _percent(row.gap_closed_high)
    bounded = math.isfinite(row.gap_closed_low)
    timed = math.isfinite(row.score_ms_p50)
    return [
        row.name,
        _number(row.aiq, 4),
        f"{_number(row.other['gain'], 4)} ± {_number(row.other['gain_sd'], 4)}",
        _percent(row.gap_closed) + (f" ({low} to {high})" if bounded else ""),
        _number(row.quality_at_zero_price, 4),
        _number(row.cost_at_best_single_quality * 1000, 4) if priced else "–",
        f"{row.score_ms_p50:.2f}, {row.score_ms_p99:.2f}" if timed else "",
    ]


def _caption(one: SetResult) -> str:
    skipped = [f"{p.name}: not done, {p.skipped}" for p in one.protocols if p.skipped]
    return "\n".join([*one.notes, *skipped])


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else "–"
