"""From feedback rows to what a policy learns from.

An outcome is credited to the endpoint that answered, not to the one that was drawn: where the two
differ (a fallback) the row's propensity is 0, and off-policy estimates leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Engine, Row, and_, select

from router_gateway.core.experience import Experience
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Floats, Queries
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import answering_attempt
from router_gateway.ledger.records import unpack
from router_gateway.ledger.tables import attempts, decisions, feedback


def read_experience(
    engine: Engine, watermark: int, *, embedding_space: str | None, rows_max: int, settle_s: float
) -> tuple[Experience, int]:
    """Feedback rows past `watermark` (`feedback.seq`; 0 = from the start) as an Experience, and the next watermark.

    Feedback may be in the database before the decision it speaks of, whose process is still catching up:
    such a row holds the watermark back until it is `settle_s` old, and is passed over afterwards.
    """
    with reading(engine) as connection:
        space = embedding_space or connection.execute(_newest_space()).scalar() or "none"
        rows = connection.execute(_outcomes(watermark, rows_max)).all()
    unsettled_since = datetime.now(UTC) - timedelta(seconds=settle_s)
    kept: list[Row[Any]] = []
    for row in rows:
        complete = row.drawn is not None and row.answered is not None
        if not complete and row.at > unsettled_since:
            break
        watermark = row.seq
        if complete and row.embedding is not None and row.embedding_space == space:
            kept.append(row)
    return _experience(_corrected(kept), space), watermark


def _newest_space() -> Any:
    return (
        select(decisions.c.embedding_space)
        .where(decisions.c.embedding.is_not(None))
        .order_by(decisions.c.at.desc())
        .limit(1)
    )


def _outcomes(watermark: int, rows_max: int) -> Any:
    said = select(feedback).where(feedback.c.seq > watermark).order_by(feedback.c.seq).limit(rows_max).subquery()
    last = answering_attempt().where(attempts.c.query_id.in_(select(said.c.query_id))).subquery()
    answered = and_(attempts.c.query_id == last.c.query_id, attempts.c.number == last.c.number)
    return (
        select(
            said.c.seq,
            said.c.at,
            said.c.query_id,
            said.c.quality,
            said.c.source,
            said.c.turn,
            decisions.c.endpoint.label("drawn"),
            decisions.c.propensity,
            decisions.c.embedding_space,
            decisions.c.embedding,
            decisions.c.tokens_input,
            decisions.c.text,
            attempts.c.endpoint.label("answered"),
            attempts.c.cost_nusd,
        )
        .select_from(said)
        .outerjoin(decisions, decisions.c.query_id == said.c.query_id)
        .outerjoin(last, last.c.query_id == said.c.query_id)
        .outerjoin(attempts, answered)
        .order_by(said.c.seq)
    )


def _corrected(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Who speaks twice about one answer means the second word."""
    latest = {(row.query_id, row.source, row.turn): row for row in rows}
    return sorted(latest.values(), key=lambda row: int(row.seq))


def _experience(rows: Sequence[Row[Any]], space: str) -> Experience:
    first: dict[Any, Row[Any]] = {}
    for row in rows:
        first.setdefault(row.query_id, row)
    position = {query_id: i for i, query_id in enumerate(first)}
    names = sorted({row.answered for row in rows})
    column = {name: i for i, name in enumerate(names)}
    return Experience(
        queries=Queries(
            text=tuple(row.text or "" for row in first.values()),
            embedding=_matrix([unpack(row.embedding) for row in first.values()]),
            tokens_input=np.array([row.tokens_input for row in first.values()], dtype=np.int64),
            space=space,
        ),
        endpoints=tuple(names),
        query=np.array([position[row.query_id] for row in rows], dtype=np.int64),
        endpoint=np.array([column[row.answered] for row in rows], dtype=np.int64),
        quality=np.array([row.quality for row in rows], dtype=np.float32),
        cost_usd=np.array([nusd_to_usd(row.cost_nusd) for row in rows], dtype=np.float64),
        propensity=np.array([row.propensity if row.answered == row.drawn else 0.0 for row in rows], dtype=np.float32),
    )


def _matrix(vectors: Sequence[Floats]) -> Floats:
    """float32 (Q, d), bit for bit what the embedder gave (it rounds to float16); (0, 0) when there is none."""
    return np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float32)
