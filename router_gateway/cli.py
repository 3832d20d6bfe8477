"""The command line. Every import of weight happens inside the verb that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router_gateway.core import collector
from router_gateway.core.errors import GatewayError
from router_gateway.verbs import (
    admitting,
    auditing,
    budgeting,
    ending,
    evaluating,
    onboarding,
    pruning,
    releasing,
    reporting,
    showing,
    teaching,
    training,
    tuning,
)

if TYPE_CHECKING:
    from rich.table import Table

    from router_gateway.config import Config

app = typer.Typer(
    help="A drop-in proxy in front of LLM APIs that learns which model should answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ledger_app = typer.Typer(help="The ledger's rows: export, prune, forget.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")

train_app = typer.Typer(cls=training.PoliciesByDefault, help="Learn from recorded outcomes: policies, or an encoder.")
app.add_typer(train_app, name="train")

CONFIG_FILE = Path("gateway.yaml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]
DemoOption = Annotated[bool, typer.Option("--demo", help="The bundled demo: replayed endpoints, no API key.")]


def main() -> None:
    """Entry point: a GatewayError is a message, not a traceback."""
    try:
        app()
    except GatewayError as error:
        _say_error(error)
        sys.exit(1)


@app.command()
def serve(config: ConfigOption = None, demo: DemoOption = False, dashboard: showing.Beside = None) -> None:
    """Start the gateway (and the replay endpoints, where the configuration has any)."""
    ending.take_signals()
    with collector.at_rest():
        from router_gateway.verbs.serving import serve as run

        run(_load(config, demo), source=_source(config, demo), progress=_progress, dashboard=dashboard)


@app.command(hidden=True)
def worker(
    config: ConfigOption = None,
    demo: DemoOption = False,
    fd: int = -1,
    ready_fd: int = -1,
    index: int = 0,
    counts: Path = Path("."),
    replay_url: str | None = None,
    announces: bool = False,
    dashboard: str | None = None,
) -> None:
    """Answer on an inherited socket beside other workers; `serve` starts these."""
    ending.take_signals()
    with collector.at_rest():
        from router_gateway.verbs.serving import serve_worker
        from router_gateway.verbs.workers import Worker

        own = Worker(
            fd=fd,
            ready_fd=ready_fd,
            index=index,
            counts=counts,
            replay_url=replay_url,
            announces=announces,
            dashboard=dashboard,
        )
        serve_worker(_load(config, demo), own, progress=_progress)


@app.command(hidden=True)
def replay(config: ConfigOption = None, demo: DemoOption = False, fd: int = -1, hit_log: Path | None = None) -> None:
    """Serve recorded outcomes on an inherited socket; `serve` starts this."""
    with collector.at_rest():
        from router_gateway.verbs.serving import serve_replay

        serve_replay(_load(config, demo), fd=fd, hit_log=hit_log)


@app.command()
def check(config: ConfigOption = None, demo: DemoOption = False) -> None:
    """Check configuration, policies, keys, encoder and database; changes nothing."""
    from router_gateway.verbs.checking import run_checks

    failed = False
    for result in run_checks(_load(config, demo)):
        failed |= not result.passed
        typer.echo(f"{'ok  ' if result.passed else 'FAIL'}  {result.name}: {result.detail}")
    raise typer.Exit(int(failed))


@app.command()
def explain(
    prompt: str,
    config: ConfigOption = None,
    demo: DemoOption = False,
    policy: Annotated[str | None, typer.Option(help="Policy to ask; default: the live one.")] = None,
    worth_usd: Annotated[float | None, typer.Option(help="The dial for this question.")] = None,
) -> None:
    """Show scores, prices, probabilities and choice for a prompt; nothing is called or written."""
    from rich.console import Console

    from router_gateway.verbs.checking import explain_prompt

    decision, switches = explain_prompt(
        _load(config, demo), prompt, policy=policy, worth_usd=worth_usd, progress=_progress
    )
    rows = [
        [
            name + (" *" if name == decision.endpoint else ""),
            *(f"{values[i]:{form}}" for values, form in _columns(decision)),
        ]
        for i, name in enumerate(decision.endpoints)
    ]
    title = f"{decision.policy} under {decision.rule}, worth ${decision.worth_usd:g} → {decision.endpoint}"
    table = _table(title, ["endpoint", "quality", "± stddev", "cost USD", "value", "probability"], rows)
    Console().print(table, f"reason: {decision.reason}", *switches, sep="\n")


@app.command()
def policies(name: Annotated[str | None, typer.Argument(help="Show this policy's parameters.")] = None) -> None:
    """List installed policies, or the parameters of one."""
    from rich.console import Console

    from router_gateway import registry

    if name is None:
        rows = [[info.name, info.distribution, info.version] for info in registry.available().values()]
        Console().print(_table("Policies", ["name", "distribution", "version"], rows))
        return
    info = registry.describe(name)
    properties = info.parameters.get("properties", {})
    rows = [
        [field, _type_of(schema), str(schema.get("default", "")), schema.get("description", "")]
        for field, schema in properties.items()
    ]
    Console().print(info.summary, _table(name, ["parameter", "type", "default", "meaning"], rows), sep="\n")


@train_app.command("policies")
def train_policies(
    outcomes: Annotated[str, typer.Argument(help="FILE[:SPLIT] in the common schema, or paretobandit[:val].")],
    config: ConfigOption = None,
    demo: DemoOption = False,
) -> None:
    """Fit the configured policies on recorded outcomes and save a new snapshot of each."""
    from router_gateway.brain import train as run

    for label, path in run(_load(config, demo), outcomes, _progress):
        typer.echo(f"{label} saved in {path}")


@app.command()
def migrate(config: ConfigOption = None, demo: DemoOption = False) -> None:
    """Bring the ledger's database to the newest schema."""
    from router_gateway.ledger.engine import migrate as run

    loaded = _load(config, demo)
    loaded.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    run(loaded.ledger_url)
    typer.echo("the ledger's schema is current")


@ledger_app.command("export")
def export_ledger(
    out: Annotated[Path, typer.Option(help="FILE.parquet, FILE.csv or FILE.jsonl.")],
    since: Annotated[datetime | None, typer.Option(help="From this instant on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this instant (UTC).")] = None,
    policy: Annotated[str | None, typer.Option(help="Decisions of this policy: knn, or knn@3.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Decisions of this tenant.")] = None,
    config: ConfigOption = None,
    demo: DemoOption = False,
) -> None:
    """Write decisions and their outcomes to a file that `evaluate` reads; prompts only where they are stored."""
    from router_gateway.ledger.export import export
    from router_gateway.ledger.outcome_rows import Wanted
    from router_gateway.opening import database

    start, end = (instant and instant.replace(tzinfo=UTC) for instant in (since, until))
    with database(_load(config, demo)) as engine:
        rows = export(engine, out, Wanted(since=start, until=end, policy=policy, tenant=tenant))
    typer.echo(f"{rows:,} rows written to {out}")


@app.command()
def version() -> None:
    """Print the version."""
    from router_gateway import __version__

    typer.echo(__version__)


def _load(config: Path | None, demo: bool) -> Config:
    from router_gateway import config as configuration

    return configuration.load(_source(config, demo))


def _source(config: Path | None, demo: bool) -> Path | None:
    """The file to read; None is the demo."""
    if demo and config is not None:
        raise typer.BadParameter("give either --demo or --config")
    if not demo and config is None and CONFIG_FILE.exists():
        return CONFIG_FILE
    return config


def _say_error(error: GatewayError) -> None:
    for line in error.message.splitlines():
        typer.echo(f"error: {line}", err=True)
    if error.hint:
        typer.echo(f"hint:  {error.hint}", err=True)


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, one line elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    seen = sys.stderr.isatty() and "CI" not in os.environ
    if not seen:
        typer.echo(f"{label} …", err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not seen) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _columns(decision: Any) -> list[tuple[list[float], str]]:
    value = [q - c / decision.worth_usd for q, c in zip(decision.quality, decision.cost_usd, strict=True)]
    return [
        (decision.quality, ".3f"),
        (decision.stddev, ".3f"),
        (decision.cost_usd, ".6f"),
        (value, ".3f"),
        (decision.probability, ".3f"),
    ]


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def _type_of(schema: dict[str, Any]) -> str:
    bounds = [f"{name} {schema[name]}" for name in ("minimum", "exclusiveMinimum", "maximum") if name in schema]
    return ", ".join([str(schema.get("type", "")), *bounds])


app.command("audit")(auditing.audit_command(_source))
app.command("forecast")(auditing.forecast_command(_source))
app.command("dashboard")(showing.command())
app.command("evaluate")(evaluating.command(_progress))
app.command("tune")(tuning.command(_progress))
app.command("learn")(teaching.command(_progress, _source))
app.command("onboard")(onboarding.command(_progress, _source))
app.add_typer(admitting.verbs(_source), name="keys")
app.add_typer(budgeting.verbs(_source), name="budgets")
app.add_typer(releasing.verbs(_source, _progress), name="lifecycle")
app.add_typer(reporting.verbs(_source), name="report")
pruning.add(ledger_app, _source)
train_app.command("encoder")(training.command(_progress))


if __name__ == "__main__":
    main()
