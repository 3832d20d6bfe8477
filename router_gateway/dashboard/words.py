"""Numbers and instants as people read them. Units stand in the names; None is always a dash."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from nicegui.element import Element

DASH = "–"
_MINUS = "−"
_ASSETS = "assets/"
_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k"))


def money(usd: float | None, *, signed: bool = False) -> str:
    """Dollars with as many digits as carry meaning: $1,234.50, $0.0042, $12.3M."""
    if usd is None or not math.isfinite(usd):
        return DASH
    amount = abs(usd)
    if amount >= 1e6:
        said = _short(amount)
    elif amount >= 1.0 or amount == 0.0:
        said = f"{amount:,.2f}"
    elif amount >= 1e-9:
        said = f"{amount:.{max(2, 1 - math.floor(math.log10(amount)))}f}"
    else:
        return "<$0.000000001"
    return _sign(usd, "$" + said, signed)


def money_nusd(nusd: int | None, *, signed: bool = False) -> str:
    """The same of nano-dollars."""
    return money(None if nusd is None else nusd / 1e9, signed=signed)


def percent(share: float | None, *, digits: int = 1, signed: bool = False) -> str:
    """0.314 as 31.4 %."""
    if share is None or not math.isfinite(share):
        return DASH
    return _sign(share, f"{abs(share) * 100:.{digits}f} %", signed)


def points(difference: float | None, *, digits: int = 1) -> str:
    """A difference of qualities (0 to 1) in points of a hundred, always with its sign: −0.4 points."""
    if difference is None or not math.isfinite(difference):
        return DASH
    return _sign(difference, f"{abs(difference) * 100:.{digits}f} points", True)


def count(number: float | None) -> str:
    """1,234 in full, 12.3k and beyond in short."""
    if number is None or not math.isfinite(number):
        return DASH
    if abs(number) >= 1e4:
        return _sign(number, _short(abs(number)), False)
    return _sign(number, f"{abs(number):,.0f}", False)


def number(value: float | None, *, digits: int = 3) -> str:
    """A plain number with so many significant digits."""
    if value is None or not math.isfinite(value):
        return DASH
    return _sign(value, f"{abs(value):,.{digits}g}", False)


def duration_ms(ms: float | None) -> str:
    """Milliseconds as people say them: 0.42 ms, 310 ms, 1.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if ms is None or not math.isfinite(ms):
        return DASH
    if ms < 1_000:
        return f"{ms:.2f} ms" if ms < 10 else f"{ms:.0f} ms"
    seconds = ms / 1_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return DASH


def interval(low: float | None, high: float | None, say: Callable[[float | None], str] = percent) -> str:
    """From `low` to `high`, each told by `say`, a function of this module; their unit is told once."""
    first, last = say(low), say(high)
    unit = last.rpartition(" ")[2]
    return f"{first.removesuffix(f' {unit}')} to {last}"


class Instant(Element, component="assets/rg_instant.js"):
    """An instant in the viewer's zone and language, with the whole of it as its title; formatted in the browser.

    `style`: `full` is date and time, `date` the day, `time` the time of day, `ago` how long it is since (kept up).
    """

    def __init__(self, at: datetime | str | None, *, style: Literal["full", "date", "time", "ago"] = "full") -> None:
        super().__init__()
        self._props["at"] = at.isoformat() if isinstance(at, datetime) else at or ""
        self._props["kind"] = style


def instant(at: datetime | str | None, *, style: Literal["full", "date", "time", "ago"] = "full") -> Instant:
    """Put an instant on the page; ISO 8601 or a datetime with its zone."""
    return Instant(at, style=style)


def _short(amount: float) -> str:
    for size, letter in _STEPS:
        if amount >= size:
            base = 1e3 if letter == "k" else size
            return f"{amount / base:.3g}{letter}" if amount / base < 999.5 else f"{amount / base:.0f}{letter}"
    return f"{amount:,.0f}"


def _sign(value: float, said: str, signed: bool) -> str:
    if value < 0 and any(digit in said for digit in "123456789"):
        return _MINUS + said
    return "+" + said if signed and value > 0 else said
