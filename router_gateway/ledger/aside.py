"""What else is known of one request: compared pairs, who judged, and what candidates in shadow chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select

from router_gateway.ledger.connections import reading
from router_gateway.ledger.lifecycle_tables import shadow_decisions
from router_gateway.ledger.reads import stands
from router_gateway.ledger.tables import comparisons, judgements

_ROWS_MAX = 100
Rows = Sequence[Mapping[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """Rows as the tables have them, at most a hundred of each. `judges` names the judge by the id of its feedback."""

    comparisons: Rows
    judges: Mapping[UUID, str]
    shadows: Rows


def read_aside(engine: Engine, query_id: UUID) -> Aside:
    """Everything by an index. Raises LedgerUnavailable."""
    with reading(engine) as connection:

        def rows(query: Any) -> Rows:
            return connection.execute(query.limit(_ROWS_MAX)).mappings().all()

        compared = select(comparisons).where(comparisons.c.query_id == query_id, stands(comparisons.c.id))
        said = select(judgements.c.id, judgements.c.judge).where(judgements.c.query_id == query_id)
        shadows = select(shadow_decisions).where(shadow_decisions.c.query_id == query_id)
        return Aside(
            comparisons=rows(compared),
            judges={row["id"]: row["judge"] for row in rows(said)},
            shadows=rows(shadows),
        )
