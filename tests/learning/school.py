"""A ledger full of rated answers of a synthetic world, and learners on it."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from router_gateway import registry
from router_gateway.core.experience import Experience
from router_gateway.core.ids import draw, uuid7
from router_gateway.core.protocols import Policy
from router_gateway.core.types import Attempt, Comparison, Decision, Feedback, NamedPolicy, Query, Revocation
from router_gateway.learning import learner
from router_gateway.learning.learner import Learner
from router_gateway.learning.live import LivePolicy
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.settings import Learning
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.ledger import Ledger
from router_gateway.testing import specialists

WORLD = specialists(seed=1)
OFFLINE = WORLD.experience(60, seed=2)
ASKED, CLUSTER = WORLD.queries(40, seed=3)
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Learning(rows_min=1, settle_s=0, held_out_share=0, lease_s=60)
TEACHABLE = ("knn", "linear", "clusters", "factors", "bandit", "stack")


def rate(
    ledger: Ledger,
    count: int,
    *,
    seed: int,
    quality: Callable[[int, int], float] | None = None,
    tenant: str = "default",
    propensity: float = 0.25,
) -> list[Feedback]:
    """Record `count` decisions drawn evenly, their answers and what a user says: the world's quality unless given."""
    queries, cluster = WORLD.queries(count, seed=seed)
    drawn = np.random.default_rng((seed, 5)).integers(0, len(WORLD.endpoints), count)
    said = []
    for row in range(count):
        name = WORLD.endpoints[drawn[row]]
        query_id = decide(ledger, queries.embedding[row], name, tenant=tenant, propensity=propensity)
        value = WORLD.quality[cluster[row], drawn[row]] if quality is None else quality(cluster[row], drawn[row])
        said.append(Feedback(id=uuid7(), query_id=query_id, at=AT, quality=float(value), source="user", tenant=tenant))
        ledger.record_feedback(said[-1])
    assert ledger.drain()
    return said


def decide(ledger: Ledger, vector: Any, endpoint: str, *, tenant: str = "default", propensity: float = 0.25) -> UUID:
    query = Query(id=uuid7(), text="hello", tokens_input=7, tenant=tenant)
    decision = Decision(
        query_id=query.id,
        at=AT,
        endpoint=endpoint,
        order=(endpoint,),
        propensity=propensity,
        worth_usd=0.02,
        embedding_space=WORLD.space,
        reason="scored",
    )
    ledger.record_decision(query, decision, requested_model="auto", embedding=vector)
    ledger.record_attempt(
        Attempt(query_id=query.id, number=1, at=AT, endpoint=endpoint, status=200, cost_nusd=2_500, latency_ms=1.0)
    )
    return query.id


def compare(ledger: Ledger, query_id: UUID, better: str, worse: str) -> Comparison:
    said = Comparison(id=uuid7(), query_id=query_id, at=AT, better=better, worse=worse, source="user")
    ledger.record_comparison(said)
    assert ledger.drain()
    return said


def take_back(ledger: Ledger, said: Iterable[Feedback | Comparison]) -> None:
    for each in said:
        ledger.record_revocation(Revocation(id=each.id, at=AT))
    assert ledger.drain()


def fitted(name: str, experience: Experience = OFFLINE) -> Policy:
    return registry.create(name).fit(experience)


def enrolled(directory: Path, *names: str, extra: dict[str, Any] | None = None) -> None:
    """Save version 1 of each policy, fitted offline."""
    provenance = Provenance.of(OFFLINE, created=AT, extra=extra)
    for name in names:
        Snapshots(directory).save(NamedPolicy(name=name, version=1, policy=fitted(name)), provenance)


def school(engine: Any, directory: Path, *names: str, **settings: Any) -> tuple[Learner, dict[str, LivePolicy]]:
    """A process's learner and live policies: the newest snapshots, or unfitted ones where there is none."""
    snapshots = Snapshots(directory)
    live = {}
    for name in names:
        newest = snapshots.newest(name)
        unfitted = NamedPolicy(name=name, version=0, policy=registry.create(name))
        live[name] = LivePolicy(snapshots.load(name)[0] if newest else unfitted)
    changed = SETTINGS.model_copy(update=settings)
    return learner.of(live, snapshots, engine, changed, WORLD.space, registry.create), live


def is_held_out(said: Feedback, share: float) -> bool:
    return draw(said.query_id, "held-out") < share


def scores(policy: Policy) -> np.ndarray:
    """Quality and doubt of ASKED, (2, Q, E)."""
    found = policy.score(ASKED).align(WORLD.endpoints)
    return np.stack([found.quality, found.stddev])
