"""What the calls of the ledger would have cost at other prices, or at another endpoint's, from the tokens they used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, func, select

from router_gateway.core.money import cost_nusd
from router_gateway.core.prices import periods, priced_at
from router_gateway.core.types import Endpoint, Usage
from router_gateway.ledger.connections import reading
from router_gateway.ledger.tables import attempts
from router_gateway.ledger.totals import TOKENS


@dataclass(slots=True, kw_only=True)
class Repriced:
    """An endpoint's attempts with reported usage: what was booked, and what they would have cost; nano-dollars.

    `estimated_nusd` was booked for attempts whose tokens nobody reported: it is in neither. `priced` is False for an
    endpoint that has no prices any more.
    """

    endpoint: str
    attempts: int = 0
    booked_nusd: int = 0
    repriced_nusd: int = 0
    estimated_nusd: int = 0
    priced: bool = True


def reprice(
    engine: Engine,
    pool: Sequence[Endpoint],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    at: datetime | None = None,
    endpoint: Endpoint | None = None,
) -> list[Repriced]:
    """By endpoint, for `since` <= start of the attempt < `until` (timezone-aware; None = open).

    at : the instant whose prices count; None: those in force when each attempt started
    endpoint : whose prices count; None: each attempt's own endpoint's
    A class's tokens are summed before they are priced: exact up to half a nano-dollar for each attempt.
    """
    known = {each.name: each for each in pool}
    found: dict[str, Repriced] = {}
    with reading(engine) as connection:
        names = connection.execute(select(attempts.c.endpoint).distinct().order_by(attempts.c.endpoint)).scalars().all()
        for name in names:
            row = found.setdefault(name, Repriced(endpoint=name))
            prices = endpoint or known.get(name)
            row.priced = prices is not None
            for start, end, priced in _periods(prices, at):
                within = _within(name, [since, start], [until, end])
                _add(row, connection.execute(within).mappings().one(), priced)
    return [row for row in found.values() if row.attempts or row.estimated_nusd]


def _periods(prices: Endpoint | None, at: datetime | None) -> Sequence[tuple[datetime | None, datetime | None, Any]]:
    if prices is None:
        return [(None, None, None)]
    return periods(prices) if at is None else [(None, None, priced_at(prices, at))]


def _within(name: str, starts: Sequence[datetime | None], ends: Sequence[datetime | None]) -> Any:
    conditions: list[ColumnElement[bool]] = [attempts.c.endpoint == name]
    conditions += [attempts.c.at >= start for start in starts if start is not None]
    conditions += [attempts.c.at < end for end in ends if end is not None]
    reported = attempts.c.tokens_input.is_not(None)
    return select(
        func.count().filter(reported).label("attempts"),
        func.sum(attempts.c.cost_nusd).filter(reported).label("booked_nusd"),
        func.sum(attempts.c.cost_nusd).filter(~reported).label("estimated_nusd"),
        *(func.sum(attempts.c[token]).label(token) for token in TOKENS),
    ).where(*conditions)


def _add(row: Repriced, sums: Mapping[Any, Any], priced: Endpoint | None) -> None:
    row.attempts += sums["attempts"]
    row.booked_nusd += int(sums["booked_nusd"] or 0)
    row.estimated_nusd += int(sums["estimated_nusd"] or 0)
    if priced is not None:
        row.repriced_nusd += cost_nusd(Usage(**{name: int(sums[name] or 0) for name in TOKENS}), priced)
