"""What the learner reads: all kinds of feedback past a watermark, and what has been taken back since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Select, Table, func, or_, select

from router_gateway.core.experience import Experience
from router_gateway.ledger.connections import reading
from router_gateway.ledger.learnable import comparisons_past, experience_of, of_space, outcomes_past, settled
from router_gateway.ledger.tables import comparisons, feedback, feedback_revocations


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far a reader has come: the last `seq` of each table; 0 = nothing read."""

    feedback: int = 0
    comparisons: int = 0
    revocations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One piece of feedback in order.

    reached : the watermark to read on from
    full : as many rows were read as were asked for: there may be more
    taken_back : revocations since the old watermark of rows before it, which may have been learned from
    """

    experience: Experience
    reached: Watermark
    full: bool
    taken_back: int


class Lessons:
    """Reads feedback in pieces. Methods block, and may raise LedgerUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(
        self,
        since: Watermark,
        *,
        embedding_space: str,
        rows_max: int,
        settle_s: float = 60.0,
        chosen: Callable[[UUID], bool] = lambda _: True,
        quality: Callable[[Any], float] = attrgetter("quality"),
    ) -> Lesson:
        """At most `rows_max` outcomes and as many comparisons past `since`; outcomes of `chosen` decisions alone.

        Feedback whose answer is not in the database yet holds its watermark back, for `settle_s` at most. Without
        anything to learn the Experience is empty, with embeddings of shape (0, 0). `quality` says what a row of
        `outcomes_past` is worth.
        """
        with reading(self._engine) as connection:
            # First: what is taken back while we read is then counted the next time, once too often but never lost.
            revoked = connection.execute(_newest(feedback_revocations)).scalar_one()
            taken_back = connection.execute(_taken_back(since, revoked)).scalar_one()
            said = connection.execute(outcomes_past(since.feedback, rows_max)).all()
            compared = connection.execute(comparisons_past(since.comparisons, rows_max)).all()
        outcomes, outcomes_reached = settled(said, since.feedback, settle_s)
        pairs, pairs_reached = settled(compared, since.comparisons, settle_s)
        taught = [row for row in of_space(outcomes, embedding_space) if chosen(row.query_id)]
        return Lesson(
            experience=experience_of(taught, of_space(pairs, embedding_space), embedding_space, quality),
            reached=Watermark(feedback=outcomes_reached, comparisons=pairs_reached, revocations=revoked),
            full=rows_max in (len(said), len(compared)),
            taken_back=taken_back,
        )

    def newest(self) -> Watermark:
        """Where reading would end now."""
        with reading(self._engine) as connection:
            return Watermark(
                feedback=connection.execute(_newest(feedback)).scalar_one(),
                comparisons=connection.execute(_newest(comparisons)).scalar_one(),
                revocations=connection.execute(_newest(feedback_revocations)).scalar_one(),
            )


def _newest(table: Table) -> Select[int]:
    return select(func.coalesce(func.max(table.c.seq), 0))


def _taken_back(since: Watermark, until: int) -> Select[int]:
    revoked = feedback_revocations.c
    read_before = or_(feedback.c.seq <= since.feedback, comparisons.c.seq <= since.comparisons)
    return (
        select(func.count())
        .select_from(feedback_revocations)
        .outerjoin(feedback, feedback.c.id == revoked.id)
        .outerjoin(comparisons, comparisons.c.id == revoked.id)
        .where(revoked.seq > since.revocations, revoked.seq <= until, read_before)
    )
