"""The verb `audit`: whether routing is worth it on the installation's own traffic."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from router_gateway.core.errors import GatewayError, RequestError

if TYPE_CHECKING:
    from router_gateway.config import Config
    from router_gateway.core.protocols import Policy
    from router_gateway.evaluation.audit import Installation, Question
    from router_gateway.evaluation.audit_result import AuditResult

NOT_IDENTIFIABLE = 3
"""Exit status when the ledger cannot say."""

_AGE = re.compile(r"(\d{1,5})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}

PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy", help="NAME or NAME:k=40, fitted anew out of fold; NAME@VERSION, a snapshot as it is. Default: live."
    ),
]
WorthUsd = Annotated[float | None, typer.Option("--worth-usd", help="The dial; default: what each request had.")]
RuleName = Annotated[str, typer.Option("--rule", help="greedy (no exploration), or configured.")]
Since = Annotated[str, typer.Option("--since", help="How far back: 12h, 30d, 8w, or all.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="This tenant's decisions alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="The bundled demo: replayed endpoints, no API key.")]
Source = Callable[[Path | None, bool], Path | None]


def command(source: Source) -> Callable[..., None]:
    """The function that typer runs; `source` finds the configuration file."""

    def audit(
        policy: PolicyName = None,
        worth_usd: WorthUsd = None,
        rule: RuleName = "greedy",
        since: Since = "30d",
        tenant: Tenant = None,
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Say what a policy or dial would bring on this gateway's own traffic (status 3: the ledger cannot say)."""
        from rich.console import Console

        from router_gateway import config as configuration
        from router_gateway.evaluation.audit_text import table

        asked = question(policy, worth_usd, rule, since, tenant)
        result = run(configuration.load(source(config, demo)), asked)
        if as_json:
            typer.echo(json.dumps(result.to_json(), indent=1, allow_nan=False))
        else:
            if result.rows:
                Console().print(table(result))
            typer.echo("\n".join([result.sentence, result.recommendation, *result.notes]))
        raise typer.Exit(NOT_IDENTIFIABLE if result.verdict == "not identifiable" else 0)

    return audit


def run(config: Config, asked: Question) -> AuditResult:
    """The answer for this installation, from its ledger as it is. Blocks for seconds; belongs in a thread.

    Raises GatewayError where there is no current ledger, and what `evaluation.audit.audit` raises.
    """
    from router_gateway.evaluation.audit import audit

    with current_ledger(config) as engine:
        return audit(engine, installation(config), asked)


def question(policy: str | None, worth_usd: float | None, rule: str, since: str, tenant: str | None = None) -> Question:
    """What the options ask. Raises RequestError naming the one that is wrong."""
    from router_gateway.evaluation.audit import Question

    if worth_usd is not None and not 0 < worth_usd < float("inf"):
        raise RequestError("worth_usd must be above 0 and finite", param="worth_usd")
    if rule not in ("greedy", "configured"):
        raise RequestError(f"rule {rule!r}: choose greedy or configured", param="rule")
    name, at, version = (policy or "").partition("@")
    if at and not (name and version.isascii() and version.isdigit()):
        raise RequestError(f"{policy!r} is no NAME or NAME@VERSION", param="policy")
    return Question(
        policy=name or None,
        version=int(version) if at else None,
        worth_usd=worth_usd,
        rule=cast(Literal["greedy", "configured"], rule),
        since=since_instant(since),
        tenant=tenant,
    )


def since_instant(age: str) -> datetime | None:
    """The instant that "30d" ago was; None for "all". Raises RequestError."""
    if age == "all":
        return None
    found = _AGE.fullmatch(age)
    if found is None:
        raise RequestError(f"{age!r} is no age", param="since", hint="say 12h, 30d, 8w or all")
    return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})


def installation(config: Config) -> Installation:
    """How this configuration decides."""
    from router_gateway.brain import build_guard, build_rule
    from router_gateway.evaluation.audit import Installation
    from router_gateway.evaluation.logged_replay import Manner
    from router_gateway.learning.snapshots import Snapshots

    return Installation(
        policy=config.policy.name,
        unfitted=lambda said: _unfitted(config, said),
        snapshots=Snapshots(config.learning.snapshots_dir or config.state_dir / "snapshots"),
        manner=Manner(
            rule=build_rule(config),
            guard=build_guard(config),
            optimism=config.optimism,
            default_endpoint=config.default_endpoint,
        ),
    )


def _unfitted(config: Config, said: str) -> Policy:
    """A configured policy with its parameters, any other with its defaults, or NAME:parameter=value."""
    from router_gateway import registry
    from router_gateway.brain import build_embedder
    from router_gateway.evaluation import fitting
    from router_gateway.evaluation.command import Options, chosen_specs

    params = {choice.name: choice.params for choice in config.policies}
    if said in params:
        policy = registry.create(said, params[said])
    else:
        [spec] = chosen_specs(Options(policies=(said,)))
        policy = spec.build()
    return fitting.with_texts(policy, lambda: build_embedder(config))


@contextmanager
def current_ledger(config: Config) -> Iterator[Any]:
    """The ledger's database. Raises GatewayError where there is none, or its schema is not current."""
    from router_gateway.ledger.engine import schema_is_current
    from router_gateway.wiring import database

    path = config.ledger_url.removeprefix("sqlite:///")
    if path != config.ledger_url and not Path(path).exists():
        raise GatewayError("there is no ledger yet", hint="the first start makes it, or `router-gateway migrate`")
    with database(config) as engine:
        if not schema_is_current(engine):
            raise GatewayError("the ledger's schema is not current", hint="run `router-gateway migrate`")
        yield engine
