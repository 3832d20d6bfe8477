"""The verb `report judges`: how good the endpoints are by judges and truth together, and what judges are worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from router_gateway.evaluation.judge_bias import Interval, JudgeReport
    from router_gateway.evaluation.prediction_powered import Estimate

Since = Annotated[datetime | None, typer.Option(help="What was said from this instant on (UTC).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="The bundled demo: replayed endpoints, no API key.")]

_NOTHING = "-"


def command(source: Callable[[Path | None, bool], Path | None]) -> Callable[..., None]:
    """The function that typer runs; `source` finds the configuration file."""

    def judges(since: Since = None, as_json: AsJson = False, config: ConfigFile = None, demo: Demo = False) -> None:
        """Quality by endpoint from judges and truth together, with intervals; the judges' bias against the truth."""
        from rich.console import Console

        from router_gateway import config as configuration
        from router_gateway.evaluation.judge_bias import report_of
        from router_gateway.ledger.engine import migrate
        from router_gateway.opening import database

        loaded = configuration.load(source(config, demo))
        loaded.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        migrate(loaded.ledger_url)
        with database(loaded) as engine:
            found = report_of(engine, loaded.learning.truth, since=since and since.replace(tzinfo=UTC))
        if as_json:
            typer.echo(json.dumps(found.as_dict(), indent=2))
            return
        if not found.endpoints and not found.judges:
            typer.echo("no judge and no true source has said anything yet (docs/feedback.md)")
            return
        Console().print(*_tables(found))

    return judges


def _tables(found: JudgeReport) -> list[Any]:
    quality = _table(
        "Mean quality, with 95 % intervals",
        ("endpoint", "truth alone", "judges alone", "both (prediction-powered)", "weight of judges"),
    )
    for each in found.endpoints:
        power = None if each.powered is None else each.powered.power
        cells = _estimate(each.labels), _interval(each.judged), _estimate(each.powered)
        quality.add_row(each.endpoint, *cells, _NOTHING if power is None else f"{power:.2f}")
    differences = _table("Differences, by both", ("endpoint", "less", "quality"))
    for apart in found.differences:
        differences.add_row(apart.endpoint, apart.other, _estimate(apart.quality))
    judges = _table(
        "Judges: score less truth",
        (
            "judge",
            "scores",
            "bias",
            "correlation",
            "per doubling of length",
            "first preferred",
            "contradictions",
            "longer",
        ),
    )
    for judge in found.judges:
        correlation = _NOTHING if judge.correlation is None else f"{judge.correlation:.2f}"
        shares = (_interval(share) for share in (judge.length, judge.first, judge.contradicted, judge.longer))
        judges.add_row(judge.judge, f"{judge.scores:,}", _interval(judge.bias), correlation, *shares)
        for name, bias in judge.bias_by_endpoint.items():
            judges.add_row(f"  of {name}", "", _interval(bias))
    return [quality, *([differences] if found.differences else []), judges]


def _table(title: str, columns: tuple[str, ...]) -> Any:
    from rich.table import Table

    return Table(*columns, title=title)


def _estimate(found: Estimate | None) -> str:
    if found is None:
        return _NOTHING
    judged = f" + {found.predictions:,}" if found.predictions else ""
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}] (n={found.labels:,}{judged})"


def _interval(found: Interval | None) -> str:
    return _NOTHING if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}] (n={found.count:,})"
