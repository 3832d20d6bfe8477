"""Where a new endpoint stands among the others: its probes, and what the policy that serves makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_gateway.core.errors import NotFitted
from router_gateway.core.protocols import Embedder
from router_gateway.core.types import Endpoint, Floats, NamedPolicy, Queries
from router_gateway.evaluation.fitting import embed_all
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.probe_rows import graded, recent_vectors
from router_gateway.probing.asking import REQUESTED_MODEL, feedback_id
from router_gateway.probing.choosing import representative
from router_gateway.probing.interval import Interval, wilson
from router_gateway.probing.probes import Probe

_TRAFFIC_MIN = 50
"""Requests of one's own from which on they are what probes stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which probes are asked, and for what they stand.

    share : float64 (n,), part of the targets that each stands for
    targets : float32 (T, d), vectors of recent requests, or of all probes where there were too few
    """

    probes: tuple[Probe, ...]
    share: Floats
    targets: Floats
    space: str
    own_traffic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One endpoint.

    right, asked : of the plan's probes; right counts grades, which may be fractions
    interval : of its mean quality on what the probes stand for, None where none was asked
    usd : mean of a probe, None likewise
    expected, doubt : what the policy expects over the targets, and its mean stddev; None for an unknown endpoint
    """

    endpoint: str
    right: float
    asked: int
    interval: Interval | None
    usd: float | None
    expected: float | None
    doubt: float | None


def plan(ledger: Ledger, embedder: Embedder, probes: Sequence[Probe], n: int, endpoint: Endpoint) -> Plan:
    """At most `n` of the probes, those that stand for recent requests; for all probes where requests are few.

    What the endpoint has answered already comes first, so that a plan is gone on with although the traffic changed.
    Raises LedgerUnavailable.
    """
    vectors = embed_all(embedder, [probe.prompt for probe in probes])
    return plan_of(ledger, vectors, embedder.space, probes, n, endpoint)


def plan_of(
    ledger: Ledger, candidates: Floats, space: str, probes: Sequence[Probe], n: int, endpoint: Endpoint
) -> Plan:
    """The same where the vectors of the probes are known, float32 (Q, d) in `space`."""
    recent = recent_vectors(ledger.engine, space, except_model=REQUESTED_MODEL)
    own_traffic = len(recent) >= _TRAFFIC_MIN
    targets = recent if own_traffic else candidates
    known = graded(ledger.engine, [feedback_id(endpoint, probe) for probe in probes])
    given = [row for row, probe in enumerate(probes) if feedback_id(endpoint, probe) in known]
    rows, share = representative(candidates, targets, n, given=given)
    return Plan(
        probes=tuple(probes[row] for row in rows),
        share=share,
        targets=targets,
        space=space,
        own_traffic=own_traffic,
    )


def waiting(ledger: Ledger, endpoint: Endpoint, probes: Sequence[Probe]) -> list[Probe]:
    """Those without a grade yet. Raises LedgerUnavailable."""
    known = graded(ledger.engine, [feedback_id(endpoint, probe) for probe in probes])
    return [probe for probe in probes if feedback_id(endpoint, probe) not in known]


def standings(ledger: Ledger, endpoints: Sequence[Endpoint], policy: NamedPolicy, made: Plan) -> list[Standing]:
    """All endpoints, the best expectation first, those that the policy does not know last. Raises LedgerUnavailable."""
    expected = _expected(policy, made)
    found = [_standing(ledger, endpoint, made, expected.get(endpoint.name)) for endpoint in endpoints]
    return sorted(found, key=lambda each: -1.0 if each.expected is None else each.expected, reverse=True)


def _standing(ledger: Ledger, endpoint: Endpoint, made: Plan, expected: tuple[float, float] | None) -> Standing:
    ids = [feedback_id(endpoint, probe) for probe in made.probes]
    known = graded(ledger.engine, ids)
    rows = [row for row, id_ in enumerate(ids) if id_ in known]
    quality = np.array([known[ids[row]].quality for row in rows], dtype=np.float64)
    return Standing(
        endpoint=endpoint.name,
        right=float(quality.sum()),
        asked=len(rows),
        interval=wilson(quality, made.share[rows]),
        usd=sum(known[ids[row]].cost_nusd for row in rows) / len(rows) / 1e9 if rows else None,
        expected=None if expected is None else expected[0],
        doubt=None if expected is None else expected[1],
    )


def _expected(policy: NamedPolicy, made: Plan) -> dict[str, tuple[float, float]]:
    """By endpoint that the policy knows: mean quality and mean stddev over the targets."""
    asked = Queries(
        text=("",) * len(made.targets),
        embedding=made.targets,
        tokens_input=np.zeros(len(made.targets), dtype=np.int64),
        space=made.space,
    )
    try:
        scores = policy.policy.score(asked)
    except NotFitted:
        return {}
    means = zip(scores.quality.mean(axis=0).tolist(), scores.stddev.mean(axis=0).tolist(), strict=True)
    return dict(zip(scores.endpoints, means, strict=True))
