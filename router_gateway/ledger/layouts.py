"""A journal line's payload as the row it holds. A row of this version's layout is taken as it is, unparsed.

Journals outlive versions: what a killed process left is replayed by the next start, which may be an upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import JSON

from router_gateway.ledger.records import COLUMNS, JOURNALLED, LAYOUTS, Row, instant

_PREFIXES = tuple(
    (table, f'{{"table":"{table}","layout":"{layout}","row":'.encode()) for table, layout in LAYOUTS.items()
)
_JSON_COLUMNS = {
    table.name: tuple(column.name for column in table.columns if isinstance(column.type, JSON)) for table in JOURNALLED
}
_LATER_COLUMNS: Mapping[str, Row] = {
    "decisions": dict.fromkeys(("expected_nusd", "candidate", "experiment", "arm_share", "arm_unit")),
    "attempts": {"provider_cost_nusd": None},
}
"""What a journal of an earlier version does not have: its rows are kept, though nobody knew these then."""


class StoredRow(NamedTuple):
    """A row for `table`: a JSON object with the columns of `records.COLUMNS` in that order."""

    table: str
    json: bytes


def stored_row(payload: bytes) -> StoredRow:
    """The row of an encoded record, of this version or an older one. Raises ValueError when it is none of ours."""
    for table, prefix in _PREFIXES:
        if payload.startswith(prefix):
            return StoredRow(table, payload[len(prefix) : -1])
    try:
        return _converted(orjson.loads(payload))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a journal record: {type(error).__name__}") from None


def _converted(record: dict[str, Any]) -> StoredRow:
    """The layout without a name had dashes in ids, any timezone, lists as lists; another has another order."""
    table = record["table"]
    row = _LATER_COLUMNS.get(table, {}) | record["row"]
    if row.keys() != set(COLUMNS[table]):
        raise ValueError(f"columns of another version of {table}")
    found: Row = {column: row[column] for column in COLUMNS[table]}
    for key in ("id", "query_id", "call_id"):
        if key in found:
            found[key] = UUID(found[key]).hex
    found["at"] = instant(datetime.fromisoformat(found["at"]))
    for key in _JSON_COLUMNS[table]:
        if not isinstance(found[key], str):
            found[key] = orjson.dumps(found[key]).decode()
    return StoredRow(table, orjson.dumps(found))
