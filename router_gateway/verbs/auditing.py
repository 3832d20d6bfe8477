"""The verbs `audit` and `forecast`: what the ledger says of another policy, dial or price."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

NOT_IDENTIFIABLE = 3
"""Exit status when the ledger cannot say."""

Policy = Annotated[
    str | None,
    typer.Option(
        help="NAME or NAME:k=40, fitted anew out of fold; NAME@VERSION, a snapshot as it is. Default: what is live."
    ),
]
Candidate = Annotated[
    str | None,
    typer.Option(help="One of `lifecycle list`: its policy, fitted anew out of fold, with its dial, rule and guard."),
]
WorthUsd = Annotated[float | None, typer.Option(help="The dial; default: what each request had.")]
Rule = Annotated[str, typer.Option(help="greedy (no exploration), or configured.")]
Since = Annotated[str, typer.Option(help="How far back: 12h, 30d, 8w, or all.")]
Tenant = Annotated[str | None, typer.Option(help="This tenant's decisions alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")]
Days = Annotated[int, typer.Option(help="Days to come.")]
Price = Annotated[
    list[str] | None,
    typer.Option(help="ENDPOINT=IN,OUT in USD per million tokens; repeatable. A price that changes."),
]
Budget = Annotated[float | None, typer.Option(help="USD a day: with which odds it is exceeded.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="The bundled demo: replayed endpoints, no API key.")]
Source = Callable[[Path | None, bool], Path | None]


def audit_command(source: Source) -> Callable[..., None]:
    """The function that typer runs; `source` finds the configuration file."""

    def audit(
        policy: Policy = None,
        candidate: Candidate = None,
        worth_usd: WorthUsd = None,
        rule: Rule = "greedy",
        since: Since = "30d",
        tenant: Tenant = None,
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Say what a policy or dial would bring on this gateway's own traffic (status 3: the ledger cannot say)."""
        from rich.console import Console

        from router_gateway import config as configuration
        from router_gateway import estimating
        from router_gateway.evaluation.audit_question import Question
        from router_gateway.evaluation.audit_text import table

        question = Question.read(policy, worth_usd, rule, since, tenant, candidate)
        found = estimating.audit(configuration.load(source(config, demo)), question)
        if as_json:
            typer.echo(json.dumps(found.to_json(), indent=1, allow_nan=False))
        else:
            if found.rows:
                Console().print(table(found))
            typer.echo("\n".join([found.sentence, found.recommendation, *found.notes]))
        raise typer.Exit(NOT_IDENTIFIABLE if found.verdict == "not identifiable" else 0)

    return audit


def forecast_command(source: Source) -> Callable[..., None]:
    """Likewise."""

    def forecast(
        days: Days = 30,
        policy: Policy = None,
        candidate: Candidate = None,
        worth_usd: WorthUsd = None,
        rule: Rule = "configured",
        price: Price = None,
        budget: Budget = None,
        since: Since = "30d",
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Forecast traffic, spend and quality, as things are and under a change (status 3: the ledger cannot say)."""
        from rich.console import Console

        from router_gateway import config as configuration
        from router_gateway import estimating
        from router_gateway.evaluation.audit_question import Change, Question
        from router_gateway.evaluation.forecast_text import lines, table

        loaded = configuration.load(source(config, demo))
        pool = [endpoint.name for endpoint in loaded.endpoints]
        question = Question.read(policy, worth_usd, rule, since, candidate=candidate)
        found = estimating.forecast(loaded, Change.read(question, days, price or (), budget, pool))
        if as_json:
            typer.echo(json.dumps(found.to_json(), indent=1, allow_nan=False))
        else:
            if found.as_logged is not None:
                Console().print(table(found))
            typer.echo("\n".join(lines(found)))
        raise typer.Exit(NOT_IDENTIFIABLE if found.refused else 0)

    return forecast
