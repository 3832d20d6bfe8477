"""What candidates in shadow would have done: written beside the ledger, lost without harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.lifecycle_tables import shadow_decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRow:
    """A candidate's decision of a query that the live policy decided.

    propensity, quality, cost_usd : of the candidate's own choice, as it expects it; None where it failed (`error`)
    probability_of_served : with which the candidate draws what was served: the target's side of an off-policy estimate
    served, served_quality, served_cost_usd : the live decision, as the live policy expected it
    latency_ms : of deciding, all in all
    """

    candidate: str
    query_id: UUID
    at: datetime
    policy: str
    endpoint: str | None = None
    propensity: float | None = None
    quality: float | None = None
    cost_usd: float | None = None
    probability_of_served: float | None = None
    served: str
    served_quality: float | None = None
    served_cost_usd: float | None = None
    latency_ms: float
    error: str | None = None


class Shadows:
    """Both methods block on the database, and raise LedgerUnavailable when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, rows: Sequence[ShadowRow]) -> None:
        """Write rows; those that are there already stay as they are."""
        with writing(self._engine) as connection:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            values = [{name: getattr(row, name) for name in ShadowRow.__slots__} for row in rows]
            connection.execute(insert(shadow_decisions).on_conflict_do_nothing(), values)

    def count(self, candidate: str) -> int:
        """Rows of a candidate."""
        query = select(func.count()).where(shadow_decisions.c.candidate == candidate)
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def summary(self, candidate: str) -> Mapping[str, Any]:
        """What a candidate in shadow shows: how often it agrees, fails, and what it expects beside the live policy."""
        own = shadow_decisions.c
        decided = own.error.is_(None)
        query = select(
            func.count().label("decisions"),
            func.sum(case((decided, 0), else_=1)).label("failed"),
            func.avg(case((decided, case((own.endpoint == own.served, 1.0), else_=0.0)))).label("agreed"),
            func.avg(own.quality).label("expected_quality"),
            func.avg(case((decided, own.served_quality))).label("live_expected_quality"),
            func.avg(own.cost_usd).label("expected_cost_usd"),
            func.avg(case((decided, own.served_cost_usd))).label("live_expected_cost_usd"),
            func.avg(own.latency_ms).label("latency_ms_mean"),
            func.max(own.latency_ms).label("latency_ms_max"),
        ).where(own.candidate == candidate)
        with reading(self._engine) as connection:
            row = connection.execute(query).mappings().one()
        counts = {name: int(row[name] or 0) for name in ("decisions", "failed")}
        means = {name: None if row[name] is None else float(row[name]) for name in row if name not in counts}
        return {**counts, **means}
