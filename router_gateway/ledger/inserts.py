"""Rows of the journal as INSERT statements, compiled once for a database; a row that is there already changes nothing.

The rows pass SQLAlchemy's types by, for each of these would be applied to every value: the journal holds values as the
database stores them. PostgreSQL parses the JSON itself and is given all rows of a table in one parameter, which costs
the gateway a fifth of one set of parameters a row. SQLite would take longer to parse than orjson does.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy import column as declared
from sqlalchemy.dialects import postgresql, sqlite

from router_gateway.ledger import tables, totals
from router_gateway.ledger.hours import book_hours
from router_gateway.ledger.layouts import StoredRow
from router_gateway.ledger.records import COLUMNS, JOURNALLED, Row

_FEEDBACK_LOCK = 7_205_759_403_792_794  # any constant
_NUMBERED = (tables.feedback, tables.comparisons, tables.feedback_revocations)
_ACCOUNTED = {"decisions": tuple(tables.open_calls.columns.keys()), "attempts": COLUMNS["attempts"]}
"""By table: the columns that `totals` and `hours` read of a row that was not there before."""


class _Insert(Protocol):
    """The statement of one table. `prepare` needs no connection, so that no transaction waits for it."""

    def prepare(self, rows: Sequence[bytes]) -> Any: ...

    def execute(self, connection: Connection, prepared: Any) -> list[Row]:
        """Of an accounted table the rows that were not there before. Exact: what follows from a row follows once."""


Prepared = list[tuple[str, Any]]


class Inserts:
    """The statements of one database, for the tables of the journal."""

    def __init__(self, dialect: Dialect) -> None:
        kind = _SqliteInsert if dialect.name == "sqlite" else _PostgresInsert
        self._inserts: dict[str, _Insert] = {table.name: kind(table, dialect) for table in JOURNALLED}

    def prepare(self, rows: Sequence[StoredRow]) -> Prepared:
        """For `execute`. Raises ValueError or TypeError for rows that no database takes."""
        found = []
        for table, insert in self._inserts.items():
            own = [row.json for row in rows if row.table == table]
            if own:
                found.append((table, insert.prepare(own)))
        return found

    def execute(self, connection: Connection, prepared: Prepared) -> None:
        """Add the rows that are not there yet and account for them, inside the caller's transaction."""
        added = {table: self._inserts[table].execute(connection, rows) for table, rows in prepared}
        decided, tried = added.get("decisions", []), added.get("attempts", [])
        if decided or tried:
            totals.book(connection, decided, tried)
            book_hours(connection, tried)


class _SqliteInsert:
    def __init__(self, table: Table, dialect: Dialect) -> None:
        columns = COLUMNS[table.name]
        key = tuple(column.name for column in table.primary_key)
        self._sql = str(sqlite.insert(table).on_conflict_do_nothing().compile(dialect=dialect, column_keys=[*columns]))
        self._there = f"SELECT {', '.join(key)} FROM {table.name} WHERE query_id IN "
        self._key_width = len(key)
        self._conversions = [(place, _SQLITE[column]) for place, column in enumerate(columns) if column in _SQLITE]
        self._accounted = [(name, columns.index(name)) for name in _ACCOUNTED.get(table.name, ())]
        if self._accounted and columns[: len(key)] != key:
            raise ValueError(f"the key of {table.name} does not come first")

    def prepare(self, rows: Sequence[bytes]) -> list[tuple[Any, ...]]:
        found = []
        for row in rows:
            values = [*orjson.loads(row).values()]
            for place, convert in self._conversions:
                values[place] = convert(values[place])
            found.append(tuple(values))
        return found

    def execute(self, connection: Connection, prepared: list[tuple[Any, ...]]) -> list[Row]:
        if not self._accounted:
            connection.exec_driver_sql(self._sql, prepared)
            return []
        first = {values[: self._key_width]: values for values in reversed(prepared)}  # who comes twice counts once
        ids = tuple(values[0] for values in first.values())
        # The only writer is this transaction.
        there = connection.exec_driver_sql(f"{self._there} ({','.join('?' * len(ids))})", ids).all()
        for key in there:
            first.pop(tuple(key), None)
        new = [*first.values()][::-1]
        if new:
            connection.exec_driver_sql(self._sql, new)
        return [self._read(values) for values in new]

    def _read(self, values: tuple[Any, ...]) -> Row:
        row = {name: values[place] for name, place in self._accounted}
        row["query_id"] = UUID(row["query_id"])
        row["at"] = datetime.fromisoformat(row["at"]).replace(tzinfo=UTC)
        return row


def _sqlite_instant(text: str) -> str:
    if text[26:] != "+00:00":
        raise ValueError("an instant without a timezone")
    return text[:26]


def _sqlite_blob(text: str | None) -> bytes | None:
    return None if text is None else binascii.a2b_base64(text, strict_mode=True)


def _sqlite_integer(value: int | float | None) -> int | None:
    """SQLite keeps any type in any column, and JSON's integers beyond 64 bits come as floats."""
    if isinstance(value, float):
        raise ValueError("a cost of more than 64 bits")
    return value


_SQLITE: dict[str, Callable[[Any], Any]] = {
    "at": _sqlite_instant,
    "embedding": _sqlite_blob,
    "worth_usd": float,  # may be the word for infinity
    "cost_nusd": _sqlite_integer,
    "provider_cost_nusd": _sqlite_integer,
    "expected_nusd": _sqlite_integer,
}


class _PostgresInsert:
    """`INSERT … SELECT … FROM json_to_recordset(rows)`: in the order of the rows, so that they are numbered in it."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        own = [table.c[name] for name in COLUMNS[table.name]]
        given = (
            func.json_to_recordset(bindparam("rows", type_=postgresql.JSON))
            .table_valued(
                *(declared(c.name, Text() if isinstance(c.type, JSON | LargeBinary) else c.type) for c in own)
            )
            .render_derived(name="given", with_types=True)
        )
        values: list[ColumnElement[Any]] = []
        for column in own:
            value = given.c[column.name]
            if isinstance(column.type, JSON):
                values.append(cast(value, column.type))
            elif isinstance(column.type, LargeBinary):
                values.append(func.decode(value, literal_column("'base64'")))
            else:
                values.append(value)
        insert = postgresql.insert(table).from_select([*COLUMNS[table.name]], select(*values)).on_conflict_do_nothing()
        self._returned = _ACCOUNTED.get(table.name, ())
        returning = [table.c[name] for name in self._returned]
        self._sql = str((insert.returning(*returning) if returning else insert).compile(dialect=dialect))
        self._numbered = table in _NUMBERED

    def prepare(self, rows: Sequence[bytes]) -> dict[str, str]:
        return {"rows": (b"[%b]" % b",".join(rows)).decode()}

    def execute(self, connection: Connection, prepared: dict[str, str]) -> list[Row]:
        if self._numbered:
            # `seq` is a watermark: with one transaction at a time, numbers become visible in their order.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_FEEDBACK_LOCK})")
        result = connection.exec_driver_sql(self._sql, prepared)
        return [dict(zip(self._returned, row, strict=True)) for row in result] if self._returned else []
