"""The composition root: what decides (brain.py) meets what serves."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_gateway.brain import Brain, Progress, build_endpoints, build_rule
from router_gateway.config import Config, api_keys
from router_gateway.core.errors import PolicyError
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.core.money import NUSD_PER_USD
from router_gateway.core.protocols import AsksRouteModel
from router_gateway.core.types import Endpoint, WireProtocol
from router_gateway.learning.live import LivePolicy
from router_gateway.opening import open_ledger, open_rollout
from router_gateway.routing.bound import CostBound
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.streaming_cost import LearnedCost, StreamingLengthCost

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from router_gateway.dispatch.fallback import FallbackDispatcher
    from router_gateway.dispatch.route_model import RouteModel
    from router_gateway.dispatch.upstream import Upstream
    from router_gateway.embedding.batcher import Batcher
    from router_gateway.gateway import Gateway, Meter
    from router_gateway.learning.keepsake import Keepsake
    from router_gateway.learning.learner import Learner
    from router_gateway.ledger.budget_keeper import BudgetKeeper
    from router_gateway.ledger.keys import Keys
    from router_gateway.ledger.ledger import Ledger
    from router_gateway.ledger.newcomers import NewcomerWatch
    from router_gateway.ledger.pace_keeper import PaceKeeper
    from router_gateway.lifecycle.rollout import Rollout
    from router_gateway.probing.onboarder import Onboarder
    from router_gateway.routing.router import Router

log = logging.getLogger(__name__)


def build_route_models(live: Mapping[str, LivePolicy]) -> dict[str, RouteModel]:
    """The language models that live policies ask for routes, by policy."""
    from router_gateway.dispatch.route_model import RouteModel

    policies = ((name, policy.current().policy) for name, policy in live.items())
    asked = {name: policy.question for name, policy in policies if isinstance(policy, AsksRouteModel)}
    return {name: RouteModel.hosted(question, os.environ) for name, question in asked.items() if question}


@dataclass(frozen=True, slots=True)
class Built:
    """A gateway ready to be served. `stopping` is called when it is to stop, before it waits for its requests."""

    app: Starlette
    gateway: Gateway
    keys: Keys
    learner: Learner
    rollout: Rollout
    stopping: Callable[[], None]


def build(
    config: Config, *, replay_url: str | None, progress: Progress, side_by_side: tuple[Path, int] | None = None
) -> Built:
    """Everything that `serve` serves.

    `side_by_side` is for one of several workers: where all of them keep their metrics, and the number of this one.
    """
    from router_gateway.api.app import create_app
    from router_gateway.api.auth import Authenticator
    from router_gateway.api.metrics import PrometheusMeter
    from router_gateway.api.parts import Parts
    from router_gateway.api.siblings import Siblings
    from router_gateway.api.watching import watch
    from router_gateway.dispatch.fallback import FallbackDispatcher
    from router_gateway.drafting import Drafting
    from router_gateway.estimating import Estimates
    from router_gateway.grading.grader import Grader
    from router_gateway.ledger.keys import Keys
    from router_gateway.saving import Saving

    upstreams, prepare = _upstreams(config)
    brain = Brain(config=config, endpoints=build_endpoints(config, replay_url))
    ledger = open_ledger(config)
    newcomers = _load(brain, ledger, progress)
    meter = PrometheusMeter(brain.endpoints)
    pool = {endpoint.name: endpoint for endpoint in brain.endpoints}
    routers, learner = brain.routers(), brain.learner(ledger.engine)
    rollout = open_rollout(brain, ledger.engine, routers, learner)
    gateway = _gateway(
        brain,
        ledger,
        meter=meter,
        rollout=rollout,
        routers=routers,
        newcomers=newcomers,
        dispatcher=FallbackDispatcher(pool, upstreams),
    )
    keys, estimates = Keys(ledger.engine), Estimates(lambda: brain.in_force)
    parts = Parts(
        gateway=gateway,
        grader=Grader.of(gateway, FallbackDispatcher(pool, upstreams), config.judging),
        onboarder=_onboarder(gateway, learner, config),
        auth=Authenticator(find=keys.find),
        meter=meter,
        siblings=None if side_by_side is None else Siblings.beside(meter.text, *side_by_side),
        ready=lambda: [] if ledger.ready() else ["ledger"],
        estimates=estimates,
        drafts=Drafting(config),
        body_bytes_max=config.server.body_bytes_max,
        requests_in_flight_max=config.server.requests_in_flight_max,
        stream_ping_s=config.server.stream_ping_s,
        started_at=int(datetime.now(UTC).timestamp()),
        saving=Saving(config),
        truth=config.learning.truth,
        viewers_read_text=config.admin_api.viewers_read_text,
        # seconds of import: before the first request rather than under it, and only where it is needed
        before_serving=[prepare] if any(e.protocol == "litellm" for e in brain.endpoints) else [],
    )
    watch(meter, gateway, brain.embedder, learner, parts.grader)
    return Built(create_app(parts), gateway, keys, learner, rollout, stopping=estimates.end)


def _onboarder(gateway: Gateway, learner: Learner, config: Config) -> Onboarder:
    """Who places endpoints in the background, and has the policies learn from it."""
    from router_gateway.probing.onboarder import Onboarder

    teach = partial(learner.step, rows_min=1)
    return Onboarder(gateway, teach=teach, prompt_margin=config.budgets.prompt_margin)


def _gateway(
    brain: Brain,
    ledger: Ledger,
    *,
    meter: Meter,
    rollout: Rollout,
    routers: dict[str, Router],
    newcomers: NewcomerWatch | None,
    dispatcher: FallbackDispatcher,
) -> Gateway:
    """The straight line, from its parts."""
    from router_gateway.gateway import Gateway

    config = brain.config
    return Gateway(
        route_models=build_route_models(brain.live),
        routers=routers,
        rollout=rollout,
        default_policy=config.policy.name,
        batcher=_batcher(brain),
        dispatcher=dispatcher,
        ledger=ledger,
        cost=brain.cost,
        meter=meter,
        routing_deadline_ms=config.server.routing_deadline_ms,
        learns_output_tokens=config.learn_output_tokens,
        budgets=_open_budgets(config, ledger, {endpoint.name: endpoint for endpoint in brain.endpoints}),
        newcomers=newcomers,
        pacer=_open_pacer(brain, ledger),
        keepsake=_kept(config, brain.cost),
    )


def _upstreams(config: Config) -> tuple[Mapping[WireProtocol, Upstream], Callable[[], Awaitable[None]]]:
    """How endpoints are spoken to, and what loads the slow one of them."""
    from router_gateway.dispatch.passthrough import PassthroughUpstream
    from router_gateway.dispatch.translate import LiteLLMUpstream

    secrets = api_keys(config)
    translating = LiteLLMUpstream(secrets, drop_params=config.dispatch.drop_params)
    return {"openai": PassthroughUpstream(secrets), "litellm": translating}, translating.load


def _load(brain: Brain, ledger: Ledger, progress: Progress) -> NewcomerWatch | None:
    """Policies from their snapshots or fitted, and what the ledger knows of the lengths of answers and of newcomers."""
    from router_gateway.dispatch.tokens import warm_up

    warm_up()
    brain.load(progress)
    if brain.config.learn_output_tokens and isinstance(brain.cost, TokenPriceCost):
        for name, means in ledger.output_tokens().items():
            brain.cost.observe_output(name, means.mean_output_tokens, calls=means.calls)
    return _watch_newcomers(brain, ledger)


def _watch_newcomers(brain: Brain, ledger: Ledger) -> NewcomerWatch | None:
    """Who counts what is known of endpoints that were not there when the policy was trained."""
    from router_gateway.ledger.newcomers import NewcomerWatch
    from router_gateway.routing.newcomers import Newcomers

    settings = brain.config.newcomers
    if settings is None or not (candidates := brain.never_trained()):
        return None
    watch = NewcomerWatch(
        ledger.engine,
        candidates,
        outcomes_min=settings.outcomes_min,
        requests_max=settings.requests_max,
        refresh_s=settings.refresh_s,
    )
    watch.start()
    brain.newcomers = Newcomers(share=settings.share, names=watch.names)
    return watch


def _batcher(brain: Brain) -> Batcher:
    """The encoder, one call at a time."""
    from router_gateway.embedding.batcher import Batcher

    settings = brain.config.embedder
    return Batcher(
        brain.embedder,
        batch_max=settings.batch_max,
        wait_ms_max=settings.wait_ms_max,
        queue_max=settings.queue_max,
    )


def _open_budgets(config: Config, ledger: Ledger, pool: Mapping[str, Endpoint]) -> BudgetKeeper:
    """The budgets of the ledger's database, that of judging among them, read for the first time."""
    from router_gateway.ledger.budget_keeper import BudgetKeeper
    from router_gateway.ledger.budgets import Budgets

    settings = config.budgets
    bound = CostBound(
        endpoints=pool,
        output_tokens_assumed=settings.output_tokens_assumed,
        prompt_margin=settings.prompt_margin,
    )
    if config.judging.enabled:
        limit_nusd = int(config.judging.usd_per_day * NUSD_PER_USD)
        Budgets(ledger.engine).set("tenant", JUDGING_TENANT, "day", limit_nusd)
    keeper = BudgetKeeper(ledger.engine, bound=bound, refresh_s=settings.refresh_s)
    keeper.start()
    return keeper


def _open_pacer(brain: Brain, ledger: Ledger) -> PaceKeeper | None:
    """The pacer of the budget in force, where the ledger left it; None without one."""
    from router_gateway.learning.pupil import changes_of
    from router_gateway.ledger.pace_keeper import PaceKeeper

    config, live = brain.in_force, brain.live
    if config.pacing is None:
        return None
    pacer = config.pacing.pacer(rule=build_rule(config), worth_usd=config.worth_usd, optimism=config.optimism)
    keeper = PaceKeeper(
        ledger.engine,
        pacer,
        changes=lambda: sum(sum(changes_of(policy.current()).values()) for policy in live.values()),
        refresh_s=config.pacing.refresh_s,
    )
    brain.rebudget = keeper.rebudget
    keeper.start()
    return keeper


def _kept(config: Config, cost: LearnedCost) -> Keepsake | None:
    """A cost model that learns from calls alone goes on where the last process was."""
    from router_gateway.learning.keepsake import Keepsake

    if not isinstance(cost, StreamingLengthCost):
        return None
    keepsake = Keepsake(config.state_dir / "answer_lengths.json", cost.state)
    keepsake.give_back(cost.restore)
    keepsake.start()
    return keepsake


def replay_app(config: Config, hit_log: Path | None) -> Any:
    """The replay server's ASGI application, filled from the configured outcomes."""
    from router_gateway.dispatch.replay import create_replay_app
    from router_gateway.evaluation.recordings import recordings_of

    if config.replay is None:
        raise PolicyError("the configuration has no `replay` section")
    started = time.perf_counter()
    recordings = recordings_of(config.replay.outcomes, build_endpoints(config))
    log.info("replaying %s (%.1f s to read)", config.replay.outcomes, time.perf_counter() - started)
    return create_replay_app(recordings, hit_log=hit_log, speed=config.replay.speed)
