"""The ledger against a provider's invoice, by UTC day and model: what differs, and what may explain it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from sqlalchemy import Engine, func, select

from router_gateway.ledger.connections import reading
from router_gateway.ledger.invoice import Billed, model_key
from router_gateway.ledger.reports import UtcDay
from router_gateway.ledger.tables import daily_totals, open_calls

Verdict = Literal["agrees", "in doubt", "differs", "only in the ledger", "only on the invoice"]


@dataclass(slots=True, kw_only=True)
class Line:
    """One model on one day; amounts in nano-dollars.

    `estimated_nusd` of `ledger_nusd` rest on our own count of tokens, because the provider reported none. `open_nusd`
    is what `open_calls` without an outcome were expected to cost; it is no part of `ledger_nusd`, and may be on the
    invoice. `provider_nusd` is what the provider said of `provider_attempts` at the time.
    """

    day: date
    model: str
    ledger_nusd: int = 0
    invoice_nusd: int = 0
    attempts: int = 0
    estimated_attempts: int = 0
    estimated_nusd: int = 0
    open_calls: int = 0
    open_nusd: int = 0
    provider_attempts: int = 0
    provider_nusd: int = 0
    billed: bool = False

    @property
    def difference_nusd(self) -> int:
        """Invoice less ledger."""
        return self.invoice_nusd - self.ledger_nusd

    @property
    def difference_percent(self) -> float | None:
        """Of the invoice; None where it has nothing."""
        return 100 * self.difference_nusd / self.invoice_nusd if self.invoice_nusd else None

    def verdict(self, tolerance_nusd: int) -> Verdict:
        """Whether both say the same up to `tolerance_nusd`, or up to what is estimated or has no outcome."""
        off = abs(self.difference_nusd)
        if off <= tolerance_nusd:
            return "agrees"
        if off <= tolerance_nusd + self.estimated_nusd + self.open_nusd:
            return "in doubt"
        if not self.billed:
            return "only in the ledger"
        return "differs" if self.attempts or self.open_calls else "only on the invoice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """`lines` by day and model; a line agrees when both sides are within `tolerance_nusd`."""

    lines: tuple[Line, ...]
    tolerance_nusd: int
    first: date
    last: date

    @property
    def total(self) -> Line:
        """All lines together."""
        total = Line(day=self.first, model="", billed=True)
        for line in self.lines:
            for name in _ADDED:
                setattr(total, name, getattr(total, name) + getattr(line, name))
        return total

    @property
    def differs(self) -> bool:
        """Whether any line needs a person's look."""
        return any(line.verdict(self.tolerance_nusd) not in ("agrees", "in doubt") for line in self.lines)


_ADDED = (
    "ledger_nusd",
    "invoice_nusd",
    "attempts",
    "estimated_attempts",
    "estimated_nusd",
    "open_calls",
    "open_nusd",
    "provider_attempts",
    "provider_nusd",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Which model an endpoint of the ledger is: by the configuration, else its own name.

    `only` are the endpoints to look at, None for all.
    """

    by_endpoint: Mapping[str, str]
    only: frozenset[str] | None = None

    def key(self, endpoint: str) -> str | None:
        """The model's key, or None for an endpoint that is not to be looked at."""
        if self.only is not None and endpoint not in self.only:
            return None
        return model_key(self.by_endpoint.get(endpoint, endpoint))


def reconcile(
    engine: Engine,
    billed: Billed,
    models: Models,
    *,
    tolerance_nusd: int,
    first: date | None = None,
    last: date | None = None,
) -> Reconciliation:
    """Compare the days from `first` to `last`, both included; None: those of the invoice."""
    days = [day for day, _ in billed]
    first = first or min(days, default=date.max)
    last = last or max(days, default=date.min)
    lines: dict[tuple[date, str], Line] = {}
    for (day, model), nusd in billed.items():
        if first <= day <= last:
            line = _line(lines, day, model)
            line.invoice_nusd, line.billed = nusd, True
    with reading(engine) as connection:
        for query in (_spent(first, last), _open(first, last)):
            for row in connection.execute(query).mappings():
                if (key := models.key(row["endpoint"])) is not None:
                    _add(_line(lines, date.fromisoformat(row["day"]), key), row)
    ordered = tuple(lines[key] for key in sorted(lines))
    return Reconciliation(lines=ordered, tolerance_nusd=tolerance_nusd, first=first, last=last)


def _line(lines: dict[tuple[date, str], Line], day: date, model: str) -> Line:
    return lines.setdefault((day, model), Line(day=day, model=model))


def _add(line: Line, row: Mapping[Any, Any]) -> None:
    for name in _ADDED:
        if name in row:
            setattr(line, name, getattr(line, name) + int(row[name] or 0))


def _spent(first: date, last: date) -> Any:
    names: Iterable[str] = ("attempts", "estimated_attempts", "estimated_nusd", "provider_attempts")
    return (
        select(
            daily_totals.c.day,
            daily_totals.c.endpoint,
            func.sum(daily_totals.c.cost_nusd).label("ledger_nusd"),
            func.sum(daily_totals.c.provider_cost_nusd).label("provider_nusd"),
            *(func.sum(daily_totals.c[name]).label(name) for name in names),
        )
        .where(daily_totals.c.day >= first.isoformat(), daily_totals.c.day <= last.isoformat())
        .group_by(daily_totals.c.day, daily_totals.c.endpoint)
    )


def _open(first: date, last: date) -> Any:
    day = UtcDay(open_calls.c.at).label("day")
    start, end = first.isoformat(), (last + timedelta(days=1)).isoformat() if last < date.max else "9999-12-31"
    return (
        select(
            day,
            open_calls.c.endpoint,
            func.count().label("open_calls"),
            func.sum(open_calls.c.expected_nusd).label("open_nusd"),
        )
        .where(day >= start, day < end)
        .group_by(day, open_calls.c.endpoint)
    )
