"""What follows candidates in the gateways of these tests, put together as wiring does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router_gateway.brain import build_guard, build_rule, check_changes, check_savable
from router_gateway.config import Changes
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Endpoint
from router_gateway.learning.live import LivePolicy
from router_gateway.ledger.candidates import Candidates
from router_gateway.ledger.experiments import read_outcomes
from router_gateway.ledger.leases import Lease
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.saved_settings import SavedSettings
from router_gateway.ledger.shadows import Shadows
from router_gateway.lifecycle.desk import Desk
from router_gateway.lifecycle.evidence import trial_of
from router_gateway.lifecycle.homes import Homes
from router_gateway.lifecycle.judge import LEASE, Judge
from router_gateway.lifecycle.rollout import Rollout
from router_gateway.lifecycle.settings import Lifecycle
from router_gateway.lifecycle.shadowing import Shadowing
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.guard import Guard
from router_gateway.routing.router import Router


@dataclass(kw_only=True)
class Workshop:
    """The pool's routers, changed as brain.py does; of what is saved only the dial is heeded."""

    endpoints: Sequence[Endpoint]
    live: Mapping[str, LivePolicy]
    cost: TokenPriceCost
    rule: Rule
    space: str
    saved: Mapping[str, Any] = field(default_factory=dict)

    def lay_over(self, state: Mapping[str, Any]) -> None:
        check_savable(state)
        self.saved = state

    def configured(self, policy: str) -> LivePolicy:
        return self.live[policy]

    def router(self, live: LivePolicy, changes: Mapping[str, Any], candidate: str | None) -> Router:
        pool, changed = tuple(self.endpoints), Changes.model_validate(changes)
        return Router(
            endpoints=pool,
            default_endpoint=pool[1].name if len(pool) > 1 else pool[0].name,
            live=live.current,
            cost=self.cost,
            rule=self.rule if changed.rule is None else build_rule(changed),
            space=self.space,
            worth_usd={**self.saved, **changes}.get("worth_usd") or 0.02,
            optimism=changed.optimism or 0.0,
            guard=Guard() if changed.guard is None else build_guard(changed),
            candidate=candidate,
        )


def following(ledger: Ledger, directory: Path, routers: Any, workshop: Workshop, settings: Lifecycle) -> Rollout:
    """What follows the candidates of the ledger's database, as wiring puts it together."""
    register = Candidates(ledger.engine)
    desk = Desk(register, Homes(directory / "snapshots"), settings, policies=list(routers), checked=check_changes)
    judge = Judge(
        desk,
        read=lambda name, since, rows_max: trial_of(read_outcomes(ledger.engine, name, since, rows_max)),
        held=Lease(ledger.engine, LEASE).held,
    )
    shadowing = Shadowing(Shadows(ledger.engine), rows_max=settings.shadow_rows_max)
    rollout = Rollout(
        routers=routers,
        desk=desk,
        judge=judge,
        workshop=workshop,
        shadowing=shadowing,
        settings=SavedSettings(ledger.engine),
    )
    rollout.refresh()
    return rollout
