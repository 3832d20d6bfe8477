"""Records put into a database as the writer puts them, without a journal; and what they say, as Python has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import JSON, Connection

from router_gateway.ledger.inserts import Inserts
from router_gateway.ledger.layouts import stored_row
from router_gateway.ledger.records import JOURNALLED, Record
from router_gateway.ledger.segment import encode_payload

_TABLES = {table.name: table for table in JOURNALLED}


def insert(connection: Connection, *records: Record) -> None:
    inserts = Inserts(connection.dialect)
    inserts.execute(connection, inserts.prepare([stored_row(encode_payload(record)) for record in records]))


class Kept(dict[str, Any]):
    """The row of a record with values that SQLAlchemy takes. No embedding."""

    def __init__(self, record: Record) -> None:
        row = dict(record["row"])
        for key in ("id", "query_id"):
            if key in row:
                row[key] = UUID(row[key])
        row["at"] = datetime.fromisoformat(row["at"])
        for column in _TABLES[record["table"]].columns:
            if isinstance(column.type, JSON):
                row[column.name] = orjson.loads(row[column.name])
        super().__init__(row)
        self.record = record
