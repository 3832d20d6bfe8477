"""A ledger's rows of made-up traffic whose truth is known, written into a real database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import Engine, insert

from router_gateway.core.protocols import Rule
from router_gateway.ledger.tables import attempts, decisions, feedback
from router_gateway.ledger.totals import book
from router_gateway.routing.rules import EpsilonGreedy

ENDPOINTS = ("small", "mid", "large")
COST_USD = np.array([2e-5, 2e-4, 2e-3])
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, kw_only=True)
class World:
    """Two kinds of request, even and odd; quality : chance of a good answer, by kind and endpoint.

    believed : what the logger thinks of the endpoints; per_session : requests of one kind in a row
    pinned : every other pair of sessions named its endpoint, so that nothing was drawn
    """

    quality: dict[str, tuple[float, float, float]] = field(
        default_factory=lambda: {"even": (0.95, 0.95, 0.95), "odd": (0.1, 0.4, 0.95)}
    )
    believed: tuple[float, float, float] = (0.5, 0.9, 0.6)
    worth_usd: float = 0.01
    per_session: int = 2
    pinned: bool = False
    rated_share: float = 1.0
    rule: Rule = field(default_factory=lambda: EpsilonGreedy(epsilon=0.6))

    def value(self, choose: tuple[int, int], *, price: bool = False) -> float:
        """True mean quality (less the price over worth_usd) of sending even and odd requests to these columns."""
        good = np.mean([self.quality[kind][column] for kind, column in zip(("even", "odd"), choose, strict=True)])
        return float(good - (COST_USD[list(choose)].mean() / self.worth_usd if price else 0.0))

    def cost_usd(self, choose: tuple[int, int]) -> float:
        return float(COST_USD[list(choose)].mean())


def fill(
    engine: Engine, world: World, count: int, *, seed: int = 0, newest: datetime = NOW, apart_s: float = 60.0
) -> list[UUID]:
    """Write `count` decisions with their attempts and feedback, the last at `newest`; their ids, oldest first."""
    rng = np.random.default_rng(seed)
    value = np.array([world.believed]) - COST_USD / world.worth_usd
    probability = world.rule.probabilities(value, np.ones((1, 3), dtype=bool))[0]
    rows: tuple[list, list, list] = ([], [], [])
    ids = [UUID(bytes=rng.bytes(16)) for _ in range(count)]
    for number, query_id in enumerate(ids):
        session, at = number // world.per_session, newest - timedelta(seconds=apart_s * (count - 1 - number))
        kind = ("even", "odd")[session % 2]
        pinned = world.pinned and session // 2 % 2
        drawn = int(rng.choice(3, p=probability))
        name = ENDPOINTS[drawn]
        vector = np.array([1.0, 0.0] if kind == "even" else [0.0, 1.0]) + rng.normal(0, 0.05, 2)
        rows[0].append(
            {
                "query_id": query_id, "at": at, "tenant": "default", "session": f"s{seed}-{session}",
                "requested_model": "auto", "endpoint": name, "order": [name],
                "propensity": 0.0 if pinned else probability[drawn],
                "endpoints": ENDPOINTS, "quality": world.believed, "stddev": (0.1,) * 3, "cost_usd": COST_USD.tolist(),
                "probability": probability.tolist(), "eligible": [True] * 3, "policy": "knn@1", "rule": world.rule.name,
                "worth_usd": world.worth_usd, "embedding_space": "made", "reason": "scored", "detail": "",
                "embedding": (vector / np.linalg.norm(vector)).astype("<f2").tobytes(), "tokens_input": 100,
            }
        )  # fmt: skip
        cost_nusd = int(COST_USD[drawn] * 1e9 * rng.uniform(0.5, 1.5))
        usage = {"tokens_input": 100, "tokens_cached_input": 0, "tokens_cache_write": 0}
        usage |= {"tokens_output": 200, "tokens_reasoning": 0}
        rows[1].append(
            {"query_id": query_id, "number": 1, "at": at, "endpoint": name, "status": 200, "cost_nusd": cost_nusd}
            | {
                "cost_estimated": False,
                "provider_cost_nusd": None,
                "error": None,
                "latency_ms": 100.0,
                "first_byte_ms": 10.0,
            }
            | usage
        )
        if rng.random() < world.rated_share:
            good = rng.random() < world.quality[kind][drawn]
            said = {"id": UUID(bytes=rng.bytes(16)), "query_id": query_id, "at": at, "quality": float(good)}
            rows[2].append(said | {"source": "user", "tenant": "default"})
    with engine.begin() as connection:
        for table, own in zip((decisions, attempts, feedback), rows, strict=True):
            connection.execute(insert(table), own)
        book(connection, rows[0], rows[1])
    return ids
