"""Requests, newest first, as a page of the dashboard asks for them: filtered, paged by id, and never by a scan.

What an index answers (time, tenant, session, an id) is asked of it. For the rest a page looks at a bounded number of
requests, newest first, and says where it stopped: whoever wants to know goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from string import hexdigits
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, false, func, literal, or_, select

from router_gateway.core.errors import NotFound
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import stands
from router_gateway.ledger.tables import attempts, decisions, feedback

Outcome = Literal["answered", "failed", "retried", "open"]
Rated = Literal["any", "none", "good", "bad"]

LOOKED_AT_MAX = 20_000
"""Requests that one page looks at for what has no index."""
_AT_ONCE = 2_000
_IDS_MAX = 1_000
_ID_DIGITS_MIN = 4
_GOOD = 0.5
"""A mean rating from here on is good."""
_SNIPPET_CHARS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which requests; None: whichever.

    since, until : timezone-aware, `since` <= instant < `until`
    endpoint : chosen or tried; policy : a label ("knn@3") or a name ("knn", in any version)
    outcome : answered, failed (tried, and nobody answered), retried (more than one attempt), open (no attempt)
    status : of some attempt; rated : by whether, and how well on average, anybody rated it
    text : the beginning of an id, a whole session, or words of the prompt, where prompts are stored and `sees_text`
    """

    since: datetime | None = None
    until: datetime | None = None
    endpoint: str | None = None
    tenant: str | None = None
    policy: str | None = None
    outcome: Outcome | None = None
    status: int | None = None
    cost_nusd_min: int | None = None
    rated: Rated | None = None
    text: str | None = None
    sees_text: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request in short. `quality` is the mean of its `rated` ratings; `snippet` None where no text is stored."""

    id: UUID
    at: datetime
    tenant: str
    session: str | None
    requested_model: str
    endpoint: str
    answered_by: str | None
    policy: str
    reason: str
    candidate: str | None
    propensity: float
    worth_usd: float
    tokens_input: int
    attempts: int
    status: int | None
    error: str | None
    cost_nusd: int
    tokens_completion: int | None
    latency_ms: float | None
    rated: int
    quality: float | None
    snippet: str | None


class Page(NamedTuple):
    """`next_before` goes on from here; None at the end. `looked_back_to` is the oldest of those it looked at."""

    rows: tuple[RequestRow, ...]
    next_before: UUID | None
    looked_at: int
    looked_back_to: datetime | None


class _Place(NamedTuple):
    at: datetime
    query_id: UUID


def read_requests(engine: Engine, wanted: Wanted, *, before: UUID | None = None, limit: int = 50) -> Page:
    """At most `limit` of them, newest first, older than the request `before`.

    Raises NotFound for a `before` that is no request, LedgerUnavailable.
    """
    with reading(engine) as connection:
        place = None if before is None else _place(connection, before)
        narrow, unindexed = _narrowed(connection, wanted)
        found, last, looked_at = _look(connection, wanted, narrow, place, limit, unindexed=unindexed)
        ids = [each.query_id for each in found[:limit]]
        rows = _rows(connection, ids)
    if len(found) > limit:
        goes_on: UUID | None = ids[-1]
    else:
        goes_on = None if last is None else last.query_id
    return Page(rows, goes_on, looked_at, None if last is None else last.at)


def _place(connection: Connection, before: UUID) -> _Place:
    found = connection.execute(select(decisions.c.at).where(decisions.c.query_id == before)).scalar()
    if found is None:
        raise NotFound(f"no request {before}", param="before")
    return _Place(found, before)


def _narrowed(connection: Connection, wanted: Wanted) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """The conditions that an index answers, and the others."""
    narrow = [decisions.c.tenant == wanted.tenant] if wanted.tenant is not None else []
    others = _others(wanted)
    if wanted.text is not None:
        if ids := _ids(connection, wanted.text):
            narrow.append(decisions.c.query_id.in_(ids))
        elif _is_session(connection, wanted.text):
            narrow.append(decisions.c.session == wanted.text)
        elif not wanted.sees_text:
            narrow.append(false())
        else:
            others.append(func.lower(decisions.c.text).contains(wanted.text.lower(), autoescape=True))
    return narrow, others


def _ids(connection: Connection, text: str) -> list[UUID]:
    """Ids that begin like that, the newest of them."""
    digits = text.replace("-", "").lower()
    if not (_ID_DIGITS_MIN <= len(digits) <= 32 and set(digits) <= set(hexdigits)):
        return []
    low, high = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    column = decisions.c.query_id
    found = select(column).where(column >= low, column <= high).order_by(column.desc()).limit(_IDS_MAX)
    return [*connection.execute(found).scalars()]


def _is_session(connection: Connection, text: str) -> bool:
    found = select(decisions.c.query_id).where(decisions.c.session == text).limit(1)
    return connection.execute(found).first() is not None


def _others(wanted: Wanted) -> list[ColumnElement[bool]]:
    """Conditions that are tried on one request after another."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.endpoint is not None:
        conditions.append(or_(decisions.c.endpoint == wanted.endpoint, _tried(attempts.c.endpoint == wanted.endpoint)))
    if wanted.policy is not None:
        label = decisions.c.policy
        named = [label == wanted.policy]
        if "@" not in wanted.policy:
            named.append(label.startswith(f"{wanted.policy}@", autoescape=True))
        conditions.append(or_(*named))
    if wanted.outcome is not None:
        answered = func.coalesce(_tried(attempts.c.status == 200), literal(value=False))
        tried = select(func.count()).where(_its(attempts)).scalar_subquery() > 0
        conditions.append(
            {
                "answered": answered,
                "failed": and_(tried, ~answered),
                "retried": _tried(attempts.c.number > 1),
                "open": ~tried,
            }[wanted.outcome]
        )
    if wanted.status is not None:
        conditions.append(_tried(attempts.c.status == wanted.status))
    if wanted.cost_nusd_min is not None:
        spent = select(func.coalesce(func.sum(attempts.c.cost_nusd), 0)).where(_its(attempts)).scalar_subquery()
        conditions.append(spent >= wanted.cost_nusd_min)
    if wanted.rated is not None:
        mean = select(func.avg(feedback.c.quality)).where(_its(feedback), stands(feedback.c.id)).scalar_subquery()
        conditions.append(
            {"any": mean.is_not(None), "none": mean.is_(None), "good": mean >= _GOOD, "bad": mean < _GOOD}[wanted.rated]
        )
    return conditions


def _its(table: Any) -> ColumnElement[bool]:
    owned: ColumnElement[bool] = table.c.query_id == decisions.c.query_id
    return owned


def _tried(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether some attempt of it is such.

    Not by EXISTS, which tempts planners: SQLite's into another index than the id's, PostgreSQL's into a hash of all.
    """
    return select(func.max(case((condition, 1), else_=0))).where(_its(attempts)).scalar_subquery() == 1


def _look(
    connection: Connection,
    wanted: Wanted,
    narrow: Sequence[ColumnElement[bool]],
    place: _Place | None,
    limit: int,
    *,
    unindexed: Sequence[ColumnElement[bool]],
) -> tuple[list[_Place], _Place | None, int]:
    """Up to limit + 1 matches; where it stopped looking (None: at the end), and how many it looked at."""
    found: list[_Place] = []
    looked_at = 0
    at_once = _AT_ONCE if unindexed else limit + 1
    matches = and_(*unindexed) if unindexed else literal(value=True)
    while looked_at < LOOKED_AT_MAX:
        page = connection.execute(_page(wanted, narrow, place, matches, at_once)).all()
        looked_at += len(page)
        found += [_Place(row.at, row.query_id) for row in page if row.matches]
        if len(page) < at_once and len(found) <= limit:
            return found, None, looked_at
        place = _Place(page[-1].at, page[-1].query_id)
        if len(found) > limit:
            return found, found[limit - 1], looked_at
    return found, place, looked_at


def _page(
    wanted: Wanted,
    narrow: Sequence[ColumnElement[bool]],
    place: _Place | None,
    matches: ColumnElement[bool],
    at_once: int,
) -> Any:
    column = decisions.c
    conditions = [*narrow]
    if wanted.since is not None:
        conditions.append(column.at >= wanted.since)
    if wanted.until is not None and (place is None or place.at >= wanted.until):
        conditions.append(column.at < wanted.until)
    elif place is not None:  # where the last page ended; never both: SQLite would begin at the first of two bounds
        conditions.append(column.at <= place.at)
        conditions.append(or_(column.at < place.at, column.query_id < place.query_id))
    rows = select(column.at, column.query_id, matches.label("matches")).where(*conditions)
    return rows.order_by(column.at.desc(), column.query_id.desc()).limit(at_once)


def _rows(connection: Connection, ids: Sequence[UUID]) -> tuple[RequestRow, ...]:
    if not ids:
        return ()
    decided = {row.query_id: row for row in connection.execute(_short().where(decisions.c.query_id.in_(ids)))}
    tried: Mapping[UUID, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(select(attempts).where(attempts.c.query_id.in_(ids)).order_by(attempts.c.number)):
        tried[row.query_id].append(row)
    said: Mapping[UUID, list[float]] = defaultdict(list)
    words = select(feedback.c.query_id, feedback.c.quality).where(feedback.c.query_id.in_(ids), stands(feedback.c.id))
    for query_id, quality in connection.execute(words):
        said[query_id].append(quality)
    return tuple(_row(decided[each], tried[each], said[each]) for each in ids)


def _short() -> Any:
    names = ("query_id", "at", "tenant", "session", "requested_model", "endpoint", "policy", "reason", "candidate")
    columns = [decisions.c[name] for name in (*names, "propensity", "worth_usd", "tokens_input")]
    return select(*columns, func.substr(decisions.c.text, 1, _SNIPPET_CHARS).label("snippet"))


def _row(decided: Row[Any], tried: Sequence[Row[Any]], said: Sequence[float]) -> RequestRow:
    last = tried[-1] if tried else None
    counted = [each.tokens_output + each.tokens_reasoning for each in tried if each.tokens_output is not None]
    return RequestRow(
        id=decided.query_id,
        at=decided.at,
        tenant=decided.tenant,
        session=decided.session,
        requested_model=decided.requested_model,
        endpoint=decided.endpoint,
        answered_by=next((each.endpoint for each in reversed(tried) if each.status == 200), None),
        policy=decided.policy,
        reason=decided.reason,
        candidate=decided.candidate,
        propensity=decided.propensity,
        worth_usd=decided.worth_usd,
        tokens_input=decided.tokens_input,
        attempts=len(tried),
        status=None if last is None else last.status,
        error=None if last is None else last.error,
        cost_nusd=sum(each.cost_nusd for each in tried),
        tokens_completion=sum(counted) if counted else None,
        latency_ms=sum(each.latency_ms for each in tried) if tried else None,
        rated=len(said),
        quality=sum(said) / len(said) if said else None,
        snippet=decided.snippet,
    )
