"""What came of the decisions of an experiment: cost, failure, time to first token and what was said of the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, Select, Subquery, Table, select

from router_gateway.ledger.connections import reading
from router_gateway.ledger.hearing import Hearing, words
from router_gateway.ledger.reads import stands
from router_gateway.ledger.tables import attempts, decisions, feedback

_CLIENTS_OWN = frozenset({"client_closed", "invalid_request", "context_length_exceeded"})
"""Errors of attempts that are no fault of the choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One decision that was sent to an endpoint.

    unit : what was hashed to assign it: its session, mostly
    canary : whether the candidate decided
    failed : no endpoint answered, or routing itself failed and the default endpoint served
    first_token_ms : what the client waited for content, failed tries before it included; None without an answer
    quality : what was said of it (`hearing`), in [0, 1]; None where nobody spoke
    rated : grows in the order in which ratings came
    """

    unit: str
    canary: bool
    cost_nusd: int
    failed: bool
    first_token_ms: float | None
    quality: float | None = None
    rated: int = 0


def read_outcomes(
    engine: Engine, experiment: str, since: datetime, rows_max: int, hearing: Hearing | None = None
) -> list[Outcome]:
    """The first `rows_max` decisions of an experiment from `since` on, in their order, without those under way.

    hearing : how ratings are weighed; None: as they were said
    """
    chosen = (
        select(
            decisions.c.query_id,
            decisions.c.at,
            decisions.c.endpoint,
            decisions.c.arm_unit,
            decisions.c.candidate,
            decisions.c.reason,
        )
        .where(decisions.c.experiment == experiment, decisions.c.at >= since)
        .order_by(decisions.c.at, decisions.c.query_id)
        .limit(rows_max)
    )
    wanted = chosen.subquery()
    with reading(engine) as connection:
        decided = connection.execute(chosen).all()
        tried = _by_query(connection.execute(_of(select(attempts), attempts, wanted).order_by(attempts.c.number)))
        standing = _of(words(), feedback, wanted).where(stands(feedback.c.id))
        said = _by_query(connection.execute(standing.order_by(feedback.c.seq)))
    return list(_outcomes(decided, tried, said, experiment, hearing or Hearing()))


def _of(rows: Select[Any], table: Table, wanted: Subquery) -> Select[Any]:
    return rows.join(wanted, wanted.c.query_id == table.c.query_id)


def _by_query(rows: Any) -> Mapping[Any, list[Row[Any]]]:
    found: dict[Any, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.query_id].append(row)
    return found


def _outcomes(decided: Sequence[Any], tried: Any, said: Any, experiment: str, hearing: Hearing) -> Iterator[Outcome]:
    for row in decided:
        tries = tried.get(row.query_id)
        if not tries or row.arm_unit is None:
            continue
        ratings = said.get(row.query_id, ())
        answering = next((each.endpoint for each in reversed(tries) if each.status == 200), None)
        answered = answering is not None
        yield Outcome(
            unit=row.arm_unit,
            canary=row.candidate == experiment,
            cost_nusd=sum(each.cost_nusd for each in tries),
            failed=row.reason == "fallback:error" or (not answered and tries[-1].error not in _CLIENTS_OWN),
            first_token_ms=_first_token_ms(tries) if answered else None,
            quality=hearing.quality((rating._mapping for rating in ratings), answering or row.endpoint),
            rated=ratings[0].seq if ratings else 0,
        )


def _first_token_ms(tries: Sequence[Row[Any]]) -> float | None:
    """Tries come one after the other: the failed ones are waited for in full."""
    waited = 0.0
    for each in tries:
        if each.status == 200:
            return None if each.first_byte_ms is None else waited + float(each.first_byte_ms)
        waited += each.latency_ms
    return None
