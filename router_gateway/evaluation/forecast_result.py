"""What a forecast says: bands of traffic and spend, quality with its interval, and the odds of a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.offpolicy import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Quantiles over simulated futures: one in ten lies below p10, one in ten above p90."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, drawn: Floats) -> Band:
        low, middle, high = np.quantile(drawn, [0.1, 0.5, 0.9])
        return cls(p10=float(low), p50=float(middle), p90=float(high))


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBand:
    """One day to come (UTC)."""

    date: str
    requests: Band
    spend_usd: Band


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRisk:
    """Chances that a daily budget is exceeded: on a day taken at random, on any day, and by all days together."""

    usd_per_day: float
    a_day: float
    any_day: float
    in_all: float
    days_over: Band


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The days to come under one way to route.

    spend_by : whether costs are those of the log, doubly robust, or (where overlap fails) a replay's expectation
    quality : None with the reason in `quality_refused`; share : of the requests, by endpoint
    """

    label: str
    spend_usd: Band
    spend_by: Literal["log", "dr", "replay"]
    usd_per_request: Estimate
    quality: Estimate | None
    quality_refused: str
    share: Mapping[str, float]
    budget: BudgetRisk | None
    daily: tuple[DayBand, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The answer. refused : why there is no forecast at all, or none of the change; "" where there is one.

    spend_change : of the spend, as a share, the same futures under both; quality_change : per rated request
    """

    days: int
    history_days: int
    requests: Band | None
    as_logged: Outlook | None
    changed: Outlook | None
    spend_change: Band | None
    quality_change: Estimate | None
    refused: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def risk(spend: Floats, usd_per_day: float | None) -> BudgetRisk | None:
    """Of futures float64 (R, D); None without a budget."""
    if usd_per_day is None:
        return None
    over = spend > usd_per_day
    return BudgetRisk(
        usd_per_day=usd_per_day,
        a_day=float(over.mean()),
        any_day=float(over.any(axis=1).mean()),
        in_all=float((spend.sum(axis=1) > usd_per_day * spend.shape[1]).mean()),
        days_over=Band.of(over.sum(axis=1).astype(np.float64)),
    )
