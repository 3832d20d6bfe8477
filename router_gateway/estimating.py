"""What the ledger says of other policies, for this installation: asked by verbs, and by the admin API.

An estimate fits models and resamples for seconds. In the gateway's own process that would be time taken from requests
under way, so `Estimates` has it done apart, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_gateway.config import Config
from router_gateway.core.apart import Apart
from router_gateway.core.errors import ConfigError, GatewayError, NotFound, PolicyError, RequestError
from router_gateway.core.kept import Kept
from router_gateway.evaluation.audit_question import Change, CurveQuestion, Question

if TYPE_CHECKING:
    from router_gateway.core.protocols import Policy
    from router_gateway.evaluation.audit import Installation
    from router_gateway.evaluation.audit_result import AuditResult
    from router_gateway.evaluation.curve import Subject
    from router_gateway.evaluation.curve_result import Curves
    from router_gateway.evaluation.forecast_result import Forecast
    from router_gateway.lifecycle.makings import Makings

API_DECISIONS_MAX = 20_000
"""Decisions that are read for the admin API: an answer within seconds."""
LIMIT_S = 300.0
"""An estimate that takes longer is ended."""


def audit(config: Config, question: Question) -> AuditResult:
    """Whether routing is worth it here, from the ledger as it is. Blocks for seconds.

    Raises GatewayError where there is no current ledger, and what `evaluation.audit.audit` raises.
    """
    from router_gateway.evaluation.audit import audit as run
    from router_gateway.saving import with_saved

    with current_ledger(config) as engine:
        config = with_saved(config, engine)
        return run(engine, installation(config, engine, question), question)


def forecast(config: Config, change: Change) -> Forecast:
    """The days to come, from the ledger as it is. Blocks for seconds; raises as `audit` does."""
    from router_gateway.brain import build_endpoints
    from router_gateway.evaluation.forecast import forecast as run
    from router_gateway.saving import with_saved

    with current_ledger(config) as engine:
        config = with_saved(config, engine)
        return run(engine, installation(config, engine, change.question), build_endpoints(config), change)


def curves(config: Config, question: CurveQuestion) -> Curves:
    """Cost and quality over the dial, on own traffic or on the reference outcomes. Blocks for seconds.

    Raises as `audit` does.
    """
    from functools import partial

    from router_gateway.brain import build_cost, build_endpoints
    from router_gateway.evaluation.curve import curves as run
    from router_gateway.evaluation.curve_result import Curves
    from router_gateway.evaluation.embeddings import Encoder
    from router_gateway.evaluation.reference_curve import Reference, reference_curves
    from router_gateway.saving import with_saved

    with current_ledger(config) as engine:
        config = with_saved(config, engine)
        subjects = list(_subjects(config, engine, question))
        if question.on == "traffic":
            return run(engine, subjects, question)
    if config.training.outcomes is None:
        why = "not identifiable: no outcomes are recorded for this pool (training.outcomes names some)"
        return Curves(on="reference", rule=question.rule, refused=why)
    reference = Reference(
        source=config.training.outcomes,
        pool=build_endpoints(config),
        encoder=Encoder(kind=config.embedder.kind, model=config.embedder.model),
        cost=partial(build_cost, config),
        cache=config.state_dir / "vectors",
    )
    return reference_curves(reference, subjects, question)


def _subjects(config: Config, engine: Any, question: CurveQuestion) -> Iterator[Subject]:
    from router_gateway.evaluation.curve import Subject

    asked = [("live", Question())]
    asked += [("candidate", Question(candidate=name)) for name in question.candidates]
    asked += [("policy", Question(policy=name)) for name in question.policies]
    for what, one in asked:
        own = installation(config, engine, one)
        worth_usd = config.worth_usd if own.worth_usd is None else own.worth_usd
        yield Subject(name=one.policy or own.policy, what=what, installation=own, worth_usd=worth_usd)


class Estimates:
    """Answers in plain values, each from a process of its own. A second question meanwhile is refused (Overloaded).

    config : returns the configuration in force
    """

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._process = Apart("estimate", limit_s=LIMIT_S)
        self._kept = Kept()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of the pool."""
        return tuple(endpoint.name for endpoint in self._config().endpoints)

    def end(self) -> None:
        """Give up what is under way: the gateway stops, and an estimate may take minutes."""
        self._process.end()

    async def audit(self, question: Question) -> dict[str, Any]:
        """As `audit`, of at most API_DECISIONS_MAX decisions."""
        return await self._apart(_audited, _bounded(question))

    async def forecast(self, change: Change) -> dict[str, Any]:
        """As `forecast`, of at most API_DECISIONS_MAX decisions."""
        return await self._apart(_forecast, replace(change, question=_bounded(change.question)))

    async def curves(self, question: CurveQuestion, key: Hashable, age_s_max: float) -> dict[str, Any]:
        """As `curves`, of at most API_DECISIONS_MAX decisions; kept by `key`, and not older than `age_s_max`."""
        bounded = replace(question, decisions_max=min(question.decisions_max, API_DECISIONS_MAX))
        config = self._config()
        manner = repr((config.worth_usd, config.optimism, config.rule, config.guard))
        return await self._kept.get((key, manner), age_s_max, lambda: self._apart(_curves, bounded, patient=True))

    async def _apart(
        self, run: Callable[[Config, Any], dict[str, Any]], asked: Any, *, patient: bool = False
    ) -> dict[str, Any]:
        try:
            return await self._process.run(run, self._config(), asked, patient=patient)
        except (PolicyError, ConfigError) as error:  # a candidate that there is not
            raise RequestError(error.message, param="policy", hint=error.hint) from None


def _audited(config: Config, question: Question) -> dict[str, Any]:
    return audit(config, question).to_json()


def _forecast(config: Config, change: Change) -> dict[str, Any]:
    return forecast(config, change).to_json()


def _curves(config: Config, question: CurveQuestion) -> dict[str, Any]:
    return curves(config, question).to_json()


def _bounded(question: Question) -> Question:
    return replace(question, decisions_max=min(question.decisions_max, API_DECISIONS_MAX))


def installation(config: Config, engine: Any, question: Question) -> Installation:
    """How this gateway decides: by a candidate asked about, by the policy asked about, or as it does now.

    engine : of ledger/, whose register says which candidate is live
    Raises NotFound for a candidate that there is not, SnapshotMismatch where its policy cannot be read.
    """
    from router_gateway.brain import build_guard, build_rule, with_changes
    from router_gateway.evaluation.audit import Installation
    from router_gateway.evaluation.logged_replay import Manner
    from router_gateway.learning.recalibration import hearing_of
    from router_gateway.learning.snapshots import Snapshots

    made = _made_of(config, engine, question)
    changed = with_changes(config, {} if made is None else made.changes)
    label = config.policy.name if made is None else made.name

    def unfitted(said: str) -> Policy:
        if made is None or said != made.name:
            return _unfitted(config, said)
        if made.kind is None:
            return _unfitted(config, made.policy)
        return _created(config, made.kind, made.params)

    return Installation(
        policy=label,
        unfitted=unfitted,
        snapshots=Snapshots(config.snapshots_dir),
        manner=Manner(
            rule=build_rule(changed),
            guard=build_guard(changed),
            optimism=changed.optimism,
            default_endpoint=changed.default_endpoint,
        ),
        worth_usd=None if made is None else made.changes.get("worth_usd"),
        hearing=lambda engine: hearing_of(engine, config.learning),
    )


def _made_of(config: Config, engine: Any, question: Question) -> Makings | None:
    """The candidate that is asked about, or that is live; None for a policy as configured."""
    from router_gateway.ledger.candidates import Candidates
    from router_gateway.lifecycle import makings
    from router_gateway.lifecycle.homes import Homes

    register, homes = Candidates(engine), Homes(config.snapshots_dir)
    if question.policy is not None:
        return None
    if question.candidate is None:
        return makings.live(register, homes, config.policy.name)
    try:
        return makings.of(register, homes, question.candidate)
    except NotFound as error:
        raise NotFound(error.message, param="candidate") from None


def _unfitted(config: Config, said: str) -> Policy:
    """A configured policy with its parameters, any other with its defaults, or NAME:parameter=value."""
    from router_gateway.evaluation.command import Options, chosen_specs

    params = {choice.name: choice.params for choice in config.policies}
    if said in params:
        return _created(config, said, params[said])
    [spec] = chosen_specs(Options(policies=(said,)))
    return _with_texts(config, spec.build())


def _created(config: Config, kind: str, params: Mapping[str, Any]) -> Policy:
    from router_gateway import registry

    return _with_texts(config, registry.create(kind, params))


def _with_texts(config: Config, policy: Policy) -> Policy:
    from router_gateway.brain import build_embedder
    from router_gateway.evaluation import fitting

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
