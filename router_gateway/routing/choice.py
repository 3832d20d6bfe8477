"""One row of a batch, read as a choice: plain lists, which for a pool's few columns are faster than arrays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def drawn(probability: Sequence[float], at: float) -> int:
    """The column in which `at`, uniform in [0, 1), falls when the columns share the line by probability."""
    cumulative = list(accumulate(probability))
    return bisect_right(cumulative, at * cumulative[-1])


def ranked(first: int, value: Sequence[float], columns: Sequence[int], eligible: Sequence[bool]) -> list[int]:
    """`first`, then the other eligible columns, best value first; of equal values the one that `columns` has first."""
    by_value = sorted(columns, key=value.__getitem__, reverse=True)
    return [first, *(column for column in by_value if eligible[column] and column != first)]


def best(value: Sequence[float], eligible: Sequence[bool]) -> int:
    """The first eligible column of the largest value."""
    return max((column for column, may in enumerate(eligible) if may), key=value.__getitem__)
