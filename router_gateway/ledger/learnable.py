"""From feedback rows to what a policy learns from.

An outcome is credited to the endpoint that answered, not to the one that was drawn: where the two
differ (a fallback) the row's propensity is 0, and off-policy estimates leave it out. What was taken
back counts as never said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import numpy as np
from sqlalchemy import Engine, Row, Select, and_, select

from router_gateway.core.experience import Experience
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Floats, Ints, Queries
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import answering_attempt
from router_gateway.ledger.records import unpack
from router_gateway.ledger.tables import attempts, comparisons, decisions, feedback, feedback_revocations, judgements

Rows = Sequence[Row[Any]]


def read_experience(
    engine: Engine, watermark: int, *, embedding_space: str | None, rows_max: int, settle_s: float
) -> tuple[Experience, int]:
    """Feedback rows past `watermark` (`feedback.seq`; 0 = from the start) as an Experience, and the next watermark.

    Feedback may be in the database before the decision it speaks of, whose process is still catching up:
    such a row holds the watermark back until it is `settle_s` old, and is passed over afterwards.
    """
    with reading(engine) as connection:
        space = embedding_space or connection.execute(_newest_space()).scalar() or "none"
        rows = connection.execute(outcomes_past(watermark, rows_max)).all()
    said, reached = settled(rows, watermark, settle_s)
    return experience_of(of_space(said, space), [], space), reached


def outcomes_past(watermark: int, rows_max: int) -> Select[Any]:
    """At most `rows_max` feedback rows past `watermark`, each with its decision and answer."""
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
            judgements.c.judge,
            feedback_revocations.c.id.is_not(None).label("revoked"),
            and_(decisions.c.query_id.is_not(None), attempts.c.query_id.is_not(None)).label("complete"),
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
        .outerjoin(feedback_revocations, feedback_revocations.c.id == said.c.id)
        .outerjoin(judgements, judgements.c.id == said.c.id)
        .outerjoin(decisions, decisions.c.query_id == said.c.query_id)
        .outerjoin(last, last.c.query_id == said.c.query_id)
        .outerjoin(attempts, answered)
        .order_by(said.c.seq)
    )


def comparisons_past(watermark: int, rows_max: int) -> Select[Any]:
    """At most `rows_max` comparisons past `watermark` (`comparisons.seq`), each with its decision."""
    said = select(comparisons).where(comparisons.c.seq > watermark).order_by(comparisons.c.seq).limit(rows_max)
    said_rows = said.subquery()
    return (
        select(
            said_rows.c.seq,
            said_rows.c.at,
            said_rows.c.query_id,
            said_rows.c.better,
            said_rows.c.worse,
            feedback_revocations.c.id.is_not(None).label("revoked"),
            decisions.c.query_id.is_not(None).label("complete"),
            decisions.c.embedding_space,
            decisions.c.embedding,
            decisions.c.tokens_input,
            decisions.c.text,
        )
        .select_from(said_rows)
        .outerjoin(feedback_revocations, feedback_revocations.c.id == said_rows.c.id)
        .outerjoin(decisions, decisions.c.query_id == said_rows.c.query_id)
        .order_by(said_rows.c.seq)
    )


def settled(rows: Rows, watermark: int, settle_s: float) -> tuple[list[Row[Any]], int]:
    """The rows that stand and are complete, and how far reading went: an incomplete one of late ends it."""
    unsettled_since = datetime.now(UTC) - timedelta(seconds=settle_s)
    standing: list[Row[Any]] = []
    for row in rows:
        if not (row.complete or row.revoked) and row.at > unsettled_since:
            break
        watermark = row.seq
        if row.complete and not row.revoked:
            standing.append(row)
    return standing, watermark


def of_space(rows: Rows, space: str) -> list[Row[Any]]:
    """The rows whose decision kept a vector of `space`."""
    return [row for row in rows if row.embedding is not None and row.embedding_space == space]


def experience_of(
    said: Rows, compared: Rows, space: str, quality: Callable[[Row[Any]], float] = attrgetter("quality")
) -> Experience:
    """Outcomes (rows of `outcomes_past`) and comparisons (of `comparisons_past`) over the union of their queries.

    quality : what an outcome's word is worth, in [0, 1]; as it was said, where nothing else is given
    """
    said = _corrected(said)
    first: dict[Any, Row[Any]] = {}
    for row in (*said, *compared):
        first.setdefault(row.query_id, row)
    position = {query_id: i for i, query_id in enumerate(first)}
    names = sorted({row.answered for row in said} | {name for row in compared for name in (row.better, row.worse)})
    column = {name: i for i, name in enumerate(names)}
    return Experience(
        queries=Queries(
            text=tuple(row.text or "" for row in first.values()),
            embedding=_matrix([unpack(row.embedding) for row in first.values()]),
            tokens_input=np.array([row.tokens_input for row in first.values()], dtype=np.int64),
            space=space,
        ),
        endpoints=tuple(names),
        query=np.array([position[row.query_id] for row in said], dtype=np.int64),
        endpoint=np.array([column[row.answered] for row in said], dtype=np.int64),
        quality=np.array([quality(row) for row in said], dtype=np.float32),
        cost_usd=np.array([nusd_to_usd(row.cost_nusd) for row in said], dtype=np.float64),
        propensity=np.array([row.propensity if row.answered == row.drawn else 0.0 for row in said], dtype=np.float32),
        comparisons=_triples([(position[row.query_id], column[row.better], column[row.worse]) for row in compared]),
    )


def _newest_space() -> Any:
    return (
        select(decisions.c.embedding_space)
        .where(decisions.c.embedding.is_not(None))
        .order_by(decisions.c.at.desc())
        .limit(1)
    )


def _corrected(rows: Rows) -> list[Row[Any]]:
    """Who speaks twice about one answer means the second word."""
    latest = {(row.query_id, row.source, row.turn): row for row in rows}
    return sorted(latest.values(), key=lambda row: int(row.seq))


def _matrix(vectors: Sequence[Floats]) -> Floats:
    """float32 (Q, d), bit for bit what the embedder gave (it rounds to float16); (0, 0) when there is none."""
    return np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float32)


def _triples(rows: Sequence[tuple[int, int, int]]) -> Ints:
    """int64 (M, 3)."""
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
