"""What decides, built from the configuration: pool, encoder, prices, policies and their routers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from router_gateway import registry
from router_gateway.config import Changes, Config, EpsilonGreedyRule, GreedyRule, PolicyChoice, Savable
from router_gateway.core.errors import PolicyError, RequestError, SnapshotMismatch
from router_gateway.core.protocols import Embedder, Policy, Rule, StartsFromPrior
from router_gateway.core.types import Endpoint, NamedPolicy
from router_gateway.dispatch.endpoints import REPLAY
from router_gateway.learning.live import LivePolicy
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.snapshots import Snapshots
from router_gateway.learning.standing import Standing
from router_gateway.routing.cost import TokenLengthCost, TokenPriceCost
from router_gateway.routing.guard import Guard
from router_gateway.routing.newcomers import Newcomers
from router_gateway.routing.router import Router
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap
from router_gateway.routing.streaming_cost import LearnedCost, StreamingLengthCost

if TYPE_CHECKING:
    from router_gateway.core.experience import Experience
    from router_gateway.evaluation.benchmark import Benchmark
    from router_gateway.learning.learner import Learner

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


def build_cost(config: Config, endpoints: tuple[Endpoint, ...]) -> LearnedCost:
    """The configured cost model, still without experience."""
    kinds: dict[str, Callable[..., LearnedCost]] = {"constant": TokenPriceCost, "learned": TokenLengthCost}
    return kinds.get(config.cost_model, StreamingLengthCost)(endpoints=endpoints)


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


@dataclass(kw_only=True)
class Brain:
    """Everything that decides: pool, encoder, prices and one live policy per configured name."""

    config: Config
    endpoints: tuple[Endpoint, ...]
    embedder: Embedder = field(init=False)
    cost: LearnedCost = field(init=False)
    live: dict[str, LivePolicy] = field(init=False, default_factory=dict)
    newcomers: Newcomers | None = None
    saved: Mapping[str, Any] = field(init=False, default_factory=dict)
    """What admins saved (of `Savable`), in force over the configuration."""
    rebudget: Callable[[float], None] = lambda usd: None
    """Tells the pacer another budget."""

    def __post_init__(self) -> None:
        self.embedder = build_embedder(self.config)
        self.cost = build_cost(self.config, self.endpoints)
        self.snapshots = Snapshots(self.config.snapshots_dir)

    def load(self, progress: Progress, *, fits: bool = True) -> None:
        """Take each policy's newest snapshot; fit those without a fitting one on the training outcomes, if any.

        Without such outcomes they start from the abilities that are declared, if any.

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
        elif fits and missing and any(endpoint.ability is not None for endpoint in self.config.endpoints):
            self.start(missing)
        for choice in missing:
            if choice.name not in self.live:
                log.warning("policy %s is not fitted: the default endpoint serves until it is", choice.name)
                unfitted = registry.create(choice.name, choice.params)
                self.live[choice.name] = LivePolicy(NamedPolicy(name=choice.name, version=0, policy=unfitted))

    def fit(self, choices: list[PolicyChoice], outcomes: str, progress: Progress) -> list[tuple[str, Path]]:
        """Fit `choices` on recorded outcomes of this pool, make them live and save them: (label, folder) each."""
        from router_gateway.evaluation import fitting

        table, experience = self._recorded(outcomes, progress)
        self.cost = build_cost(self.config, self.endpoints)
        fitting.learn_lengths(self.cost, table)
        extra = {"output_tokens": self.cost.state(), "outcomes": outcomes}
        fitted = ((choice.name, self.unfitted_as_configured(choice.name).fit(experience)) for choice in choices)
        told = Provenance.of(experience, created=datetime.now(UTC), extra=extra)
        return [self._save(name, policy, told) for name, policy in fitted]

    def start(self, choices: list[PolicyChoice]) -> None:
        """Begin with what the starter prior makes of the declared abilities; a policy that cannot is left out."""
        from router_gateway.learning.starter import StarterPrior

        starter = StarterPrior.read()
        abilities = {e.name: e.ability for e in self.config.endpoints if e.ability is not None}
        imagined = starter.experience(abilities, self.embedder)
        extra = {"output_tokens": self.cost.state(), "abilities": abilities, "starter_prior": dict(starter.provenance)}
        told = replace(Provenance.of(imagined, created=datetime.now(UTC), extra=extra), observations=0)
        for choice in choices:
            policy = self.unfitted_as_configured(choice.name)
            try:
                if isinstance(policy, StartsFromPrior) and starter.space == self.space:
                    self._save(choice.name, policy.start(starter.prior(abilities)), told)
                else:
                    self._save(choice.name, policy.fit(imagined), told)
            except PolicyError as error:
                log.info("%s does not start from abilities: %s", choice.name, error.message)

    def _save(self, name: str, policy: Policy, provenance: Provenance) -> tuple[str, Path]:
        """Make the policy live and save it: label and folder."""
        version = (self.snapshots.newest(name) or 0) + 1
        named = NamedPolicy(name=name, version=version, policy=policy)
        place = self.snapshots.save(named, provenance)
        self.live[name] = LivePolicy(named)
        return named.label, place

    def fit_candidate(
        self, name: str, params: Mapping[str, Any], home: Snapshots, engine: Any, progress: Progress
    ) -> str:
        """Fit a policy with other parameters on the training outcomes and on what the ledger says, and save it there.

        engine : of ledger/. Returns the label of what was saved. Raises BadParameters, UnknownPolicy, and PolicyError
        where there is nothing to fit on.
        """
        from router_gateway.learning.pupil import Pupil
        from router_gateway.ledger.lessons import Lessons

        named = NamedPolicy(name=name, version=0, policy=self.unfitted(name, params))
        if (outcomes := self.config.training.outcomes) is not None:
            _, experience = self._recorded(outcomes, progress)
            named = replace(named, version=1, policy=named.policy.fit(experience))
            extra = {"outcomes": outcomes}
            home.save(named, Provenance.of(experience, created=datetime.now(UTC), extra=extra))
        live = LivePolicy(named)
        Pupil(
            live=live,
            snapshots=home,
            lessons=Lessons(engine),
            space=self.space,
            settings=self.config.learning,
            unfitted=partial(self.unfitted, params=params),
            still_ours=lambda: True,
        ).refit()
        return live.current().label

    def _recorded(self, outcomes: str, progress: Progress) -> tuple[Benchmark, Experience]:
        """Recorded outcomes of this pool, and as what a policy is fitted on."""
        from router_gateway.evaluation import fitting

        tables = fitting.read_source(outcomes)
        table = fitting.with_tokens(fitting.of_pool(tables[0], self.endpoints, outcomes), self.endpoints)
        with progress(f"Embedding {len(table)} training prompts") as advance:
            embedding = fitting.embed_all(self.embedder, table.prompts, advance)
        return table, fitting.experience_of(table, embedding, self.space)

    @property
    def space(self) -> str:
        """The embedding space of requests."""
        return self.embedder.space

    def routers(self) -> dict[str, Router]:
        """One router per live policy; they share prices, rule, guard and dial."""
        return {name: self.router(live, {}, None) for name, live in self.live.items()}

    def router(self, live: LivePolicy, changes: Mapping[str, Any], candidate: str | None) -> Router:
        """The pool's router over a policy; `changes` (of `check_changes`) are those of the candidate named."""
        config = with_changes(self.in_force, changes)
        return Router(
            endpoints=self.endpoints,
            default_endpoint=config.default_endpoint,
            live=live.current,
            cost=self.cost,
            rule=build_rule(config),
            space=self.space,
            worth_usd=config.worth_usd,
            guard=build_guard(config),
            optimism=config.optimism,
            newcomers=self.newcomers,
            candidate=candidate,
        )

    def lay_over(self, state: Mapping[str, Any]) -> None:
        """Have routers that are built from now on follow what is saved. Raises RequestError for what cannot be."""
        check_savable(state)
        self.saved = state
        if self.in_force.pacing is not None:
            self.rebudget(self.in_force.pacing.usd)

    @property
    def in_force(self) -> Config:
        """The configuration with what is saved laid over it."""
        return with_changes(self.config, self.saved)

    def configured(self, policy: str) -> LivePolicy:
        """The policy as configured, whatever serves in its place."""
        return self.live[policy]

    def never_trained(self) -> tuple[str, ...]:
        """Endpoints that the default policy knows from the ledger alone, if at all; the default endpoint is not one."""
        serving = self.live[self.config.policy.name].current()
        trained = {self.config.default_endpoint}
        manifest = self.snapshots.manifest(serving.name, serving.version) if serving.version else None
        base = None if manifest is None else Standing.of(manifest).base
        if base is not None and (first := self.snapshots.manifest(serving.name, base)) is not None:
            trained |= set(first.provenance.endpoints)
        return tuple(endpoint.name for endpoint in self.endpoints if endpoint.name not in trained)

    def learner(self, engine: Any) -> Learner:
        """Who teaches the live policies what the ledger's database knows."""
        from router_gateway.learning import learner

        return learner.of(
            self.live, self.snapshots, engine, self.config.learning, self.embedder.space, self.unfitted_as_configured
        )

    def unfitted(self, name: str, params: Mapping[str, Any]) -> Policy:
        """A policy that has learned nothing but the vectors of its texts."""
        from router_gateway.evaluation import fitting

        return fitting.with_texts(registry.create(name, params), lambda: self.embedder)

    def unfitted_as_configured(self, name: str) -> Policy:
        """The same with the configured parameters."""
        return self.unfitted(name, {choice.name: choice.params for choice in self.config.policies}[name])

    def _newest(self, choice: PolicyChoice) -> NamedPolicy:
        """The newest snapshot, if it was made with these parameters, for this space. Raises SnapshotMismatch."""
        named, manifest = self.snapshots.load(choice.name)
        wanted = registry.parameters(registry.create(choice.name, choice.params))
        if manifest.params != wanted:
            raise SnapshotMismatch(f"{named.label} was fitted with other parameters")
        if manifest.provenance.embedding_space != self.embedder.space:
            raise SnapshotMismatch(f"{named.label} was fitted in embedding space {manifest.provenance.embedding_space}")
        self.cost.restore(manifest.provenance.extra.get("output_tokens", {}))
        return named


def with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with changes (of `check_changes`) in force; None changes nothing."""
    changed = Savable.model_validate(changes)
    wanted = {name: value for name in Changes.model_fields if (value := getattr(changed, name)) is not None}
    if config.pacing is not None and changed.pacing_usd is not None:
        wanted["pacing"] = config.pacing.model_copy(update={"usd": changed.pacing_usd})
    return config.model_copy(update=wanted)


def check_changes(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a candidate changes, as JSON values without None. Raises RequestError naming the first that is wrong."""
    return {name: value for name, value in _checked(said, Changes).items() if value is not None}


def check_savable(said: Mapping[str, Any]) -> dict[str, Any]:
    """What is saved, as JSON values; None lifts a setting. Raises RequestError naming the first that is wrong."""
    return _checked(said, Savable)


def _checked(said: Mapping[str, Any], model: type[Changes]) -> dict[str, Any]:
    try:
        return model.model_validate(dict(said)).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, ("changes", *first["loc"])))
        raise RequestError(f"`{path}`: {first['msg']}", param=path) from None


def train(config: Config, outcomes: str, progress: Progress) -> list[tuple[str, Path]]:
    """Fit all configured policies on `outcomes` and save new snapshots."""
    brain = Brain(config=config, endpoints=build_endpoints(config))
    return brain.fit(list(config.policies), outcomes, progress)
