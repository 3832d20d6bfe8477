"""The common schema, one row per (query, model), checked row by row and gathered into a Benchmark.

The schema is documented for authors of data in datasets/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.problems import Problems, shown

CELLS_MAX = 50_000_000
"""Bound on Q · E: five float tables of that size are 1.8 GB."""
IGNORED_LISTED_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the schema; `nullable` ones may be missing altogether."""

    name: str
    text: bool = False
    nullable: bool = False
    low: float = -math.inf
    high: float = math.inf


COLUMNS = (
    Column(name="dataset", text=True),
    Column(name="task", text=True),
    Column(name="sample_id", text=True),
    Column(name="split", text=True, nullable=True),
    Column(name="prompt", text=True),
    Column(name="model", text=True),
    Column(name="score", low=0.0, high=1.0),
    Column(name="cost_usd", nullable=True, low=0.0),
    Column(name="input_tokens", nullable=True, low=0.0),
    Column(name="output_tokens", nullable=True, low=0.0),
    Column(name="latency_ms", nullable=True, low=0.0),
    Column(name="response", text=True, nullable=True),
)
REQUIRED = tuple(column.name for column in COLUMNS if not column.nullable)
_NAMES = frozenset(column.name for column in COLUMNS)
_PER_QUERY = ("prompt", "task", "split")
_NUMBERS = ("score", "cost_usd", "input_tokens", "output_tokens", "latency_ms")


@dataclass(frozen=True, slots=True)
class _Query:
    where: str
    dataset: str
    sample_id: str
    prompt: str
    task: str
    split: str | None


class OutcomeTable:
    """Takes rows in the common schema, notes what is wrong with them, and builds the Benchmark at the end."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self._queries: dict[tuple[str, str], int] = {}
        self._facts: list[_Query] = []
        self._models: dict[str, int] = {}
        self._first_seen: dict[tuple[int, int], str] = {}
        self._numbers: list[tuple[float, ...]] = []
        self._responses: dict[tuple[int, int], str] = {}
        self._ignored: dict[str, None] = {}

    def ignore(self, names: object) -> None:
        """Remember columns the schema does not have, for the notes."""
        for name in names if isinstance(names, (list, tuple, set, frozenset)) else (names,):
            if name not in _NAMES and len(self._ignored) < IGNORED_LISTED_MAX:
                self._ignored[str(name)] = None

    def add(self, where: str, row: Mapping[str, Any]) -> None:
        """Check one row; a wrong one is noted and left out. An absent optional column may lack from `row`."""
        before = self.problems.count
        cells = {column.name: self._cell(where, column, row) for column in COLUMNS}
        if not _NAMES.issuperset(row):
            self.ignore([name for name in row if name not in _NAMES])
        if self.problems.count != before:
            return
        query = self._query(where, cells)
        if query is None:
            return
        position = (query, self._models.setdefault(cells["model"], len(self._models)))
        if position in self._first_seen:
            already = f"{shown(cells['model'])} answered this sample_id already at {self._first_seen[position]}"
            self.problems.add(where, "model", already)
            return
        self._first_seen[position] = where
        self._numbers.append(tuple(math.nan if cells[name] is None else cells[name] for name in _NUMBERS))
        if cells["response"] is not None:
            self._responses[position] = cells["response"]

    def _cell(self, where: str, column: Column, row: Mapping[str, Any]) -> Any:
        value = row.get(column.name)
        if value is None:
            if not column.nullable:
                self.problems.add(where, column.name, "missing")
            return None
        if column.text:
            return self._text(where, column, value)
        return self._number(where, column, value)

    def _text(self, where: str, column: Column, value: Any) -> str | None:
        if not isinstance(value, str):
            self.problems.add(where, column.name, f"must be text, not {type(value).__name__}")
        elif not value and not column.nullable:
            self.problems.add(where, column.name, "empty")
        elif not _encodable(value):
            self.problems.add(where, column.name, "not valid UTF-8")
        else:
            return value
        return None

    def _number(self, where: str, column: Column, value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            self.problems.add(where, column.name, f"must be a number, not {type(value).__name__}")
            return None
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.problems.add(where, column.name, f"must be finite, not {number}")
        elif number < column.low:
            self.problems.add(where, column.name, f"{shown(number)} is below {column.low:g}")
        elif number > column.high:
            self.problems.add(where, column.name, f"{shown(number)} is above {column.high:g}")
        else:
            return number
        return None

    def _query(self, where: str, cells: Mapping[str, Any]) -> int | None:
        """The position of the row's query, or None when it contradicts an earlier row of the same query."""
        key = (cells["dataset"], cells["sample_id"])
        if key not in self._queries:
            self._queries[key] = len(self._facts)
            facts = {name: cells[name] for name in _PER_QUERY}
            self._facts.append(_Query(where=where, dataset=key[0], sample_id=key[1], **facts))
            return self._queries[key]
        known = self._facts[self._queries[key]]
        differing = [name for name in _PER_QUERY if getattr(known, name) != cells[name]]
        for name in differing:
            self.problems.add(where, name, f"differs from that of the same sample_id at {known.where}")
        return None if differing else self._queries[key]

    def build(self) -> Benchmark:
        """The Benchmark of all rows, queries and models in order of first appearance. Raises DataError."""
        shape = (len(self._facts), len(self._models))
        if not self._numbers and not self.problems.count:
            self.problems.add("", "", "no rows")
        elif shape[0] * shape[1] > CELLS_MAX:
            self.problems.add("", "", f"{shape[0]} queries times {shape[1]} models exceed {CELLS_MAX} cells")
        self.problems.raise_if_any(hint="datasets/README.md describes the columns; nothing was loaded")
        at = tuple(np.array(list(self._first_seen), dtype=np.int64).T)
        tables: dict[str, Floats] = {}
        for name, column in zip(_NUMBERS, np.array(self._numbers, dtype=np.float64).T, strict=True):
            tables[name] = np.full(shape, np.nan)
            tables[name][at] = column
        return Benchmark(
            prompts=tuple(q.prompt for q in self._facts),
            sample_ids=tuple(q.sample_id for q in self._facts),
            datasets=tuple(q.dataset for q in self._facts),
            tasks=tuple(q.task for q in self._facts),
            splits=tuple(q.split for q in self._facts),
            endpoints=tuple(self._models),
            quality=tables["score"].astype(np.float32),
            cost_usd=tables["cost_usd"],
            tokens_input=tables["input_tokens"],
            tokens_output=tables["output_tokens"],
            latency_ms=tables["latency_ms"],
            responses=self._answers(shape),
            notes=(f"ignored columns: {', '.join(self._ignored)}",) if self._ignored else (),
        )

    def _answers(self, shape: tuple[int, int]) -> Any:
        if not self._responses:
            return None
        answers = np.full(shape, None, dtype=object)
        for position, response in self._responses.items():
            answers[position] = response
        return answers


def _encodable(text: str) -> bool:
    """False for lone surrogates: undecodable bytes of a CSV, or a broken escape of JSON."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
