"""Reads what `router-gateway ledger export` wrote: decisions that were drawn, each with one endpoint's outcome."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from router_gateway.core.errors import DataError
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes, gathered, rated
from router_gateway.evaluation.problems import Problems
from router_gateway.evaluation.readers import LINE_BYTES_MAX, json_lines
from router_gateway.ledger.decided import Decided

RECOGNISED_BY = frozenset({"decision_id", "drawn", "propensity", "candidates"})
"""Columns by which an export is told from a table of outcomes."""

_LISTS = ("candidates", "probability", "expected_cost_usd", "vector")
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Chance = Annotated[float, Field(ge=0, le=1)]


class _Row(BaseModel):
    decision_id: UUID
    session: str | None = None
    model: str
    prompt: str | None = None
    score: _Chance | None = None
    cost_usd: _Amount | None = None
    attempt: int
    drawn: str
    propensity: _Chance
    candidates: list[str]
    probability: list[_Chance | None]
    expected_cost_usd: list[_Amount | None]
    worth_usd: Annotated[float, Field(gt=0)]
    request_tokens: Annotated[int, Field(ge=0)]
    space: str
    vector: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None


def is_logged(source: str) -> bool:
    """Whether the file has an export's columns; False for whatever is no readable file."""
    path = Path(source)
    try:
        first: Any = next(_cells(path, Problems(source), first_only=True), ("", {}))[1] if path.is_file() else {}
    except (DataError, OSError, ValueError, csv.Error):
        return False
    return set(first) >= RECOGNISED_BY


def read_logged(source: str) -> LoggedOutcomes:
    """The export's decisions. Raises DataError with every bad row, or when nothing can be learned from any."""
    problems = Problems(source)
    decisions: dict[UUID, list[_Row]] = {}
    for where, cells in _cells(Path(source), problems):
        try:
            row = _Row.model_validate(cells)
        except ValidationError as error:
            for one in error.errors(include_input=False, include_url=False):
                problems.add(where, ".".join(map(str, one["loc"][:1])), one["msg"])
            continue
        if row.propensity and not len(row.candidates) == len(row.probability) == len(row.expected_cost_usd):
            problems.add(where, "probability", "must have as many numbers as there are candidates")
        decisions.setdefault(row.decision_id, []).append(row)
    problems.raise_if_any(hint="datasets/README.md describes the columns; nothing was loaded")
    return gathered(*rated(source, [_decided(rows) for rows in decisions.values()]))


def _decided(rows: list[_Row]) -> Decided:
    """One decision's attempts together."""
    first = rows[0]
    best = max((row for row in rows if row.score is not None), key=lambda row: row.attempt, default=None)
    return Decided(
        id=first.decision_id,
        session=first.session,
        text=first.prompt or "",
        tokens_input=first.request_tokens,
        space=first.space,
        vector=np.array(first.vector, dtype=np.float32) if first.vector else None,
        drawn=first.drawn,
        answered=None if best is None else best.model,
        propensity=max(row.propensity for row in rows),
        candidates=first.candidates,
        probability=first.probability,
        expected_cost_usd=first.expected_cost_usd,
        worth_usd=first.worth_usd,
        quality=None if best is None else best.score,
        cost_usd=sum(row.cost_usd or 0.0 for row in rows),
    )


def _cells(path: Path, problems: Problems, *, first_only: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, cells) of every row; lists inside CSV cells are JSON."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        yield from _parquet_cells(path, first_only=first_only)
    elif name.endswith(".csv"):
        yield from _csv_cells(path)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        yield from json_lines(path, problems)


def _csv_cells(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    limit_before = csv.field_size_limit(LINE_BYTES_MAX)  # a process-wide setting
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            for row in rows:
                yield str(rows.line_num), {name: _csv_cell(name, text) for name, text in row.items()}
    finally:
        csv.field_size_limit(limit_before)


def _csv_cell(name: str, text: str) -> Any:
    if name in _LISTS and text:
        try:
            return json.loads(text)
        except ValueError:
            return text  # its column says what is wrong with it
    return text or None


def _parquet_cells(path: Path, *, first_only: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if first_only:
                yield "", dict.fromkeys(file.schema_arrow.names)
                return
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except pa.ArrowException as error:
        raise DataError([f"{path}: not a readable Parquet file ({type(error).__name__})"]) from error
