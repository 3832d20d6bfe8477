"""A forecast in words and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from router_gateway.evaluation.audit_text import cell
from router_gateway.evaluation.forecast_result import Band, Forecast, Outlook

if TYPE_CHECKING:
    from rich.table import Table

_MEANT = {"log": "as logged", "dr": "doubly robust", "replay": "a replay's expectation"}


def table(found: Forecast) -> Table:
    """One line per way to route: as logged, and under the change."""
    from rich.table import Table

    requests = "" if found.requests is None else f", {_band(found.requests, digits=0)} requests"
    drawn = Table(
        title=f"The next {found.days} days{requests} (P50, P10 to P90), from {found.history_days} days of traffic"
    )
    for heading in ("", "spend USD", "USD/1,000 requests", "quality", "shares"):
        drawn.add_column(heading, justify="left" if heading in ("", "shares") else "right")
    for outlook in (found.as_logged, found.changed):
        if outlook is not None:
            quality = outlook.quality_refused if outlook.quality is None else cell(outlook.quality)
            drawn.add_row(
                outlook.label,
                _band(outlook.spend_usd, digits=4),
                f"{cell(outlook.usd_per_request, scale=1000, digits=4)}, {_MEANT[outlook.spend_by]}",
                quality,
                ", ".join(f"{name} {share:.0%}" for name, share in outlook.share.items()),
            )
    return drawn


def lines(found: Forecast) -> Iterator[str]:
    """What the change makes, the odds of the budget, and what to know."""
    if found.refused:
        yield found.refused
    if found.spend_change is not None:
        yield f"spend changes by {_band(found.spend_change, scale=100, digits=0)} %"
    if found.quality_change is not None:
        yield f"quality of a rated request changes by {cell(found.quality_change)} (95 % interval)"
    for outlook in (found.as_logged, found.changed):
        if outlook is not None and outlook.budget is not None:
            yield _odds(outlook, found.days)
    yield from found.notes


def _odds(outlook: Outlook, days: int) -> str:
    risk = outlook.budget
    assert risk is not None
    return (
        f"{outlook.label}: a budget of ${risk.usd_per_day:g} a day is exceeded on {risk.a_day:.0%} of the days, on at "
        f"least one with {risk.any_day:.0%}; ${risk.usd_per_day * days:g} by all {days} together with {risk.in_all:.0%}"
    )


def _band(band: Band, *, scale: float = 1.0, digits: int = 3) -> str:
    middle, low, high = (f"{scale * number:,.{digits}f}" for number in (band.p50, band.p10, band.p90))
    return f"{middle} ({low} to {high})"
