"""Means and spreads over the seeds of an evaluation, passing over what some seeds could not say (None or NaN)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from router_gateway.core.types import Floats


def over(records: Sequence[Mapping[str, Any]]) -> Callable[[str], list[Any]]:
    """A function from a figure's name to its values, one per record, None where a record lacks it."""
    return lambda name: [record.get(name) for record in records]


def mean(values: Iterable[Any]) -> float:
    """Over the seeds for which the figure is defined; NaN when it is for none."""
    defined = _known(values)
    return float(np.mean(defined)) if defined else math.nan


def sd(values: Iterable[Any]) -> float:
    """Sample standard deviation; NaN below two seeds."""
    defined = _known(values)
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan


def column_means(rows: Floats) -> Floats:
    """float64 (E,): means down the columns of (seeds, E), NaN where a column has none."""
    known = np.isfinite(rows)
    count = known.sum(axis=0)
    return np.asarray(np.where(known, rows, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan))


def number(value: Any) -> float:
    """None, as JSON has it, becomes NaN."""
    return math.nan if value is None else float(value)


def numbers(values: Iterable[Any]) -> Floats:
    """float64 (n,), None becoming NaN."""
    return np.array([number(value) for value in values], dtype=np.float64)


def floats(values: Iterable[Any]) -> tuple[float, ...]:
    """Plain floats, as results keep them."""
    return tuple(float(value) for value in values)


def _known(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]
