"""Reads outcome tables in the common schema: Parquet, CSV, JSON lines (also gzipped).

All that is wrong with a file is reported at once, and then nothing of it is loaded.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from router_gateway.core.errors import ConfigError, DataError
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.outcomes import COLUMNS, REQUIRED, OutcomeTable
from router_gateway.evaluation.problems import Problems

ROWS_MAX = 20_000_000
LINE_BYTES_MAX = 16 * 1024 * 1024
_BATCH_ROWS = 4096
_NUMERIC = frozenset(column.name for column in COLUMNS if not column.text)


def read_outcomes(path: str | Path) -> Benchmark:
    """The outcomes of one file in the common schema of datasets/README.md.

    Columns that the schema does not have are left out and named in `Benchmark.notes`.
    Raises DataError with every bad row as `file:line: field: what` (`file:row n` for Parquet, rows from 1).
    """
    path = Path(path)
    problems = Problems(str(path))
    table = OutcomeTable(problems)
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            _read_parquet(path, table)
        elif name.endswith(".csv"):
            _read_csv(path, table)
        elif name.endswith((".jsonl", ".jsonl.gz")):
            for where, row in json_lines(path, problems):
                table.add(where, row)
        else:
            raise DataError([f"{path}: cannot read this kind of file"], hint="use .parquet, .csv, .jsonl or .jsonl.gz")
    except OSError as error:
        raise DataError([f"{path}: {error.strerror or 'cannot be read'}"]) from error
    return table.build()


def json_lines(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """(line number, object) of every good line; each bad line is noted. Blank lines are passed over."""
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as lines:
        number = 0
        try:
            while raw := lines.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(raw) > LINE_BYTES_MAX or number > ROWS_MAX:
                    problems.add(str(number), "", f"more than {LINE_BYTES_MAX} bytes a line or {ROWS_MAX} lines")
                    return
                if raw.strip() and (row := _json_object(str(number), raw, problems)) is not None:
                    yield str(number), row
        except (EOFError, gzip.BadGzipFile, zlib.error):
            problems.add(str(number + 1), "", "the gzip stream is damaged")


def _json_object(where: str, raw: bytes, problems: Problems) -> dict[str, Any] | None:
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        problems.add(where, "", f"not valid UTF-8 (byte {error.start} of the line)")
    except json.JSONDecodeError as error:
        problems.add(where, "", f"not valid JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        problems.add(where, "", "nested too deeply")
    except ValueError as error:
        problems.add(where, "", f"not valid JSON: {error}")
    else:
        if isinstance(row, dict):
            return row
        problems.add(where, "", f"must be a JSON object, not {type(row).__name__}")
    return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _has_columns(names: list[str], table: OutcomeTable) -> bool:
    missing = [name for name in REQUIRED if name not in names]
    for name in missing:
        table.problems.add("", name, "the column is missing")
    table.ignore(names)
    return not missing


def _read_csv(path: Path, table: OutcomeTable) -> None:
    problems = table.problems
    limit_before = csv.field_size_limit(LINE_BYTES_MAX)  # a process-wide setting; its default is 128 KiB
    try:
        # undecodable bytes become surrogates, so that they are reported where they stand
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            rows = csv.reader(lines, strict=True)
            header = next(rows, [])
            if len(set(header)) != len(header):
                problems.add("1", "", "a column name appears twice")
            if not _has_columns(header, table) or problems.count:
                return
            start = rows.line_num + 1
            for row in rows:
                where, start = str(start), rows.line_num + 1
                if len(row) == len(header):
                    table.add(where, _csv_cells(where, dict(zip(header, row, strict=True)), problems))
                elif row:
                    problems.add(where, "", f"has {len(row)} fields, the header {len(header)}")
                if rows.line_num > ROWS_MAX:
                    problems.add(where, "", f"more than {ROWS_MAX} lines")
                    return
    except csv.Error as error:
        problems.add(str(rows.line_num), "", f"not valid CSV: {error}")
    finally:
        csv.field_size_limit(limit_before)


def _csv_cells(where: str, row: dict[str, str], problems: Problems) -> dict[str, Any]:
    """Empty cells as None, numbers as floats; a cell that is no number stays text and is refused by its column."""
    cells: dict[str, Any] = {}
    for name, text in row.items():
        cells[name] = text or None
        if name in _NUMERIC and text:
            try:
                cells[name] = float(text)
            except ValueError:
                continue
    return cells


def _read_parquet(path: Path, table: OutcomeTable) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        hint = "pip install 'router-gateway[evaluation]'"
        raise ConfigError([f"{path}: reading Parquet needs pyarrow"], hint=hint) from None
    try:
        with pq.ParquetFile(path) as file:
            if not _has_columns(file.schema_arrow.names, table):
                return
            if file.metadata.num_rows > ROWS_MAX:
                table.problems.add("", "", f"more than {ROWS_MAX} rows")
                return
            known = [column.name for column in COLUMNS if column.name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=known):
                for row in _parquet_rows(batch, number, table.problems):
                    number += 1
                    table.add(f"row {number}", row)
    except pa.ArrowException as error:
        table.problems.add("", "", f"not a readable Parquet file ({type(error).__name__})")


def _parquet_rows(batch: Any, before: int, problems: Problems) -> Iterator[dict[str, Any]]:
    try:
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    except UnicodeDecodeError:
        problems.add(f"rows {before + 1}-{before + batch.num_rows}", "", "text that is not valid UTF-8")
        return
    for name in _NUMERIC & columns.keys() - {"score"}:
        # data frames write a missing number as NaN
        columns[name] = [None if isinstance(v, float) and math.isnan(v) else v for v in columns[name]]
    names = list(columns)
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(names, cells, strict=True))
