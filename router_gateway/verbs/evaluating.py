"""The verb `evaluate`: policies on anybody's recorded outcomes, from one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from router_gateway.core.types import Endpoint
    from router_gateway.evaluation.embeddings import Encoder
    from router_gateway.evaluation.results import EvaluationResult

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a label, a context manager whose value is called with (done, total)."""

Sources = Annotated[
    list[str],
    typer.Argument(
        help="FILE[:SPLIT] in the common schema, an exported ledger, a RouterBench pickle, or paretobandit[:val]."
    ),
]
Policies = Annotated[
    str,
    typer.Option(
        help="Comma-separated; knn:k=40 sets a parameter, knn@learned predicts each query's cost. Default: all."
    ),
]
Protocols = Annotated[
    str, typer.Option(help="Comma-separated: pooled, tasks, dynamic, probes, robustness. Default: all that fit.")
]
Seeds = Annotated[int, typer.Option(help="Random splits per protocol.")]
BackendName = Annotated[str, typer.Option("--backend", help="threads, processes, dask or ray.")]
Workers = Annotated[int, typer.Option(help="Jobs at a time; default: one per core.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a running Dask or Ray cluster.")]
Out = Annotated[Path, typer.Option(help="Folder for report.html, evaluation.json, results.json and finished jobs.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for vectors; default: the user's cache folder.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Use this configuration's encoder, endpoints and prices.")
]
Embedder = Annotated[str, typer.Option(help="static (a table), onnx (a transformer), onnx-int8, sentence, hashing.")]
Cascades = Annotated[int, typer.Option(help="Offer this many cascades besides: what routing with a judge would add.")]
JudgeError = Annotated[float, typer.Option(help="How often the cascades' judge misreads an answer; 0.5 is a coin.")]
Pictures = Annotated[Path | None, typer.Option(help="Folder for the main charts as PNG (needs matplotlib).")]
Page = Annotated[
    Path | None,
    typer.Option("--tables", help="Markdown file to write the tables into, between its two marks; made if missing."),
]
Select = Annotated[bool, typer.Option("--select", help="Choose parameters by cross-validation inside train.")]


def command(progress: Progress) -> Callable[..., None]:
    """The function that typer runs; `progress` draws its bars."""

    def evaluate(
        sources: Sources,
        policies: Policies = "",
        protocols: Protocols = "",
        seeds: Seeds = 10,
        backend: BackendName = "processes",
        workers: Workers = 0,
        scheduler: Scheduler = None,
        out: Out = Path("evaluation"),
        cache: Cache = None,
        config: Config = None,
        embedder: Embedder = "static",
        select: Select = False,
        cascades: Cascades = 0,
        judge_error: JudgeError = 0.0,
        pictures: Pictures = None,
        page: Page = None,
    ) -> None:
        """Judge policies on recorded outcomes: curves, AIQ and the share of the gap to the oracle that each closes."""
        from router_gateway.evaluation.backends import Backend
        from router_gateway.evaluation.command import Options
        from router_gateway.evaluation.command import evaluate as run
        from router_gateway.evaluation.logged import is_logged
        from router_gateway.evaluation.protocols import PROTOCOLS

        if logged := [source for source in sources if is_logged(source)]:
            _judge_logged(logged, _listed(policies), config, out, progress)
        sources = [source for source in sources if source not in logged]
        if not sources:
            return
        encoder, pool = _configured(config, embedder)
        _check(pictures, page)
        options = Options(
            policies=_listed(policies),
            protocols=_listed(protocols) or tuple(PROTOCOLS),
            seeds=seeds,
            backend=cast(Backend, backend),
            workers=workers or os.cpu_count() or 1,
            scheduler=scheduler,
            cache=cache,
            encoder=encoder,
            pool=pool,
            select=select,
            cascades=cascades,
            judge_error=judge_error,
            command=" ".join(["router-gateway", *sys.argv[1:]]),
        )
        result = run(sources, options, out=out, progress=progress)
        _show(result, out / "cascades.json" if cascades else None)
        typer.echo(f"written: {', '.join(map(str, _written(result, out, pictures, page)))}")

    return evaluate


def _show(result: EvaluationResult, cascades: Path | None) -> None:
    """On the terminal: the tables, what cascades would add, and what could not be judged."""
    from rich.console import Console

    from router_gateway.evaluation import cascading
    from router_gateway.evaluation.command import tables

    console = Console()
    for table in (*tables(result), *(cascading.tables(cascades) if cascades is not None else ())):
        console.print(table)
    for note in result.notes:
        typer.echo(note, err=True)


def _judge_logged(
    sources: list[str], policies: tuple[str, ...], config: Path | None, out: Path, progress: Progress
) -> None:
    """Exported ledgers: greedily and under the configured rule, at the costs that the gateway expected."""
    from rich.console import Console

    from router_gateway import config as configuration
    from router_gateway.brain import build_rule
    from router_gateway.evaluation.logged_command import evaluate_logged, tables

    rule = None if config is None else build_rule(configuration.load(config))
    for table in tables(evaluate_logged(sources, policies, out=out, progress=progress, rule=rule)):
        Console().print(table)
    typer.echo(f"written: {out / 'logged.json'}")


def _check(pictures: Path | None, page: Path | None) -> None:
    """What cannot be written is told before hours of work, not after."""
    from router_gateway.evaluation.report_markdown import check_tables
    from router_gateway.evaluation.report_pictures import check_pictures

    if pictures is not None:
        check_pictures()
    if page is not None:
        check_tables(page)


def _written(result: EvaluationResult, out: Path, pictures: Path | None, page: Path | None) -> list[Path]:
    """The report and whatever else was asked for; all paths, those that are written already first."""
    from router_gateway.evaluation.report import write_report
    from router_gateway.evaluation.report_markdown import write_tables
    from router_gateway.evaluation.report_pictures import write_pictures

    written = [out / "evaluation.json", out / "results.json", write_report(result, out / "report.html")]
    drawn = write_pictures(result, pictures) if pictures is not None else ()
    written += [path for own in drawn for path in own]
    if page is not None:
        written.append(write_tables(result, page, pictures=drawn))
    return written


def _configured(config: Path | None, embedder: str) -> tuple[Encoder, tuple[Endpoint, ...]]:
    """Encoder and pool: a configuration's, or the one named and the recorded endpoints."""
    from router_gateway.evaluation.embeddings import Encoder

    if config is None:
        return Encoder.named(embedder), ()
    from router_gateway import config as configuration
    from router_gateway.brain import build_endpoints

    loaded = configuration.load(config)
    return Encoder(kind=loaded.embedder.kind, model=loaded.embedder.model), build_endpoints(loaded)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
