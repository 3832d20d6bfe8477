"""What a pacer reads of the ledger: traffic and spend of all processes, recent decisions, and how answers were rated.

Each blocks, belongs in a thread, and may raise LedgerUnavailable. All go along an index, over a bounded range.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import Engine, func, select

from router_gateway.core.types import Decision
from router_gateway.ledger.connections import reading
from router_gateway.ledger.hours import cost_nusd
from router_gateway.ledger.reads import stands
from router_gateway.ledger.records import decision_of
from router_gateway.ledger.tables import attempts, decisions, feedback


class Paid(NamedTuple):
    """A decision and what all its attempts came to; None while there is none."""

    decision: Decision
    cost_nusd: int | None


class Rated(NamedTuple):
    """What the answer to a decision was worth, in [0, 1]."""

    seq: int
    decision: Decision
    quality: float


def requests(engine: Engine, edges: Sequence[datetime]) -> list[int]:
    """Decisions between each of `edges` and the next."""
    with reading(engine) as connection:
        return [
            connection.execute(
                select(func.count()).select_from(decisions).where(decisions.c.at >= start, decisions.c.at < end)
            ).scalar_one()
            for start, end in pairwise(edges)
        ]


def spent_nusd(engine: Engine, start: datetime, end: datetime) -> int:
    """Nano-dollars of all attempts between the two."""
    with reading(engine) as connection:
        return cost_nusd(connection, start, end)


def newest_paid(engine: Engine, count: int) -> list[Paid]:
    """The newest `count` decisions, oldest first."""
    newest = select(decisions).order_by(decisions.c.at.desc()).limit(count).subquery()
    cost = (
        select(attempts.c.query_id, func.sum(attempts.c.cost_nusd).label("total_nusd"))
        .where(attempts.c.query_id.in_(select(newest.c.query_id)))
        .group_by(attempts.c.query_id)
        .subquery()
    )
    rows = select(newest, cost.c.total_nusd).outerjoin(cost, cost.c.query_id == newest.c.query_id)
    with reading(engine) as connection:
        found = connection.execute(rows.order_by(newest.c.at)).mappings().all()
    return [Paid(decision_of(row), None if row["total_nusd"] is None else int(row["total_nusd"])) for row in found]


def newest_seq(engine: Engine) -> int:
    """The newest row of feedback; 0 = none."""
    with reading(engine) as connection:
        return int(connection.execute(select(func.coalesce(func.max(feedback.c.seq), 0))).scalar_one())


def rated_past(engine: Engine, seq: int, rows_max: int) -> list[Rated]:
    """At most `rows_max` rows of feedback past `seq` that stand and whose decision is known, in order."""
    rows = (
        select(feedback.c.seq, feedback.c.quality.label("rated"), decisions)
        .join(decisions, decisions.c.query_id == feedback.c.query_id)
        .where(feedback.c.seq > seq, stands(feedback.c.id))
        .order_by(feedback.c.seq)
        .limit(rows_max)
    )
    with reading(engine) as connection:
        return [Rated(row["seq"], decision_of(row), float(row["rated"])) for row in connection.execute(rows).mappings()]
