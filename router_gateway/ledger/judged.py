"""What judges and what the truth said of the same answers: read to measure how far judges can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Select, and_, select

from router_gateway.core.types import FeedbackSource
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import answering_attempt, stands
from router_gateway.ledger.tables import attempts, decisions, feedback, judgements

UNNAMED = "unnamed"
"""The judge of feedback that a client sent as source `judge`."""

ROWS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One answer of endpoint `endpoint`. `truth` and `score` in [0, 1], None where nobody said.

    score : the judge's, whose name is `judge`; of several judges each has a row of its own
    chars : length of the answer, None where it is not known
    """

    query_id: UUID
    endpoint: str
    truth: float | None = None
    judge: str | None = None
    score: float | None = None
    chars: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One word of a judge on two answers, `first` read first; `score` 1: it is better, 0: `second` is, 1/2: neither."""

    query_id: UUID
    judge: str
    first: str
    second: str
    score: float
    first_chars: int
    second_chars: int


def read_graded(
    engine: Engine,
    truth: Sequence[FeedbackSource],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    rows_max: int = ROWS_MAX,
) -> list[Graded]:
    """The newest answers that a judge scored or the truth is known of, oldest first.

    truth : sources that count as true, the first that spoke of an answer counts. Who spoke twice means the second word.
    Words of `since` <= at < `until` (None = open) are read, at most `rows_max` of judges and of each true source.
    """
    with reading(engine) as connection:
        known: dict[UUID, tuple[str, float]] = {}
        for source in reversed(truth):  # a later one is overruled by an earlier one
            for row in reversed(connection.execute(_said(source, since, until, rows_max)).all()):
                known[row.query_id] = row.endpoint, row.quality
        said = list(reversed(connection.execute(_said("judge", since, until, rows_max)).all()))
    latest: Mapping[tuple[UUID, str], Any] = {(row.query_id, row.judge or UNNAMED): row for row in said}
    judged = [
        Graded(
            query_id=query_id,
            endpoint=row.endpoint,
            truth=known[query_id][1] if query_id in known else None,
            judge=judge,
            score=row.quality,
            chars=row.chars,
        )
        for (query_id, judge), row in latest.items()
    ]
    seen = {query_id for query_id, _ in latest}
    alone = [
        Graded(query_id=query_id, endpoint=endpoint, truth=quality)
        for query_id, (endpoint, quality) in known.items()
        if query_id not in seen
    ]
    return judged + alone


def read_readings(engine: Engine, *, since: datetime | None = None, rows_max: int = ROWS_MAX) -> list[Reading]:
    """The newest words on pairs, newest first."""
    newest = select(judgements).where(judgements.c.other.is_not(None)).order_by(judgements.c.at.desc()).limit(rows_max)
    if since is not None:
        newest = newest.where(judgements.c.at >= since)
    with reading(engine) as connection:
        return [
            Reading(
                query_id=row.query_id,
                judge=row.judge,
                first=row.endpoint,
                second=row.other,
                score=row.score,
                first_chars=row.chars,
                second_chars=row.other_chars,
            )
            for row in connection.execute(newest)
        ]


def _said(source: str, since: datetime | None, until: datetime | None, rows_max: int) -> Select[Any]:
    """What a source said that stands, newest first, with the endpoint that answered."""
    newest = select(feedback).where(feedback.c.source == source, stands(feedback.c.id))
    if since is not None:
        newest = newest.where(feedback.c.at >= since)
    if until is not None:
        newest = newest.where(feedback.c.at < until)
    said = newest.order_by(feedback.c.seq.desc()).limit(rows_max).subquery()
    last = answering_attempt().where(attempts.c.query_id.in_(select(said.c.query_id))).subquery()
    return (
        select(
            said.c.seq,
            said.c.query_id,
            said.c.quality,
            attempts.c.endpoint,
            judgements.c.judge,
            judgements.c.chars,
        )
        .select_from(said)
        .join(decisions, decisions.c.query_id == said.c.query_id)
        .join(last, last.c.query_id == said.c.query_id)
        .join(attempts, and_(attempts.c.query_id == last.c.query_id, attempts.c.number == last.c.number))
        .outerjoin(judgements, judgements.c.id == said.c.id)
        .order_by(said.c.seq.desc())
    )
