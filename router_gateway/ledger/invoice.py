"""A provider's invoice as CSV: what was billed, by UTC day and model.

Column names are found by what providers call them. Every mistake is reported at once with its line.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from router_gateway.core.errors import DataError
from router_gateway.core.money import usd_to_nusd

Billed = dict[tuple[date, str], int]
"""Nano-dollars by day and model (`model_key`); credits are negative."""

_DATE = ("date", "day", "usage_date", "usage_day", "start_date", "start_time", "start_time_iso", "bucket_start",
         "timestamp", "created_at", "time")  # fmt: skip
_MODEL = ("model", "model_name", "model_id", "model_permaslug", "model_version", "line_item", "sku", "description")
_COST = ("cost_usd", "cost_in_usd", "amount_usd", "usd", "cost", "cost_total", "total_cost", "amount", "amount_value",
         "charge", "total")  # fmt: skip
_CURRENCY = ("currency", "currency_code", "amount_currency", "billing_currency")
_PROVIDER = ("provider", "provider_name", "vendor", "organization_provider")
_PROBLEMS_SHOWN = 20
_LINES_MAX = 1_000_000
_USD_MAX = Decimal(10) ** 9
_DATED = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2})(-v\d+)?(:\d+)?$")


def model_key(model: str) -> str:
    """A model's name without provider, case and date of its version: what both sides are matched by."""
    return _DATED.sub("", model.strip().rpartition("/")[2].lower())


def read_invoice(path: Path, *, provider: str | None = None) -> Billed:
    """What the file bills; lines of another `provider` are left out where it has such a column.

    Raises DataError with each bad line as `file:line: what is wrong`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(csv.reader(file, strict=True), path.name, provider)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([f"{path.name}: cannot be read as UTF-8 text ({type(error).__name__})"]) from None


def _read(reader: Any, name: str, provider: str | None) -> Billed:
    billed: dict[tuple[date, str], int] = defaultdict(int)
    problems: list[str] = []
    columns: Mapping[str, int] | None = None
    width = 0
    try:
        for cells in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns, width = _columns(cells, f"{name}:{line}"), len(cells)
                continue
            try:
                if len(cells) != width:
                    raise ValueError(f"{len(cells)} columns where the header has {width}")
                if line > _LINES_MAX:
                    raise ValueError(f"more than {_LINES_MAX:,} lines")
                if found := _billed(cells, columns, provider):
                    day, model, nusd = found
                    billed[day, model] += nusd
            except ValueError as error:
                problems.append(f"{name}:{line}: {error}")
                if line > _LINES_MAX:
                    break
    except csv.Error as error:
        problems.append(f"{name}:{reader.line_num}: {error}")
    if columns is None and not problems:
        problems.append(f"{name}: no header line")
    if problems:
        more = [f"… and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
        raise DataError([*problems[:_PROBLEMS_SHOWN], *more])
    return dict(billed)


def _columns(header: Sequence[str], where: str) -> Mapping[str, int]:
    names = [re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_") for cell in header]
    known = {"date": _DATE, "model": _MODEL, "cost": _COST, "currency": _CURRENCY, "provider": _PROVIDER}
    found = {
        what: names.index(next(name for name in said if name in names))
        for what, said in known.items()
        if any(name in names for name in said)
    }
    lacking = [what for what in ("date", "model", "cost") if what not in found]
    if lacking:
        said = "; ".join(f"no column for the {what} (such as {', '.join(known[what][:4])})" for what in lacking)
        raise DataError([f"{where}: {said}"])
    return found


def _billed(cells: Sequence[str], columns: Mapping[str, int], provider: str | None) -> tuple[date, str, int] | None:
    """Raise ValueError for a line that says no cost of a model on a day; None for one of another provider."""
    said = {what: cells[index].strip() for what, index in columns.items()}
    if provider is not None and said.get("provider", provider).lower() != provider.lower():
        return None
    if said.get("currency", "USD").upper() not in ("USD", "US$", "$"):
        raise ValueError(f"currency {said['currency'][:20]!r}: only USD is compared")
    if not said["model"]:
        raise ValueError("no model")
    return _day(said["date"]), model_key(said["model"]), _nusd(said["cost"])


def _day(said: str) -> date:
    try:
        if said.isdecimal() and len(said) in (10, 13):  # seconds or milliseconds since 1970
            return datetime.fromtimestamp(int(said[:10]), UTC).date()
        instant = datetime.fromisoformat(said)
    except (ValueError, OverflowError):
        raise ValueError(f"{said[:40]!r} is no date such as 2030-01-31") from None
    return (instant.astimezone(UTC) if instant.tzinfo else instant).date()


def _nusd(said: str) -> int:
    try:
        usd = Decimal(said.replace("$", "").replace("USD", "").replace(",", "").replace(" ", ""))
        if not usd.is_finite() or abs(usd) > _USD_MAX:
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError(f"{said[:40]!r} is no amount of US dollars") from None
    return usd_to_nusd(usd)
