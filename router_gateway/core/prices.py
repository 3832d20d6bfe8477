"""Prices with dates: what an endpoint charges from which instant on.

An `Endpoint` carries the prices in force when the pool was built, and in `price_changes` its whole dated table. A call
is priced by the prices in force when it started, so the table answers for the past and for the future alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router_gateway.core.types import Endpoint

ALWAYS = datetime.min.replace(tzinfo=UTC)
"""Since when the first prices of a table are in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChange:
    """The prices in force from `at` on (timezone-aware, inclusive), in USD per million tokens."""

    at: datetime
    price_input_usd_per_mtok: Decimal
    price_output_usd_per_mtok: Decimal
    price_cached_input_usd_per_mtok: Decimal
    price_cache_write_usd_per_mtok: Decimal


_PRICES = tuple(field.name for field in fields(PriceChange) if field.name != "at")


def priced_at(endpoint: Endpoint, instant: datetime) -> Endpoint:
    """The endpoint at the prices in force at `instant`; itself where its prices never change."""
    in_force = next((change for change in reversed(endpoint.price_changes) if change.at <= instant), None)
    if in_force is None:
        return endpoint
    return replace(endpoint, **{name: getattr(in_force, name) for name in _PRICES})


def next_change(endpoints: Iterable[Endpoint], after: datetime) -> datetime | None:
    """The first instant past `after` at which a price of any endpoint changes; None when none will."""
    return min((change.at for e in endpoints for change in e.price_changes if change.at > after), default=None)


def periods(endpoint: Endpoint) -> Sequence[tuple[datetime | None, datetime | None, Endpoint]]:
    """(since, until, the endpoint at those prices), oldest first; None = open. Together they cover all of time."""
    starts = [change.at for change in endpoint.price_changes] or [ALWAYS]
    ends = [*starts[1:], None]
    return [
        (None if since == ALWAYS else since, until, priced_at(endpoint, since))
        for since, until in zip(starts, ends, strict=True)
    ]
