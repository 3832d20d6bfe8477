"""What `check`, `explain` and `report` say: read-only views of an installation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast, get_args

from router_gateway import registry
from router_gateway.brain import Brain, Progress, build_embedder, build_endpoints
from router_gateway.config import Config, api_keys
from router_gateway.core.errors import GatewayError, NotFitted, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Decision, Preferences
from router_gateway.dispatch.endpoints import REPLAY
from router_gateway.opening import database
from router_gateway.routing.explain import Switch, switch_prices
from router_gateway.saving import with_saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str


def run_checks(config: Config) -> Iterator[Check]:
    """Look at everything a start needs; changes nothing and calls no model."""
    yield Check(
        name="configuration", passed=True, detail=f"{len(config.endpoints)} endpoints, worth ${config.worth_usd:g}"
    )
    yield _checked("policies", lambda: ", ".join(f"{c.name} {_version(c.name)}" for c in config.policies))
    yield _checked("provider keys", lambda: _keys(config))
    yield _checked("encoder", lambda: _encoder(config))
    yield _checked("ledger", lambda: _ledger(config))


def explain_prompt(
    config: Config, prompt: str, *, policy: str | None, worth_usd: float | None, progress: Progress
) -> tuple[Decision, list[str]]:
    """The decision for `prompt` as the gateway would make it now, and what would change it, in words."""
    from router_gateway.evaluation.replay import query_of

    if worth_usd is not None and worth_usd <= 0:
        raise RequestError("worth_usd must be above 0", param="worth_usd")
    if _ledger_exists(config):
        with database(config) as engine, suppress(GatewayError):  # without a ledger: as configured
            config = with_saved(config, engine)
    brain = Brain(config=config, endpoints=build_endpoints(config))
    brain.load(progress, fits=False)
    name = policy or config.policy.name
    routers = brain.routers()
    if name not in routers:
        raise RequestError(f"no policy {name!r} in the configuration; there are {', '.join(routers)}", param="policy")
    query = replace(query_of(prompt, uuid7()), preferences=Preferences(worth_usd=worth_usd))
    try:
        decision = routers[name].route([query], brain.embedder.embed([query.text]))[0]
    except NotFitted:
        raise NotFitted(f"{name} has learned nothing yet", hint="router-gateway train OUTCOMES") from None
    below, above = switch_prices(decision)
    return decision, [*_switch_words("below", below), *_switch_words("above", above)]


def report_rows(config: Config, by: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the ledger's report. Raises RequestError for an unknown grouping."""
    from router_gateway.ledger.reports import GroupBy, usage

    if by not in get_args(GroupBy):
        raise RequestError(f"report by {by!r}: choose one of {', '.join(get_args(GroupBy))}", param="by")
    columns = [by, "requests", "errors", "tokens", "USD", "quality", "p50 ms", "p95 ms", "no outcome"]
    if not _ledger_exists(config):
        raise GatewayError("there is no ledger yet", hint="the first start makes it, or `router-gateway migrate`")
    _ledger(config)
    with database(config) as engine:
        found = usage(engine, group_by=cast(GroupBy, by))
    rows = [
        [
            row.group,
            f"{row.requests:,}",
            f"{row.errors:,}",
            f"{row.tokens:,}",
            f"{nusd_to_usd(row.cost_nusd):.6f}",
            "-" if row.quality is None else f"{row.quality:.3f} (n={row.rated:,})",
            _ms(row.latency_ms_p50),
            _ms(row.latency_ms_p95),
            f"{row.undispatched:,} ({nusd_to_usd(row.undispatched_nusd):.6f} USD)" if row.undispatched else "-",
        ]
        for row in found
    ]
    return columns, rows


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, passed=True, detail=look())
    except GatewayError as error:
        return Check(name=name, passed=False, detail="; ".join(error.message.splitlines()))


def _version(policy: str) -> str:
    info = registry.describe(policy)
    return f"({info.distribution} {info.version})"


def _keys(config: Config) -> str:
    named = api_keys(config, os.environ)
    replayed = sum(endpoint.base_url == REPLAY for endpoint in config.endpoints)
    return f"{len(named)} set, {replayed} endpoints replayed"


def _encoder(config: Config) -> str:
    embedder = build_embedder(config)
    embedder.embed(["ready"])
    return f"{embedder.space}, {embedder.width} wide"


def _ledger(config: Config) -> str:
    from router_gateway.ledger.engine import schema_is_current

    if not _ledger_exists(config):
        return "not there yet; the first start makes it"
    with database(config) as engine:
        if not schema_is_current(engine):
            raise GatewayError("the schema is not current: run `router-gateway migrate`")
    return "reachable, schema current"


def _ledger_exists(config: Config) -> bool:
    """False for an SQLite file that is not there: opening it would make it."""
    path = config.ledger_url.removeprefix("sqlite:///")
    return path == config.ledger_url or os.path.exists(path)


def _switch_words(side: str, switch: Switch | None) -> list[str]:
    if switch is None:
        return []
    return [f"{side} worth_usd = ${switch.worth_usd:.4g} this would go to {switch.endpoint}"]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
