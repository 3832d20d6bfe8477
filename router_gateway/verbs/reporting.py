"""The verbs `report`, `report reconcile`, `report reprice` and `report judges`: read-only views of the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router_gateway.core.errors import GatewayError, RequestError
from router_gateway.core.money import NUSD_PER_USD
from router_gateway.verbs import appraising
from router_gateway.verbs.budgeting import ConfigFile, Demo, parse_usd

if TYPE_CHECKING:
    from router_gateway.config import Config
    from router_gateway.ledger.reconcile import Line, Reconciliation

Source = Callable[[Path | None, bool], Path | None]
DIFFERS = 3
"""Exit status of `reconcile` where a line needs a look."""

By = Annotated[str, typer.Option(help="endpoint, day or tenant.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs; amounts are whole nano-dollars.")]
Since = Annotated[datetime | None, typer.Option(help="From this instant on (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Before this instant (UTC).")]
Invoice = Annotated[Path, typer.Argument(help="CSV with a date, a model and a cost in USD on each line.")]
Provider = Annotated[
    str | None, typer.Option(help="Endpoints of this provider alone, and its lines where the file names providers.")
]
Tolerance = Annotated[str, typer.Option(help="USD by which a day of a model may differ: providers round.")]
FirstDay = Annotated[
    datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="First day; default: the invoice's.")
]
LastDay = Annotated[
    datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="Last day, included; default: the invoice's.")
]
PricesAt = Annotated[
    datetime | None, typer.Option("--at", help="Prices of this instant (UTC); default: those in force at each call.")
]
AsEndpoint = Annotated[str | None, typer.Option("--as", help="At this endpoint's prices; default: each one's own.")]


def verbs(source: Source) -> typer.Typer:
    """`report` itself and its sub-commands; `source` finds the configuration file."""
    app = typer.Typer(help="Spend, quality and latency from the ledger.", invoke_without_command=True)

    @app.callback()
    def report(context: typer.Context, by: By = "endpoint", config: ConfigFile = None, demo: Demo = False) -> None:
        """Spend, quality and latency from the ledger."""
        if context.invoked_subcommand is None:
            from router_gateway.verbs.checking import report_rows

            columns, rows = report_rows(_load(source, config, demo), by)
            _print_table(f"Ledger by {by}", columns, rows)

    app.command("judges")(appraising.command(source))
    _add_reconcile(app, source)
    _add_reprice(app, source)
    return app


def _add_reconcile(app: typer.Typer, source: Source) -> None:
    @app.command("reconcile")
    def reconcile_invoice(
        invoice: Invoice,
        provider: Provider = None,
        tolerance_usd: Tolerance = "0.01",
        since: FirstDay = None,
        until: LastDay = None,
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Compare the ledger with a provider's invoice, by day and model; status 3 where a line needs a look."""
        from router_gateway.ledger.invoice import read_invoice
        from router_gateway.ledger.reconcile import reconcile

        loaded = _load(source, config, demo)
        tolerance_nusd = parse_usd(tolerance_usd)
        billed = read_invoice(invoice, provider=provider)
        with _ledger_of(loaded) as engine:
            found = reconcile(
                engine,
                billed,
                _models(loaded, provider),
                tolerance_nusd=tolerance_nusd,
                first=_date(since),
                last=_date(until),
            )
        typer.echo(json.dumps(_object(found), indent=1)) if as_json else _print_reconciliation(found)
        raise typer.Exit(DIFFERS if found.differs else 0)


def _add_reprice(app: typer.Typer, source: Source) -> None:
    @app.command("reprice")
    def reprice_calls(
        since: Since = None,
        until: Until = None,
        at: PricesAt = None,
        as_endpoint: AsEndpoint = None,
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """What recorded calls would have cost at the prices of another time, or at another endpoint's."""
        from dataclasses import asdict

        from router_gateway.ledger.repricing import reprice

        loaded = _load(source, config, demo)
        pool = {settings.name: settings.build() for settings in loaded.endpoints}
        if as_endpoint is not None and as_endpoint not in pool:
            raise RequestError(f"no endpoint {as_endpoint!r}; there are {', '.join(pool)}", param="as")
        wanted = pool[as_endpoint] if as_endpoint else None
        with _ledger_of(loaded) as engine:
            found = reprice(
                engine, [*pool.values()], since=_utc(since), until=_utc(until), at=_utc(at), endpoint=wanted
            )
        if as_json:
            typer.echo(json.dumps([asdict(row) for row in found], indent=1))
            return
        rows = [
            [
                row.endpoint,
                f"{row.attempts:,}",
                _usd(row.booked_nusd),
                _usd(row.repriced_nusd) if row.priced else "no prices",
                _usd(row.repriced_nusd - row.booked_nusd) if row.priced else "-",
                _usd(row.estimated_nusd),
            ]
            for row in found
        ]
        columns = ["endpoint", "attempts", "booked USD", "repriced USD", "difference USD", "estimated USD, left out"]
        _print_table("Repriced", columns, rows)


def _load(source: Source, config: Path | None, demo: bool) -> Config:
    from router_gateway import config as configuration

    return configuration.load(source(config, demo))


@contextmanager
def _ledger_of(config: Config) -> Iterator[Any]:
    """The database of a configuration as it is. Raises GatewayError where there is no current ledger."""
    from router_gateway.ledger.engine import schema_is_current
    from router_gateway.opening import database

    with database(config) as engine:
        if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
            raise GatewayError("there is no ledger yet", hint="the first start makes it, or `router-gateway migrate`")
        if not schema_is_current(engine):
            raise GatewayError("the ledger's schema is not current", hint="run `router-gateway migrate`")
        yield engine


def _models(config: Config, provider: str | None) -> Any:
    """Which model each endpoint is. Raises RequestError for a provider that no endpoint has."""
    from router_gateway.ledger.reconcile import Models

    pool = [settings.build() for settings in config.endpoints]
    only = None
    if provider is not None:
        only = frozenset(e.name for e in pool if e.provider.lower() == provider.lower())
        if not only:
            known = ", ".join(sorted({e.provider for e in pool}))
            raise RequestError(f"no endpoint of provider {provider!r}; there are {known}", param="provider")
    return Models(by_endpoint={e.name: e.model for e in pool}, only=only)


def _object(found: Reconciliation) -> dict[str, Any]:
    return {
        "first": found.first.isoformat(),
        "last": found.last.isoformat(),
        "tolerance_nusd": found.tolerance_nusd,
        "lines": [_line_object(line, found.tolerance_nusd) for line in found.lines],
        "total": _line_object(found.total, found.tolerance_nusd),
    }


def _line_object(line: Line, tolerance_nusd: int) -> dict[str, Any]:
    names = ("ledger_nusd", "invoice_nusd", "difference_nusd", "difference_percent", "attempts", "estimated_attempts",
             "estimated_nusd", "open_calls", "open_nusd", "provider_attempts", "provider_nusd")  # fmt: skip
    told = {name: getattr(line, name) for name in names}
    return {"day": line.day.isoformat(), "model": line.model, **told, "verdict": line.verdict(tolerance_nusd)}


def _print_reconciliation(found: Reconciliation) -> None:
    lines = [(f"{line.day}", line.model, line) for line in found.lines] + [("total", "", found.total)]
    rows = [
        [
            day,
            model,
            _usd(line.ledger_nusd),
            _usd(line.invoice_nusd),
            _usd(line.difference_nusd),
            "-" if line.difference_percent is None else f"{line.difference_percent:+.2f}",
            f"{_usd(line.estimated_nusd)} ({line.estimated_attempts:,})" if line.estimated_attempts else "-",
            f"{_usd(line.open_nusd)} ({line.open_calls:,})" if line.open_calls else "-",
            line.verdict(found.tolerance_nusd) if model else "",
        ]
        for day, model, line in lines
    ]
    columns = ["day (UTC)", "model", "ledger USD", "invoice USD", "difference USD", "%"]
    columns += ["of it estimated", "besides, without outcome", ""]
    _print_table("Ledger and invoice", columns, rows)
    typer.echo(
        f"A line agrees when both are within {_usd(found.tolerance_nusd)} USD; differences are invoice less ledger."
    )


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _usd(nusd: int) -> str:
    return f"{Decimal(nusd) / NUSD_PER_USD:,.6f}"


def _utc(instant: datetime | None) -> datetime | None:
    return instant and instant.replace(tzinfo=UTC)


def _date(instant: datetime | None) -> date | None:
    return instant and instant.date()
