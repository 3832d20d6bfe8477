"""Reads what `router-gateway ledger export` wrote: decisions that were drawn, each with one endpoint's outcome."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from router_gateway.core.errors import DataError
from router_gateway.core.experience import Experience
from router_gateway.core.types import Bools, Floats, Ints, Queries
from router_gateway.evaluation.problems import Problems
from router_gateway.evaluation.readers import LINE_BYTES_MAX, json_lines

RECOGNISED_BY = frozenset({"decision_id", "drawn", "propensity", "candidates"})
"""Columns by which an export is told from a table of outcomes."""

_LISTS = ("candidates", "probability", "expected_cost_usd", "vector")
_DRIFT = 1e-6  # a propensity further than this from its row's probability is another number

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedOutcomes:
    """N decisions that were rated, over E endpoints. A decision's outcome is what its client got, fallbacks included.

    queries : the N queries; ids, sessions : N each, a decision without a session being one of its own
    endpoints : E names
    drawn, answered : int64 (N,), columns
    propensity : float64 (N,), of the endpoint drawn, as logged
    probability, expected_cost_usd : float64 (N, E), 0 where not a candidate
    candidate : bool (N, E)
    quality, cost_usd, worth_usd : float64 (N,); the cost is that of all attempts together
    random : bool (N,), where the endpoint was drawn by the rule, so that an estimate may use the row
    notes : what was left out, one sentence each
    """

    queries: Queries
    ids: tuple[UUID, ...]
    sessions: tuple[str, ...]
    endpoints: tuple[str, ...]
    drawn: Ints
    answered: Ints
    propensity: Floats
    probability: Floats
    expected_cost_usd: Floats
    candidate: Bools
    quality: Floats
    cost_usd: Floats
    worth_usd: Floats
    random: Bools
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def experience(self, rows: Ints, *, credit_drawn: bool = False) -> Experience:
        """What a policy learns from these rows, as the live learner would: credit goes to who answered.

        credit_drawn : to the endpoint drawn instead, as a model of what drawing it brings needs it
        """
        fallback = self.answered[rows] != self.drawn[rows]
        return Experience(
            queries=self.queries.take(rows),
            endpoints=self.endpoints,
            query=np.arange(len(rows), dtype=np.int64),
            endpoint=(self.drawn if credit_drawn else self.answered)[rows],
            quality=self.quality[rows].astype(np.float32),
            cost_usd=self.cost_usd[rows],
            propensity=np.where(fallback, 0.0, self.propensity[rows]).astype(np.float32),
        )


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
    return _gathered(source, list(decisions.values()))


def _usable(source: str, decisions: list[list[_Row]]) -> tuple[list[list[_Row]], list[str]]:
    """The decisions with feedback and a vector of the commonest space, and what was left out."""
    rated = [d for d in decisions if any(row.score is not None for row in d)]
    spaces = Counter((d[0].space, len(d[0].vector)) for d in rated if d[0].vector)
    if not spaces:
        raise DataError([f"{source}: no decision with both feedback and a vector"], hint="post feedback, then export")
    [(common, _)] = spaces.most_common(1)
    kept = [d for d in rated if d[0].vector and (d[0].space, len(d[0].vector)) == common]
    notes = []
    if dropped := len(decisions) - len(rated):
        share = f"{dropped} of {len(decisions)} decisions"
        notes.append(f"{share} have no feedback: the figures are about decisions that get some")
    if dropped := len(rated) - len(kept):
        notes.append(f"{dropped} decisions without a vector of {common[0]}, {common[1]} wide, are left out")
    return kept, notes


def _gathered(source: str, decisions: list[list[_Row]]) -> LoggedOutcomes:
    decisions, notes = _usable(source, decisions)
    first = [d[0] for d in decisions]
    rated = [max((r for r in d if r.score is not None), key=lambda r: r.attempt) for d in decisions]
    names = tuple(sorted({name for row in first for name in (*row.candidates, row.drawn)} | {r.model for r in rated}))
    column = {name: i for i, name in enumerate(names)}
    shape = (len(first), len(names))
    probability, expected, candidate = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for i, row in enumerate(first):
        at = [column[name] for name in row.candidates]
        candidate[i, at] = True
        if row.probability:
            probability[i, at] = [value or 0.0 for value in row.probability]
            expected[i, at] = [value or 0.0 for value in row.expected_cost_usd]
    drawn = np.array([column[row.drawn] for row in first], dtype=np.int64)
    propensity = np.array([max(row.propensity for row in d) for d in decisions])
    own = probability[np.arange(len(first)), drawn]
    told = (propensity == 1.0) & (own < 1.0 - _DRIFT)  # `explore: false`: not drawn, so it says nothing of the others
    for rows, what in ((propensity == 0, "the rule did not make (pins, fallbacks)"), (told, "not drawn but asked for")):
        if rows.any():
            notes.append(f"{int(rows.sum())} rated decisions {what}: learned from, not estimated with")
    random = (propensity > 0) & ~told
    if drifted := int((random & (np.abs(propensity - own) > _DRIFT)).sum()):
        notes.append(f"{drifted} propensities are not what their rule's probabilities say; the propensities are used")
    return LoggedOutcomes(
        queries=Queries(
            text=tuple(row.prompt or "" for row in first),
            embedding=np.array([row.vector for row in first], dtype=np.float32),
            tokens_input=np.array([row.request_tokens for row in first], dtype=np.int64),
            space=first[0].space,
        ),
        ids=tuple(row.decision_id for row in first),
        sessions=tuple(row.session or str(row.decision_id) for row in first),
        endpoints=names,
        drawn=drawn,
        answered=np.array([column[row.model] for row in rated], dtype=np.int64),
        propensity=propensity,
        probability=probability,
        expected_cost_usd=expected,
        candidate=candidate,
        quality=np.array([row.score for row in rated], dtype=np.float64),
        cost_usd=np.array([sum(row.cost_usd or 0.0 for row in d) for d in decisions]),
        worth_usd=np.array([row.worth_usd for row in first]),
        random=random,
        notes=tuple(notes),
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
