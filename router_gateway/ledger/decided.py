"""The newest decisions with what came of them, for estimates of what another policy would have brought.

The same rows, and the same reading of them, as an export (`outcome_rows`), without the detour over text: a hundred
thousand vectors are float32 arrays here, not lists.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, or_, select

from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Floats
from router_gateway.ledger.connections import reading
from router_gateway.ledger.hearing import Hearing, words
from router_gateway.ledger.outcome_rows import PAGE_DECISIONS, pseudonym
from router_gateway.ledger.records import unpack
from router_gateway.ledger.tables import attempts, comparisons, decisions, feedback, feedback_revocations

_Mapping = Mapping[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attempt. tokens : (input, cached input, cache write, output), reasoning being output; None if unreported."""

    endpoint: str
    cost_usd: float
    tokens: tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One decision and what came of it.

    session : None makes it a session of its own
    answered, quality : who answered, and how well in [0, 1]; None where nobody did, or nobody said
    propensity : of the endpoint drawn; 0 where it was not the rule's choice, or was never called
    candidates, probability, expected_cost_usd : of equal length, the last two empty where nothing was scored
    vector : float32 (d,) in `space`, or None
    cost_usd : of all attempts together; tried : the attempts, empty where only the sum is known
    first_said : the least place of this decision in the tables of feedback and of comparisons, by which a
        learner's watermark tells what it has read; None where there is none, or where that is not known
    """

    id: UUID
    session: str | None
    text: str
    tokens_input: int
    space: str
    vector: Floats | None
    drawn: str
    answered: str | None
    propensity: float
    candidates: Sequence[str]
    probability: Sequence[float | None]
    expected_cost_usd: Sequence[float | None]
    worth_usd: float
    quality: float | None
    cost_usd: float
    tried: tuple[Tried, ...] = ()
    first_said: tuple[int | None, int | None] = (None, None)


def read_decided(
    engine: Engine,
    *,
    since: datetime | None,
    decisions_max: int,
    rated_only: bool = False,
    tenant: str | None = None,
    hearing: Hearing | None = None,
) -> list[Decided]:
    """At most `decisions_max` decisions that were sent somewhere, the newest, oldest first.

    since : timezone-aware, None = from the first; rated_only : those with feedback; tenant : None = everybody's
    hearing : how feedback is weighed; None: as it was said
    """
    found: list[Decided] = []
    weighed = hearing or Hearing()
    for page in _pages(engine, since, decisions_max, weighed, rated_only=rated_only, tenant=tenant):
        found += page
    return found[:decisions_max][::-1]


def _pages(
    engine: Engine,
    since: datetime | None,
    decisions_max: int,
    hearing: Hearing,
    *,
    rated_only: bool,
    tenant: str | None,
) -> Iterator[list[Decided]]:
    before: tuple[datetime, UUID] | None = None
    count = 0
    while count < decisions_max:
        with reading(engine) as connection:
            page = connection.execute(_page(since, before, rated_only=rated_only, tenant=tenant)).mappings().all()
            if not page:
                return
            ids = [row["query_id"] for row in page]
            tried = _by_decision(connection, select(attempts).order_by(attempts.c.number), attempts.c.query_id, ids)
            said = _by_decision(connection, _feedback(), feedback.c.query_id, ids)
            compared = _by_decision(
                connection, select(comparisons.c.query_id, comparisons.c.seq), comparisons.c.query_id, ids
            )
        rows = [_decided(row, tried[i], said[i], compared[i], hearing) for i, row in zip(ids, page, strict=True)]
        kept = [row for row in rows if row.tried and (row.quality is not None or not rated_only)]
        count += len(kept)
        yield kept
        before = page[-1]["at"], page[-1]["query_id"]


def _page(
    since: datetime | None, before: tuple[datetime, UUID] | None, *, rated_only: bool, tenant: str | None
) -> Select[Any]:
    newest = datetime.now(UTC) if before is None else before[0]
    conditions = [decisions.c.at <= newest] if since is None else [decisions.c.at <= newest, decisions.c.at >= since]
    # judges' calls and second answers are the gateway's own: nobody's request was routed there
    conditions.append(decisions.c.tenant != JUDGING_TENANT if tenant is None else decisions.c.tenant == tenant)
    if rated_only:
        conditions.append(select(feedback.c.seq).where(feedback.c.query_id == decisions.c.query_id).exists())
    if before is not None:  # where the last page ended: cheap at any depth, unlike an offset
        at, query_id = before
        conditions.append(or_(decisions.c.at < at, decisions.c.query_id < query_id))
    ordered = select(decisions).where(*conditions).order_by(decisions.c.at.desc(), decisions.c.query_id.desc())
    return ordered.limit(PAGE_DECISIONS)


def _feedback() -> Select[Any]:
    """With what was taken back, which a learner may have read before it was."""
    revoked = feedback_revocations.c.id.is_not(None).label("revoked")
    joined = words(revoked).outerjoin(feedback_revocations, feedback_revocations.c.id == feedback.c.id)
    return joined.order_by(feedback.c.seq)


def _by_decision(
    connection: Connection, rows: Select[Any], column: Any, ids: Sequence[UUID]
) -> Mapping[UUID, list[_Mapping]]:
    found: dict[UUID, list[_Mapping]] = defaultdict(list)
    for row in connection.execute(rows.where(column.in_(ids))).mappings():
        found[row["query_id"]].append(row)
    return found


def _decided(
    row: _Mapping, tried: Sequence[_Mapping], said: Sequence[_Mapping], compared: Sequence[_Mapping], hearing: Hearing
) -> Decided:
    answered = next((a["endpoint"] for a in reversed(tried) if a["status"] == 200), None)
    standing = [word for word in said if not word["revoked"]]
    eligible = [i for i, can in enumerate(row["eligible"]) if can]
    was_called = any(a["endpoint"] == row["endpoint"] for a in tried)
    return Decided(
        id=row["query_id"],
        session=None if row["session"] is None else pseudonym(row["session"]),
        text=row["text"] or "",
        tokens_input=row["tokens_input"],
        space=row["embedding_space"],
        vector=None if row["embedding"] is None else unpack(row["embedding"]),
        drawn=row["endpoint"],
        answered=answered,
        propensity=row["propensity"] if was_called else 0.0,
        candidates=[row["endpoints"][i] for i in eligible],
        probability=_numbers(row["probability"], eligible),
        expected_cost_usd=_numbers(row["cost_usd"], eligible),
        worth_usd=row["worth_usd"],
        quality=None if answered is None else hearing.quality(standing, answered),
        cost_usd=sum(nusd_to_usd(a["cost_nusd"]) for a in tried),
        tried=tuple(_tried(a) for a in tried),
        first_said=(_least(said), _least(compared)),
    )


def _tried(attempt: _Mapping) -> Tried:
    kinds = ("tokens_input", "tokens_cached_input", "tokens_cache_write", "tokens_output", "tokens_reasoning")
    sent, cached, written, told, thought = (attempt[kind] for kind in kinds)
    return Tried(
        endpoint=attempt["endpoint"],
        cost_usd=nusd_to_usd(attempt["cost_nusd"]),
        tokens=None if sent is None else (sent, cached, written, told + thought),
    )


def _numbers(values: Sequence[Any], columns: Sequence[int]) -> list[float | None]:
    """Of the candidates; none where nothing was scored. What is not finite (kept as text) is unknown."""
    numbers = [float(values[i]) for i in columns] if values else []
    return [number if math.isfinite(number) else None for number in numbers]


def _least(rows: Sequence[_Mapping]) -> int | None:
    return min((int(row["seq"]) for row in rows), default=None)
