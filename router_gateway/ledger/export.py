"""Writes the ledger's outcomes to a file, as Parquet, CSV or JSON lines, or streams the latter two, as they come."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from sqlalchemy import Engine

from router_gateway.core.errors import ConfigError, GatewayError
from router_gateway.ledger.engine import schema_is_current
from router_gateway.ledger.outcome_rows import COLUMNS, Row, Wanted, read_pages


def export(engine: Engine, out: Path, wanted: Wanted) -> int:
    """Write `out` (.parquet, .csv or .jsonl) whole or not at all, readable by its owner; the number of rows.

    Raises ConfigError for another kind of file, GatewayError where there is no current ledger, LedgerUnavailable.
    """
    write = _WRITERS.get(out.suffix.lower())
    if write is None:
        raise ConfigError([f"{out}: cannot write this kind of file"], hint=f"use {', '.join(_WRITERS)}")
    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
        raise GatewayError("there is no ledger yet", hint="the first start makes it, or `router-gateway migrate`")
    if not schema_is_current(engine):
        raise GatewayError("the ledger's schema is not current", hint="run `router-gateway migrate`")
    with _owned(out) as file:
        return write(file, read_pages(engine, wanted))


def stream(engine: Engine, wanted: Wanted, kind: Literal["csv", "jsonl"], *, hidden: frozenset[str]) -> Iterator[bytes]:
    """The same rows as CSV or JSON lines, a page at a time; of the columns `hidden` every cell is empty.

    Blocks on the database between pages. Raises LedgerUnavailable, at the first page or at a later one.
    """
    write = _lines if kind == "jsonl" else _table
    if kind == "csv":
        yield _cells([COLUMNS])
    for page in read_pages(engine, wanted):
        yield write([{name: None if name in hidden else value for name, value in row.items()} for row in page])


@contextmanager
def _owned(out: Path) -> Iterator[IO[bytes]]:
    """A new file of mode 0600 beside `out`, which takes its place at the end and is gone after an error."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
        aside.replace(out)
    except OSError as error:
        raise ConfigError([f"{out}: {error.strerror or 'cannot be written'}"]) from error
    finally:
        aside.unlink(missing_ok=True)


def _write_lines(file: IO[bytes], pages: Iterable[list[Row]]) -> int:
    count = 0
    for page in pages:
        file.write(_lines(page))
        count += len(page)
    return count


def _write_csv(file: IO[bytes], pages: Iterable[list[Row]]) -> int:
    count = 0
    file.write(_cells([COLUMNS]))
    for page in pages:
        file.write(_table(page))
        count += len(page)
    return count


def _lines(page: Iterable[Row]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n" for row in page)


def _table(page: Iterable[Row]) -> bytes:
    """Lists are JSON arrays inside their cells."""
    return _cells(
        [json.dumps(v) if isinstance(v, list) else v for v in (row[name] for name in COLUMNS)] for row in page
    )


def _cells(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _write_parquet(file: IO[bytes], pages: Iterable[list[Row]]) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        hint = "pip install 'router-gateway[evaluation]', or write .jsonl"
        raise ConfigError(["writing Parquet needs pyarrow"], hint=hint) from None
    kinds = {"text": pa.string(), "number": pa.float64(), "count": pa.int64()}
    kinds |= {"texts": pa.list_(pa.string()), "numbers": pa.list_(pa.float64())}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for page in pages:
            writer.write_table(pa.Table.from_pylist(page, schema=schema))
            count += len(page)
    return count


_WRITERS: dict[str, Callable[[IO[bytes], Iterable[list[Row]]], int]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_lines,
}
