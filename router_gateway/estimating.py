"""What the ledger says of other policies, for this installation: asked by verbs, and by the admin API.

An estimate fits models and resamples for seconds. In the gateway's own process that would be time taken from requests
under way, so `Estimates` starts a process for it, one at a time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_gateway.api.errors import Overloaded
from router_gateway.config import Config
from router_gateway.core.errors import ConfigError, GatewayError, PolicyError, RequestError
from router_gateway.evaluation.audit_question import Change, Question

if TYPE_CHECKING:
    from router_gateway.core.protocols import Policy
    from router_gateway.evaluation.audit import Installation
    from router_gateway.evaluation.audit_result import AuditResult
    from router_gateway.evaluation.forecast_result import Forecast

API_DECISIONS_MAX = 20_000
"""Decisions that are read for the admin API: an answer within seconds."""
_NICENESS = 10


def audit(config: Config, question: Question) -> AuditResult:
    """Whether routing is worth it here, from the ledger as it is. Blocks for seconds.

    Raises GatewayError where there is no current ledger, and what `evaluation.audit.audit` raises.
    """
    from router_gateway.evaluation.audit import audit as run

    with current_ledger(config) as engine:
        return run(engine, installation(config), question)


def forecast(config: Config, change: Change) -> Forecast:
    """The days to come, from the ledger as it is. Blocks for seconds; raises as `audit` does."""
    from router_gateway.brain import build_endpoints
    from router_gateway.evaluation.forecast import forecast as run

    with current_ledger(config) as engine:
        return run(engine, installation(config), build_endpoints(config), change)


class Estimates:
    """Answers in plain values, each from a process of its own. A second question meanwhile is refused (Overloaded)."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._busy = False

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of the pool."""
        return tuple(endpoint.name for endpoint in self._config.endpoints)

    async def audit(self, question: Question) -> dict[str, Any]:
        """As `audit`, of at most API_DECISIONS_MAX decisions."""
        return await self._apart(_audited, _bounded(question))

    async def forecast(self, change: Change) -> dict[str, Any]:
        """As `forecast`, of at most API_DECISIONS_MAX decisions."""
        return await self._apart(_forecast, replace(change, question=_bounded(change.question)))

    async def _apart(self, run: Callable[[Config, Any], dict[str, Any]], asked: Any) -> dict[str, Any]:
        if self._busy:
            raise Overloaded("another estimate is under way")
        self._busy = True
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, mp_context=context, initializer=_yield_to_requests)
        try:
            return await asyncio.wrap_future(pool.submit(run, self._config, asked))
        except (PolicyError, ConfigError) as error:  # a candidate that there is not
            raise RequestError(error.message, param="policy", hint=error.hint) from None
        except BrokenProcessPool:
            raise GatewayError("the estimate's process ended before it had an answer") from None
        finally:
            self._busy = False
            pool.shutdown(wait=False, cancel_futures=True)


def _audited(config: Config, question: Question) -> dict[str, Any]:
    return audit(config, question).to_json()


def _forecast(config: Config, change: Change) -> dict[str, Any]:
    return forecast(config, change).to_json()


def _bounded(question: Question) -> Question:
    return replace(question, decisions_max=min(question.decisions_max, API_DECISIONS_MAX))


def _yield_to_requests() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.nice(_NICENESS)


def installation(config: Config) -> Installation:
    """How this configuration decides."""
    from router_gateway.brain import build_guard, build_rule
    from router_gateway.evaluation.audit import Installation
    from router_gateway.evaluation.logged_replay import Manner
    from router_gateway.learning.snapshots import Snapshots

    return Installation(
        policy=config.policy.name,
        unfitted=lambda said: _unfitted(config, said),
        snapshots=Snapshots(config.snapshots_dir),
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
    from router_gateway.ledger.engine import open_engine, schema_is_current

    path = config.ledger_url.removeprefix("sqlite:///")
    if path != config.ledger_url and not Path(path).exists():
        raise GatewayError("there is no ledger yet", hint="the first start makes it, or `router-gateway migrate`")
    engine = open_engine(config.ledger_url)
    try:
        if not schema_is_current(engine):
            raise GatewayError("the ledger's schema is not current", hint="run `router-gateway migrate`")
        yield engine
    finally:
        engine.dispose()
