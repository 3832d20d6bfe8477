"""The composition root: the only file that turns a configuration into objects that know each other."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from router_gateway import registry
from router_gateway.config import Config, EpsilonGreedyRule, GreedyRule, PolicyChoice, api_keys
from router_gateway.core.errors import PolicyError, SnapshotMismatch
from router_gateway.core.protocols import AsksRouteModel, Embedder, Policy, Rule
from router_gateway.core.types import Endpoint, NamedPolicy
from router_gateway.dispatch.endpoints import REPLAY
from router_gateway.learning.live import LivePolicy
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.snapshots import Snapshots
from router_gateway.routing.bound import CostBound
from router_gateway.routing.cost import TokenLengthCost, TokenPriceCost
from router_gateway.routing.guard import Guard
from router_gateway.routing.router import Router
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from router_gateway.dispatch.route_model import RouteModel
    from router_gateway.gateway import Gateway
    from router_gateway.learning.learner import Learner
    from router_gateway.ledger.budget_keeper import BudgetKeeper
    from router_gateway.ledger.keys import Keys
    from router_gateway.ledger.ledger import Ledger

log = logging.getLogger(__name__)

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a label, a context manager whose value is called with (done, total)."""


def build_endpoints(config: Config, replay_url: str | None = None) -> tuple[Endpoint, ...]:
    """The pool; `replay_url` takes the place of the base URL "replay"."""
    pool = (settings.build() for settings in config.endpoints)
    return tuple(replace(e, base_url=replay_url) if e.base_url == REPLAY and replay_url else e for e in pool)


def build_rule(config: Config) -> Rule:
    """The configured rule."""
    if isinstance(config.rule, GreedyRule):
        return Greedy()
    if isinstance(config.rule, EpsilonGreedyRule):
        return EpsilonGreedy(epsilon=config.rule.epsilon)
    return InverseGap(gamma=config.rule.gamma)


def build_guard(config: Config) -> Guard:
    """The configured guard; a floor that is not set is none."""
    novelty = config.guard.novelty_stddev_max
    return Guard(z=config.guard.z, novelty_stddev_max=np.inf if novelty is None else novelty)


def build_cost(config: Config, endpoints: tuple[Endpoint, ...]) -> TokenPriceCost | TokenLengthCost:
    """The configured cost model, still without experience."""
    return (TokenPriceCost if config.cost_model == "constant" else TokenLengthCost)(endpoints=endpoints)


def build_embedder(config: Config) -> Embedder:
    """The configured encoder behind its cache; nothing heavy is loaded before the first text."""
    from router_gateway.embedding.cache import CachingEmbedder
    from router_gateway.embedding.hashing import HashingEmbedder
    from router_gateway.embedding.onnx import OnnxEmbedder
    from router_gateway.embedding.sentence import SentenceTransformerEmbedder
    from router_gateway.embedding.static import StaticEmbedder

    settings = config.embedder
    embedder: Embedder
    match settings.kind:
        case "static":
            embedder = StaticEmbedder()
        case "hashing":
            embedder = HashingEmbedder()
        case "onnx" | "onnx-int8":
            embedder = OnnxEmbedder(settings.model, threads=settings.threads, int8=settings.kind == "onnx-int8")
        case "sentence":
            embedder = SentenceTransformerEmbedder(settings.model, threads=settings.threads)
    return CachingEmbedder(embedder, settings.cache_entries_max) if settings.cache_entries_max else embedder


def open_ledger(config: Config) -> Ledger:
    """Migrate the database and open the ledger on it."""
    from router_gateway.ledger.engine import migrate
    from router_gateway.ledger.ledger import Ledger

    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(config.ledger_url)
    return Ledger.open(
        config.ledger_url,
        directory=config.state_dir / "journal",
        journal_bytes_max=config.ledger.journal_bytes_max,
        store_text=config.ledger.store_text,
    )


def build_route_models(live: Mapping[str, LivePolicy]) -> dict[str, RouteModel]:
    """The language models that live policies ask for routes, by policy."""
    from router_gateway.dispatch.route_model import RouteModel

    policies = ((name, policy.current().policy) for name, policy in live.items())
    asked = {name: policy.question for name, policy in policies if isinstance(policy, AsksRouteModel)}
    return {name: RouteModel.hosted(question, os.environ) for name, question in asked.items() if question}


@contextmanager
def database(config: Config) -> Iterator[Any]:
    """The ledger's database as it is (an engine of ledger/), for as long as the context lasts."""
    from router_gateway.ledger.engine import open_engine

    engine = open_engine(config.ledger_url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def open_keys(config: Config) -> Iterator[Keys]:
    """The register of API keys, on a migrated database."""
    from router_gateway.ledger.engine import migrate
    from router_gateway.ledger.keys import Keys

    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(config.ledger_url)
    with database(config) as engine:
        yield Keys(engine)


@dataclass(kw_only=True)
class Brain:
    """Everything that decides: pool, encoder, prices and one live policy per configured name."""

    config: Config
    endpoints: tuple[Endpoint, ...]
    embedder: Embedder = field(init=False)
    cost: TokenPriceCost | TokenLengthCost = field(init=False)
    live: dict[str, LivePolicy] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.embedder = build_embedder(self.config)
        self.cost = build_cost(self.config, self.endpoints)
        self._snapshots = Snapshots(self.config.learning.snapshots_dir or self.config.state_dir / "snapshots")

    def load(self, progress: Progress, *, fits: bool = True) -> None:
        """Take each policy's newest snapshot; fit those without a fitting one on the training outcomes, if any.

        With `fits` False nothing is learned and nothing written.
        """
        self.embedder.embed(["ready"])  # loads the weights now rather than under the first request
        missing = []
        for choice in self.config.policies:
            try:
                self.live[choice.name] = LivePolicy(self._newest(choice))
            except PolicyError as error:
                log.info("%s: %s", choice.name, error.message)
                missing.append(choice)
        if fits and missing and self.config.training.outcomes:
            self.fit(missing, self.config.training.outcomes, progress)
        for choice in missing:
            if choice.name not in self.live:
                log.warning("policy %s is not fitted: the default endpoint serves until it is", choice.name)
                unfitted = registry.create(choice.name, choice.params)
                self.live[choice.name] = LivePolicy(NamedPolicy(name=choice.name, version=0, policy=unfitted))

    def fit(self, choices: list[PolicyChoice], outcomes: str, progress: Progress) -> list[tuple[str, Path]]:
        """Fit `choices` on recorded outcomes of this pool, make them live and save them: (label, folder) each."""
        from router_gateway.evaluation import fitting

        tables = fitting.read_source(outcomes)
        table = fitting.with_tokens(fitting.of_pool(tables[0], self.endpoints, outcomes), self.endpoints)
        with progress(f"Embedding {len(table)} training prompts") as advance:
            embedding = fitting.embed_all(self.embedder, table.prompts, advance)
        experience = fitting.experience_of(table, embedding, self.embedder.space)
        self.cost = build_cost(self.config, self.endpoints)
        fitting.learn_lengths(self.cost, table)
        extra = {"output_tokens": self.cost.state(), "outcomes": outcomes}
        saved = []
        for choice in choices:
            policy = self._unfitted(choice.name).fit(experience)
            version = (self._snapshots.newest(choice.name) or 0) + 1
            named = NamedPolicy(name=choice.name, version=version, policy=policy)
            place = self._snapshots.save(named, Provenance.of(experience, created=datetime.now(UTC), extra=extra))
            self.live[choice.name] = LivePolicy(named)
            saved.append((named.label, place))
        return saved

    def routers(self) -> Mapping[str, Router]:
        """One router per live policy; they share prices, rule, guard and dial."""
        config = self.config
        return {
            name: Router(
                endpoints=self.endpoints,
                default_endpoint=config.default_endpoint,
                live=live.current,
                cost=self.cost,
                rule=build_rule(config),
                space=self.embedder.space,
                worth_usd=config.worth_usd,
                guard=build_guard(config),
                optimism=config.optimism,
            )
            for name, live in self.live.items()
        }

    def learner(self, engine: Any) -> Learner:
        """Who teaches the live policies what the ledger's database knows."""
        from router_gateway.learning import learner

        return learner.of(self.live, self._snapshots, engine, self.config.learning, self.embedder.space, self._unfitted)

    def _unfitted(self, name: str) -> Policy:
        from router_gateway.evaluation import fitting

        params = {choice.name: choice.params for choice in self.config.policies}
        return fitting.with_texts(registry.create(name, params[name]), lambda: self.embedder)

    def _newest(self, choice: PolicyChoice) -> NamedPolicy:
        """The newest snapshot, if it was made with these parameters, for this space. Raises SnapshotMismatch."""
        named, manifest = self._snapshots.load(choice.name)
        wanted = registry.parameters(registry.create(choice.name, choice.params))
        if manifest.params != wanted:
            raise SnapshotMismatch(f"{named.label} was fitted with other parameters")
        if manifest.provenance.embedding_space != self.embedder.space:
            raise SnapshotMismatch(f"{named.label} was fitted in embedding space {manifest.provenance.embedding_space}")
        self.cost.restore(manifest.provenance.extra.get("output_tokens", {}))
        return named


def train(config: Config, outcomes: str, progress: Progress) -> list[tuple[str, Path]]:
    """Fit all configured policies on `outcomes` and save new snapshots."""
    brain = Brain(config=config, endpoints=build_endpoints(config))
    return brain.fit(list(config.policies), outcomes, progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A gateway ready to be served."""

    app: Starlette
    gateway: Gateway
    keys: Keys
    learner: Learner


def build(config: Config, *, replay_url: str | None, progress: Progress) -> Built:
    """Everything that `serve` serves."""
    from router_gateway.api.app import create_app
    from router_gateway.api.auth import Authenticator
    from router_gateway.api.metrics import PrometheusMeter
    from router_gateway.api.parts import Parts
    from router_gateway.api.watching import watch
    from router_gateway.dispatch.fallback import FallbackDispatcher
    from router_gateway.dispatch.passthrough import PassthroughUpstream
    from router_gateway.dispatch.tokens import warm_up
    from router_gateway.dispatch.translate import LiteLLMUpstream
    from router_gateway.embedding.batcher import Batcher
    from router_gateway.gateway import Gateway
    from router_gateway.ledger.keys import Keys

    secrets = api_keys(config)
    warm_up()
    brain = Brain(config=config, endpoints=build_endpoints(config, replay_url))
    ledger = open_ledger(config)
    brain.load(progress)
    if config.learn_output_tokens and isinstance(brain.cost, TokenPriceCost):
        for name, means in ledger.output_tokens().items():
            brain.cost.observe_output(name, means.mean_output_tokens, calls=means.calls)
    meter = PrometheusMeter(brain.endpoints)
    translating = LiteLLMUpstream(secrets, drop_params=config.dispatch.drop_params)
    pool = {endpoint.name: endpoint for endpoint in brain.endpoints}
    settings = config.embedder
    gateway = Gateway(
        route_models=build_route_models(brain.live),
        routers=brain.routers(),
        default_policy=config.policy.name,
        batcher=Batcher(
            brain.embedder,
            batch_max=settings.batch_max,
            wait_ms_max=settings.wait_ms_max,
            queue_max=settings.queue_max,
        ),
        dispatcher=FallbackDispatcher(pool, {"openai": PassthroughUpstream(secrets), "litellm": translating}),
        ledger=ledger,
        cost=brain.cost,
        meter=meter,
        routing_deadline_ms=config.server.routing_deadline_ms,
        learns_output_tokens=config.learn_output_tokens,
        budgets=_open_budgets(config, ledger, pool),
    )
    keys = Keys(ledger.engine)
    parts = Parts(
        gateway=gateway,
        auth=Authenticator(find=keys.find),
        meter=meter,
        ready=lambda: [] if ledger.ready() else ["ledger"],
        body_bytes_max=config.server.body_bytes_max,
        requests_in_flight_max=config.server.requests_in_flight_max,
        stream_ping_s=config.server.stream_ping_s,
        started_at=int(datetime.now(UTC).timestamp()),
        # seconds of import: before the first request rather than under it, and only where it is needed
        before_serving=[translating.load] if any(e.protocol == "litellm" for e in brain.endpoints) else [],
    )
    watch(meter, gateway, brain.embedder, learner := brain.learner(ledger.engine))
    return Built(app=create_app(parts), gateway=gateway, keys=keys, learner=learner)


def _open_budgets(config: Config, ledger: Ledger, pool: Mapping[str, Endpoint]) -> BudgetKeeper:
    """The budgets of the ledger's database, read for the first time."""
    from router_gateway.ledger.budget_keeper import BudgetKeeper

    settings = config.budgets
    bound = CostBound(
        endpoints=pool,
        output_tokens_assumed=settings.output_tokens_assumed,
        prompt_margin=settings.prompt_margin,
    )
    keeper = BudgetKeeper(ledger.engine, bound=bound, refresh_s=settings.refresh_s)
    keeper.start()
    return keeper


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
