"""The calendar of budgets: hours, days and months, all of UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

Period = Literal["hour", "day", "month"]
PERIODS: tuple[Period, ...] = get_args(Period)


def period_start(period: Period, at: datetime) -> datetime:
    """The beginning, in UTC, of the hour, day or month that holds `at` (timezone-aware)."""
    start = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if period == "hour":
        return start
    start = start.replace(hour=0)
    return start if period == "day" else start.replace(day=1)


def next_period(period: Period, start: datetime) -> datetime:
    """The beginning of the period after the one that begins at `start`."""
    if period == "hour":
        return start + timedelta(hours=1)
    if period == "day":
        return start + timedelta(days=1)
    return period_start("month", start + timedelta(days=32))
