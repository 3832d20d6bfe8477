"""The verbs `keys …`: who may use the gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from router_gateway.verbs.budgeting import ConfigFile, Demo

Tenant = Annotated[str, typer.Option(help="Whose spend and decisions these are.")]
Allow = Annotated[list[str] | None, typer.Option(help="Glob over endpoint names; repeatable. Default: all.")]
Admin = Annotated[bool, typer.Option("--admin", help="The key also opens the admin API.")]
Viewer = Annotated[bool, typer.Option("--viewer", help="The key also reads the admin API, and no more.")]
Prefix = Annotated[str, typer.Argument(help="The key's id or prefix, as `keys list` shows it.")]


def verbs(source: Callable[[Path | None, bool], Path | None]) -> typer.Typer:
    """`keys` with its verbs; `source` finds the configuration file."""
    app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)

    @app.command("create")
    def create_key(
        name: str,
        tenant: Tenant = "default",
        allow: Allow = None,
        admin: Admin = False,
        viewer: Viewer = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Make an API key and print it: this once, only its hash is stored."""
        from router_gateway import config as configuration
        from router_gateway.opening import open_keys

        with open_keys(configuration.load(source(config, demo))) as keys:
            typer.echo(keys.create(name, tenant=tenant, allows=tuple(allow or ()), admin=admin, viewer=viewer))

    @app.command("list")
    def list_keys(config: ConfigFile = None, demo: Demo = False) -> None:
        """List the keys that are valid now."""
        from rich.console import Console
        from rich.table import Table

        from router_gateway import config as configuration
        from router_gateway.opening import open_keys

        table = Table("key", "name", "tenant", "may use", "created (UTC)", title="API keys")
        with open_keys(configuration.load(source(config, demo))) as keys:
            for key in keys.list():
                name = key.name + ("" if key.role == "user" else f" ({key.role})")
                allowed = ", ".join(key.allows) or "all"
                table.add_row(key.prefix + "…", name, key.tenant, allowed, f"{key.created_at:%Y-%m-%d %H:%M}")
        Console().print(table)

    @app.command("revoke")
    def revoke_key(prefix: Prefix, config: ConfigFile = None, demo: Demo = False) -> None:
        """Revoke a key; running gateways notice within seconds."""
        from router_gateway import config as configuration
        from router_gateway.opening import open_keys

        with open_keys(configuration.load(source(config, demo))) as keys:
            keys.revoke(prefix.removesuffix("…"))
        typer.echo("revoked")

    return app
