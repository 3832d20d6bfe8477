"""The verb `learn`: one step of the learner from the command line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a label, a context manager whose value is called with (done, total)."""

BUSY = 3
"""Exit status when another process is learning."""

Refit = Annotated[
    bool, typer.Option("--refit", help="Learn anew from the whole ledger: what was deleted or taken back has no part.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="The bundled demo: replayed endpoints, no API key.")]


def command(progress: Progress, source: Callable[[Path | None, bool], Path | None]) -> Callable[..., None]:
    """The function that typer runs; `progress` draws bars, `source` finds the configuration file."""

    def learn(refit: Refit = False, config: ConfigFile = None, demo: Demo = False) -> None:
        """Teach the policies what the ledger holds and save new snapshots; running gateways pick them up."""
        from router_gateway import config as configuration
        from router_gateway.brain import Brain, build_endpoints
        from router_gateway.ledger.engine import migrate
        from router_gateway.opening import database, open_rollout

        loaded = configuration.load(source(config, demo))
        loaded.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        migrate(loaded.ledger_url)
        brain = Brain(config=loaded, endpoints=build_endpoints(loaded))
        brain.load(progress, fits=False)
        with database(loaded) as engine:
            routers, learner = brain.routers(), brain.learner(engine)
            open_rollout(brain, engine, routers, learner)  # what is live is taught, be it the configured policy or not
            outcomes = learner.step(rows_min=1, refit=refit)
        if not outcomes:
            typer.echo("another process is learning: try again in a moment", err=True)
            raise typer.Exit(BUSY)
        for name, outcome in outcomes.items():
            typer.echo(f"{routers[name].live().label}: {outcome}")
        raise typer.Exit(int("failed" in outcomes.values()))

    return learn
