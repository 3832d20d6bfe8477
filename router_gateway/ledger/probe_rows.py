"""What the ledger knows of probes: which were answered and graded already, and what is asked here otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import numpy as np
from sqlalchemy import Engine, func, select

from router_gateway.core.types import Floats
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import stands
from router_gateway.ledger.records import unpack
from router_gateway.ledger.tables import attempts, decisions, feedback

_IDS_AT_ONCE = 500


class Graded(NamedTuple):
    """The quality of an answer, and what its attempts cost in nano-dollars."""

    quality: float
    cost_nusd: int


def graded(engine: Engine, feedback_ids: Sequence[UUID]) -> Mapping[UUID, Graded]:
    """Of these ids those under which something stands. Blocks; raises LedgerUnavailable."""
    cost = (
        select(func.coalesce(func.sum(attempts.c.cost_nusd), 0))
        .where(attempts.c.query_id == feedback.c.query_id)
        .scalar_subquery()
    )
    found: dict[UUID, Graded] = {}
    with reading(engine) as connection:
        for start in range(0, len(feedback_ids), _IDS_AT_ONCE):
            asked = feedback_ids[start : start + _IDS_AT_ONCE]
            rows = connection.execute(
                select(feedback.c.id, feedback.c.quality, cost).where(feedback.c.id.in_(asked), stands(feedback.c.id))
            )
            found |= {id_: Graded(quality, int(cost_nusd)) for id_, quality, cost_nusd in rows}
    return found


def recent_vectors(engine: Engine, space: str, *, except_model: str, rows_max: int = 2_000) -> Floats:
    """float32 (T, d), vectors of the newest requests in `space`; (0, 0) without any. Blocks; LedgerUnavailable.

    except_model : requests for this model are left out
    """
    newest = (
        select(decisions.c.embedding)
        .where(
            decisions.c.embedding.is_not(None),
            decisions.c.embedding_space == space,
            decisions.c.requested_model != except_model,
        )
        .order_by(decisions.c.at.desc())
        .limit(rows_max)
    )
    with reading(engine) as connection:
        vectors = [unpack(blob) for (blob,) in connection.execute(newest)]
    return np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float32)
