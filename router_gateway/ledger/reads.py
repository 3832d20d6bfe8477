"""Read-only queries over the ledger. Each blocks, belongs in a thread, and may raise LedgerUnavailable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Engine, Select, func, select

from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.core.types import Attempt, Decision, Feedback, Floats
from router_gateway.ledger.connections import reading
from router_gateway.ledger.hours import cost_nusd
from router_gateway.ledger.records import attempt_of, decision_of, feedback_of, unpack
from router_gateway.ledger.tables import (
    attempts,
    comparisons,
    daily_totals,
    decisions,
    feedback,
    feedback_revocations,
)
from router_gateway.ledger.totals import during_days, span

_WARMING_ATTEMPTS = 100_000
_FEEDBACK_OF_A_DECISION_MAX = 1_000
_TRIES_WITHIN = timedelta(days=1)  # of their decision begin all attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision with everything that happened since; `text` only where the ledger stores it.

    `embedding` is float32 (d,), read from float16, or None.
    """

    decision: Decision
    tenant: str
    session: str | None
    requested_model: str
    tokens_input: int
    embedding: Floats | None
    text: str | None
    attempts: tuple[Attempt, ...]
    feedback: tuple[Feedback, ...]

    @property
    def answered_by(self) -> str | None:
        """The endpoint whose answer the client got: the last attempt of status 200."""
        return next((a.endpoint for a in reversed(self.attempts) if a.status == 200), None)


class Said(NamedTuple):
    """Whose feedback or comparison it is, and of which decision."""

    tenant: str
    query_id: UUID


class TokenMeans(NamedTuple):
    """Means over `calls` answered calls of one endpoint; reasoning counts as output, cached as prompt."""

    calls: int
    mean_output_tokens: float
    mean_prompt_tokens: float


def read_decision(engine: Engine, query_id: UUID) -> DecisionRecord | None:
    """None when the database has no such decision (yet)."""
    with reading(engine) as connection:
        row = connection.execute(select(decisions).where(decisions.c.query_id == query_id)).mappings().first()
        if row is None:
            return None
        tried = connection.execute(
            select(attempts).where(attempts.c.query_id == query_id).order_by(attempts.c.number)
        ).mappings()
        said = connection.execute(
            select(feedback)
            .where(feedback.c.query_id == query_id, stands(feedback.c.id))
            .order_by(feedback.c.seq)
            .limit(_FEEDBACK_OF_A_DECISION_MAX)
        ).mappings()
        return DecisionRecord(
            decision=decision_of(row),
            tenant=row["tenant"],
            session=row["session"],
            requested_model=row["requested_model"],
            tokens_input=row["tokens_input"],
            embedding=None if row["embedding"] is None else unpack(row["embedding"]),
            text=row["text"],
            attempts=tuple(attempt_of(attempt) for attempt in tried),
            feedback=tuple(feedback_of(item) for item in said),
        )


def read_said(engine: Engine, feedback_id: UUID) -> Said | None:
    """The feedback or comparison of that id, taken back or not; None when the database has none (yet)."""
    with reading(engine) as connection:
        for table in (feedback, comparisons):
            row = connection.execute(select(table.c.tenant, table.c.query_id).where(table.c.id == feedback_id)).first()
            if row is not None:
                return Said(row.tenant, row.query_id)
    return None


def standing(engine: Engine, feedback_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Of these ids those under which feedback or a comparison stands (in the database, by now)."""
    with reading(engine) as connection:
        said = (select(t.c.id).where(t.c.id.in_(feedback_ids), stands(t.c.id)) for t in (feedback, comparisons))
        return frozenset(id_ for rows in said for (id_,) in connection.execute(rows))


def stands(feedback_id: ColumnElement[UUID]) -> ColumnElement[bool]:
    """Whether what was said under that id was not taken back."""
    return ~select(feedback_revocations.c.id).where(feedback_revocations.c.id == feedback_id).exists()


def answering_attempt() -> Select[tuple[UUID, int]]:
    """(query_id, number) of the attempt that answered: the last one of status 200."""
    return (
        select(attempts.c.query_id, func.max(attempts.c.number).label("number"))
        .where(attempts.c.status == 200)
        .group_by(attempts.c.query_id)
    )


def last_answer(engine: Engine, session: str) -> tuple[datetime, str] | None:
    """When the session's most recent answer was asked for, and of which endpoint."""
    newest = (
        select(attempts.c.at, attempts.c.endpoint)
        .join(decisions, decisions.c.query_id == attempts.c.query_id)
        .where(decisions.c.session == session, attempts.c.status == 200)
        .order_by(decisions.c.at.desc(), attempts.c.number.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        row = connection.execute(newest).first()
        return None if row is None else (row.at, row.endpoint)


def spend_nusd(engine: Engine, since: datetime, tenant: str | None) -> int:
    """Nano-dollars of all attempts from `since` on, of one tenant or of all."""
    with reading(engine) as connection:
        if tenant is None:
            return cost_nusd(connection, since, None)
        days, edges = span(since, None)
        parts: list[Select[Any]] = [tenants_nusd(tenant, start, end) for start, end in edges]
        if days is not None:
            whole = select(func.sum(daily_totals.c.cost_nusd)).where(*during_days(days))
            parts.append(whole.where(daily_totals.c.tenant == tenant))
        return sum(int(connection.execute(part).scalar() or 0) for part in parts)


def tenants_nusd(tenant: str, start: datetime | None, end: datetime | None) -> Select[Any]:
    """What a tenant's attempts of `start` <= at < `end` cost; None = open.

    By the tenant's decisions, of which there are fewer than of everybody's attempts.
    """
    rows = (
        select(func.sum(attempts.c.cost_nusd))
        .select_from(decisions)
        .join(attempts, attempts.c.query_id == decisions.c.query_id)
        .where(decisions.c.tenant == tenant)
    )
    if start is not None:
        rows = rows.where(decisions.c.at >= start - _TRIES_WITHIN, attempts.c.at >= start)
    return rows if end is None else rows.where(decisions.c.at < end, attempts.c.at < end)


def output_tokens(engine: Engine) -> Mapping[str, TokenMeans]:
    """By endpoint, over the newest 100,000 answered attempts that reported their usage; judges' calls left out."""
    judging = select(decisions.c.query_id).where(decisions.c.tenant == JUDGING_TENANT)
    newest = (
        select(attempts)
        .where(attempts.c.status == 200, attempts.c.tokens_output.is_not(None), attempts.c.query_id.not_in(judging))
        .order_by(attempts.c.at.desc())
        .limit(_WARMING_ATTEMPTS)
        .subquery()
    ).c
    output = func.sum(newest.tokens_output + newest.tokens_reasoning)
    prompt = func.sum(newest.tokens_input + newest.tokens_cached_input + newest.tokens_cache_write)
    query = select(newest.endpoint, func.count(), output, prompt).group_by(newest.endpoint)
    with reading(engine) as connection:
        return {
            name: TokenMeans(calls, int(out) / calls, int(sent) / calls)
            for name, calls, out, sent in connection.execute(query)
        }
