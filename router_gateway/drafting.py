"""Candidates that are fitted anew, with parameters of their own: in a process apart, while the gateway serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from router_gateway import registry
from router_gateway.config import Config
from router_gateway.core.apart import Apart
from router_gateway.core.errors import BadParameters, GatewayError, RequestError, UnknownPolicy
from router_gateway.ledger.candidates import Candidate
from router_gateway.lifecycle.desk import Desk
from router_gateway.lifecycle.homes import Homes

log = logging.getLogger(__name__)

LIMIT_S = 900.0
"""A fit that takes longer is ended."""
_GRACE_S = 60.0  # after the limit, for a process to say so


class Drafting:
    """Fits one candidate at a time, on `training.outcomes` and all feedback that stands."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._process = Apart("fit", limit_s=LIMIT_S)
        self._under_way: set[asyncio.Future[None]] = set()

    async def begin(self, desk: Desk, name: str, kind: str, params: Mapping[str, Any], **told: Any) -> Candidate:
        """Register a candidate and begin to fit it; `told` are the other arguments of `Desk.begin_fit`.

        Raises RequestError naming what is wrong, such as `params.k`, and Overloaded while another one is fitted.
        """
        check_params(kind, params)
        limit_s = LIMIT_S + _GRACE_S
        candidate = await asyncio.to_thread(
            lambda: desk.begin_fit(name, kind=kind, params=params, limit_s=limit_s, **told)
        )
        fitting = asyncio.ensure_future(self._fit(desk, name, kind, dict(params)))
        self._under_way.add(fitting)
        fitting.add_done_callback(self._under_way.discard)
        return candidate

    async def _fit(self, desk: Desk, name: str, kind: str, params: dict[str, Any]) -> None:
        try:
            try:
                await self._process.run(_fitted, self._config, name, kind, params)
            except GatewayError as error:
                await asyncio.to_thread(desk.failed, name, error.message)
            else:
                await asyncio.to_thread(desk.fitted, name)
        except GatewayError as error:  # the ledger is away: the next who drafts finds it fitting for too long
            log.warning("%s: how its fit ended could not be recorded: %s", name, error.code)


def check_params(kind: str, params: Mapping[str, Any]) -> None:
    """Raise RequestError for a policy that is not installed, or parameters it does not take, named as `params.k`."""
    try:
        registry.create(kind, params)
    except UnknownPolicy as error:
        raise RequestError(error.message, param="kind", hint=error.hint) from None
    except BadParameters as error:
        path, _, what = error.message.splitlines()[0].partition(": ")
        field = "params" + path.removeprefix(kind)
        raise RequestError(f"`{field}`: {what}", param=field, hint=error.hint) from None


def _fitted(config: Config, name: str, kind: str, params: dict[str, Any]) -> str:
    """Fit and save; the label of what was saved. Runs in the process apart."""
    from router_gateway.brain import Brain, build_endpoints
    from router_gateway.ledger.engine import open_engine

    brain = Brain(config=config, endpoints=build_endpoints(config))
    engine = open_engine(config.ledger_url)
    try:
        return brain.fit_candidate(kind, params, Homes(config.snapshots_dir).of(name), engine, _quietly)
    finally:
        engine.dispose()


@contextmanager
def _quietly(label: str) -> Iterator[Callable[[int, int], None]]:
    """Progress that nobody watches."""
    yield lambda done, total: None
