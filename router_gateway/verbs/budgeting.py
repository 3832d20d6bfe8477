"""The verbs `budgets set`, `list` and `remove`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from router_gateway.core.errors import RequestError
from router_gateway.core.money import NUSD_PER_USD, nusd_to_usd
from router_gateway.core.periods import Period, next_period, period_start

if TYPE_CHECKING:
    from router_gateway.ledger.budgets import BudgetState, Scope

Per = Annotated[str, typer.Option("--per", help="hour, day or month; they begin in UTC.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="All keys of this tenant (team) together.")]
Key = Annotated[str | None, typer.Option("--key", help="One API key, by its id or prefix as `keys list` shows it.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="The bundled demo: replayed endpoints, no API key.")]
Source = Callable[[Path | None, bool], Path | None]


def verbs(source: Source) -> typer.Typer:
    """The sub-commands; `source` finds the configuration file."""
    app = typer.Typer(help="Budgets: what may be spent in an hour, a day or a month.", no_args_is_help=True)

    @app.command("set")
    def set_budget(
        limit: Annotated[str, typer.Argument(help="US dollars: 25, 0.5 or $25.")],
        per: Per,
        tenant: Tenant = None,
        key: Key = None,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Let a key, a tenant or (naming neither) the whole gateway spend at most LIMIT dollars per period."""
        from router_gateway.ledger.budgets import Budgets

        limit_nusd = parse_usd(limit)
        with database_of(source(config, demo)) as engine:
            scope, subject = _subject(engine, tenant, key)
            budget = Budgets(engine).set(scope, subject, cast(Period, per), limit_nusd)
        typer.echo(f"{budget.label}: {_usd(budget.limit_nusd)} USD")

    @app.command("list")
    def list_budgets(config: ConfigFile = None, demo: Demo = False) -> None:
        """List the budgets with what is spent, what calls under way have set aside, and when they renew."""
        from rich.console import Console
        from rich.table import Table

        from router_gateway.ledger.budgets import Budgets

        now = datetime.now(UTC)
        with database_of(source(config, demo)) as engine:
            states = Budgets(engine).states(now)
        table = Table("budget", "limit USD", "spent USD", "set aside USD", "left", "renews (UTC)", title="Budgets")
        for state in states:
            table.add_row(*_cells(state, now))
        Console().print(table)

    @app.command("remove")
    def remove_budget(
        per: Per, tenant: Tenant = None, key: Key = None, config: ConfigFile = None, demo: Demo = False
    ) -> None:
        """Lift a budget."""
        from router_gateway.ledger.budgets import Budgets

        with database_of(source(config, demo)) as engine:
            scope, subject = _subject(engine, tenant, key)
            Budgets(engine).remove(scope, subject, cast(Period, per))
        typer.echo("removed")

    return app


def parse_usd(said: str) -> int:
    """Nano-dollars of an amount such as "25", "0.5", "$25" or "25 USD". Raises RequestError for anything else."""
    plain = said.strip().removeprefix("$").removesuffix("USD").strip()
    try:
        nusd = Decimal(plain) * NUSD_PER_USD
        if not nusd.is_finite() or nusd < 0 or nusd != nusd.to_integral_value():
            raise InvalidOperation
    except InvalidOperation:
        raise RequestError(
            f"{said!r} is no amount of US dollars", param="limit", hint="say 25, 0.5 or $25; at most nine decimals"
        ) from None
    return int(nusd)


@contextmanager
def database_of(source: Path | None) -> Iterator[Any]:
    """The migrated database of a configuration."""
    from router_gateway import config as configuration
    from router_gateway.ledger.engine import migrate
    from router_gateway.opening import database

    loaded = configuration.load(source)
    loaded.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(loaded.ledger_url)
    with database(loaded) as engine:
        yield engine


def _subject(engine: Any, tenant: str | None, key: str | None) -> tuple[Scope, str]:
    """Whom a budget binds. Raises RequestError when both are named, NotFound for an unknown key."""
    from router_gateway.ledger.keys import Keys

    if tenant is not None and key is not None:
        raise RequestError("give --tenant or --key, not both", param="key")
    if key is not None:
        return "key", str(Keys(engine).named(key.removesuffix("…")).id)
    return ("gateway", "") if tenant is None else ("tenant", tenant)


def _cells(state: BudgetState, now: datetime) -> list[str]:
    budget = state.budget
    renews = next_period(budget.period, period_start(budget.period, now))
    return [
        budget.label,
        _usd(budget.limit_nusd),
        _usd(state.spent_nusd),
        _usd(state.reserved_nusd),
        f"{100 * state.remaining_ratio:.0f} %",
        f"{renews:%Y-%m-%d %H:%M}",
    ]


def _usd(nusd: int) -> str:
    return f"{nusd_to_usd(nusd):,.6f}"
