"""The verbs `ledger prune` and `ledger forget`: rows that go, beside a running gateway."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router_gateway.core.errors import RequestError
from router_gateway.verbs.budgeting import ConfigFile, Demo, database_of

if TYPE_CHECKING:
    from router_gateway.ledger.retention import Removed

OlderThan = Annotated[str, typer.Option(help="An age: 90d, 12w or 36h.")]
TextOnly = Annotated[bool, typer.Option("--text-only", help="Only prompts and comments; the rows stay.")]
Tenant = Annotated[str, typer.Option(help="Whose rows.")]
AsJson = Annotated[bool, typer.Option("--json", help="Tell what was removed as JSON.")]
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


def add(app: typer.Typer, source: Callable[[Path | None, bool], Path | None]) -> None:
    """Give `ledger` its two verbs; `source` finds the configuration file."""

    @app.command("prune")
    def prune_rows(
        older_than: OlderThan,
        text_only: TextOnly = False,
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Remove old decisions with all that belongs to them, in small batches; the totals of each day stay."""
        from router_gateway.ledger.retention import prune

        before = datetime.now(UTC) - parse_age(older_than)
        with database_of(source(config, demo)) as engine:
            _tell(prune(engine, before, text_only=text_only), as_json)

    @app.command("forget")
    def forget_tenant(tenant: Tenant, as_json: AsJson = False, config: ConfigFile = None, demo: Demo = False) -> None:
        """Remove every row of one tenant; what it spent stays in the totals, without its name."""
        from router_gateway.ledger.retention import forget

        with database_of(source(config, demo)) as engine:
            removed = forget(engine, tenant)
        _tell(removed, as_json)
        if not as_json:
            typer.echo("`router-gateway learn --refit` makes the policies forget as well")


def parse_age(said: str) -> timedelta:
    """The length of "90d", "12w" or "36h". Raises RequestError for anything else."""
    found = re.fullmatch(r"(\d{1,6})([hdw])", said.strip().lower())
    if found is None:
        raise RequestError(f"{said!r} is no age", param="older_than", hint="say 90d, 12w or 36h")
    return timedelta(hours=int(found[1]) * _HOURS[found[2]])


def _tell(removed: Removed, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"rows": removed.rows, "texts": removed.texts, "left": removed.left}))
        return
    told = [f"{count:,} {name.replace('_', ' ')}" for name, count in removed.rows.items() if count]
    told += [f"{removed.texts:,} texts"] if removed.texts else []
    typer.echo(f"removed: {', '.join(told) or 'nothing'}")
    if removed.left:
        typer.echo(f"{removed.left:,} calls are under way with money set aside and were left: once more, later")
