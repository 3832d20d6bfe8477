"""How an endpoint has fared of late, and how well its answers were foretold: few rows by index, for the admin API."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Engine, and_, select

from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import answering_attempt, stands
from router_gateway.ledger.tables import attempts, decisions, feedback

_CLIENT_CLOSED = "client_closed"
"""No fault of the endpoint: the client left."""


class Percentiles(NamedTuple):
    """Nearest rank, in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The newest tries of one endpoint.

    errors : how often each code came, what clients broke off left out; `other` where a failed try has no code
    latency_ms, first_byte_ms : of answers with status 200, None without any
    oldest : when the first of the tries began, None without any
    """

    attempts: int
    errors: Mapping[str, int]
    latency_ms: Percentiles | None
    first_byte_ms: Percentiles | None
    oldest: datetime | None

    @property
    def error_rate(self) -> float | None:
        """Failed tries among all, None without any."""
        return sum(self.errors.values()) / self.attempts if self.attempts else None


class Foretold(NamedTuple):
    """One rated answer: who gave it, the quality that was expected of it, and the quality that was said, in [0, 1]."""

    endpoint: str
    expected: float
    said: float


def recent(engine: Engine, names: Sequence[str], *, since: datetime, rows_max: int) -> Mapping[str, Recent]:
    """By endpoint: at most `rows_max` newest tries since an instant. Blocks; raises LedgerUnavailable."""
    columns = (attempts.c.at, attempts.c.status, attempts.c.error, attempts.c.latency_ms, attempts.c.first_byte_ms)
    found = {}
    with reading(engine) as connection:
        for name in names:
            newest = select(*columns).where(attempts.c.endpoint == name, attempts.c.at >= since)
            rows = connection.execute(newest.order_by(attempts.c.at.desc()).limit(rows_max)).all()
            found[name] = _recent(rows)
    return found


def foretold(engine: Engine, *, rows_max: int) -> list[Foretold]:
    """Of the newest `rows_max` words of feedback those that speak of a scored answer, the last word of each counts.

    Credited to the endpoint that answered, as reports do. Blocks; raises LedgerUnavailable.
    """
    newest = select(feedback.c.seq, feedback.c.query_id, feedback.c.quality).where(stands(feedback.c.id))
    said = newest.order_by(feedback.c.seq.desc()).limit(rows_max).subquery()
    last = answering_attempt().where(attempts.c.query_id.in_(select(said.c.query_id))).subquery()
    rows = (
        select(
            said.c.query_id,
            said.c.quality.label("said"),
            attempts.c.endpoint,
            decisions.c.endpoints,
            decisions.c.quality.label("expected"),
        )
        .select_from(said)
        .join(decisions, decisions.c.query_id == said.c.query_id)
        .join(last, last.c.query_id == said.c.query_id)
        .join(attempts, and_(attempts.c.query_id == last.c.query_id, attempts.c.number == last.c.number))
        .order_by(said.c.seq.desc())
    )
    found: dict[Any, Foretold] = {}
    with reading(engine) as connection:
        for row in connection.execute(rows):
            expected = _expected(row.endpoints, row.expected, row.endpoint)
            if expected is not None and row.query_id not in found:
                found[row.query_id] = Foretold(row.endpoint, expected, row.said)
    return list(found.values())


def _recent(rows: Sequence[Any]) -> Recent:
    failed = (row.error or "other" for row in rows if row.status != 200 or row.error is not None)
    answered = [row for row in rows if row.status == 200]
    return Recent(
        attempts=len(rows),
        errors=Counter(code for code in failed if code != _CLIENT_CLOSED),
        latency_ms=_percentiles([row.latency_ms for row in answered]),
        first_byte_ms=_percentiles([row.first_byte_ms for row in answered if row.first_byte_ms is not None]),
        oldest=rows[-1].at if rows else None,
    )


def _percentiles(values: Sequence[float]) -> Percentiles | None:
    if not values:
        return None
    ranked = sorted(values)
    return Percentiles(*(ranked[math.ceil(len(ranked) * percent / 100) - 1] for percent in (50, 95, 99)))


def _expected(names: Sequence[str], quality: Sequence[Any], endpoint: str) -> float | None:
    """None where nothing was scored, and where the endpoint was not among the scored; NaN is kept as text."""
    if endpoint not in names or len(quality) != len(names):
        return None
    expected = float(quality[names.index(endpoint)])
    return expected if math.isfinite(expected) else None
