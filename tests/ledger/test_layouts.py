"""Lines of the journal as rows: those of this version, and those that an older one left behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from sqlalchemy import Connection, Engine, Table
from sqlalchemy import insert as core_insert

from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Attempt, Comparison, Decision, Feedback, Query, Revocation, Usage
from router_gateway.ledger.layouts import stored_row
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.records import (
    COLUMNS,
    JOURNALLED,
    Record,
    attempt_record,
    comparison_record,
    decision_record,
    feedback_record,
    judgement_record,
    revocation_record,
)
from router_gateway.ledger.segment import encode, encode_payload
from tests.ledger.inserting import insert

AT = datetime(2026, 3, 1, 13, 0, 5, tzinfo=timezone(timedelta(hours=1)))
ID = UUID("0195512a-0000-7000-8000-000000000001")
SAID = UUID("0195512a-0000-7000-8000-000000000002")
VECTOR = np.array([[0.5, -0.25, 1e-3]], dtype=np.float32)
QUERY = Query(id=ID, text="hello", tokens_input=7, tenant="acme", session="s")
DECISION = Decision(
    query_id=ID, at=AT, endpoint="a", order=("a", "é"), propensity=0.75, endpoints=("a", "é"),
    quality=(0.25, float("nan")), stddev=(0.1, 0.30000001192092896), cost_usd=(1e-9, float("inf")),
    probability=(0.75, 0.25), eligible=(True, False), policy="knn@3", rule="greedy", worth_usd=float("inf"),
    embedding_space="space", reason="scored", detail='a "quoted" word',
)  # fmt: skip
ATTEMPT = Attempt(
    query_id=ID, number=1, at=AT, endpoint="a", status=200, usage=Usage(tokens_input=10, tokens_output=20),
    cost_nusd=1_000, cost_estimated=True, provider_cost_nusd=2**53 + 1, first_byte_ms=1.5, latency_ms=2.0,
)  # fmt: skip
FEEDBACK = Feedback(id=SAID, query_id=ID, at=AT, quality=0.5, source="user", tenant="acme", turn=2, comment="good")
RECORDS = {
    "decisions": decision_record(QUERY, DECISION, requested_model="auto", embedding=VECTOR, store_text=True),
    "attempts": attempt_record(ATTEMPT),
    "feedback": feedback_record(FEEDBACK),
    "comparisons": comparison_record(Comparison(id=SAID, query_id=ID, at=AT, better="a", worse="b", source="judge")),
    "judgements": judgement_record(
        Judgement(
            id=SAID,
            query_id=ID,
            call_id=ID,
            at=AT,
            judge="a",
            endpoint="b",
            other=None,
            score=0.5,
            chars=9,
            other_chars=None,
            tenant="acme",
        )
    ),
    "feedback_revocations": revocation_record(Revocation(id=SAID, at=AT)),
}
# As version 0.1.0 wrote them before layouts had names.
_OLD: dict[str, dict[str, Any]] = {
    "decisions": {
        "query_id": str(ID), "at": "2026-03-01T13:00:05+01:00", "tenant": "acme", "session": "s",
        "requested_model": "auto", "endpoint": "a", "order": ["a", "é"], "endpoints": ["a", "é"],
        "quality": [0.25, "nan"], "stddev": [0.1, 0.30000001192092896], "cost_usd": [1e-9, "inf"],
        "probability": [0.75, 0.25], "eligible": [True, False], "propensity": 0.75, "worth_usd": "inf",
        "policy": "knn@3", "rule": "greedy", "embedding_space": "space", "reason": "scored",
        "embedding": "ADgAtBkU", "tokens_input": 7, "detail": 'a "quoted" word', "text": "hello",
    },
    "attempts": {
        "query_id": str(ID), "number": 1, "at": "2026-03-01T13:00:05+01:00", "endpoint": "a", "status": 200,
        "cost_nusd": 1000, "cost_estimated": True, "provider_cost_nusd": 2**53 + 1,
        "first_byte_ms": 1.5, "latency_ms": 2.0, "error": None,
        "tokens_input": 10, "tokens_cached_input": 0, "tokens_cache_write": 0, "tokens_output": 20,
        "tokens_reasoning": 0,
    },
    "feedback": {
        "id": str(SAID), "query_id": str(ID), "at": "2026-03-01T13:00:05+01:00", "quality": 0.5, "source": "user",
        "tenant": "acme", "turn": 2, "comment": "good",
    },
    "comparisons": {
        "id": str(SAID), "query_id": str(ID), "at": "2026-03-01T13:00:05+01:00", "better": "a", "worse": "b",
        "source": "judge", "tenant": "default",
    },
    "judgements": {
        "id": str(SAID), "query_id": str(ID), "call_id": str(ID), "at": "2026-03-01T13:00:05+01:00", "judge": "a",
        "endpoint": "b", "other": None, "score": 0.5, "chars": 9, "other_chars": None, "tenant": "acme",
    },
    "feedback_revocations": {"id": str(SAID), "at": "2026-03-01T13:00:05+01:00", "tenant": "default"},
}  # fmt: skip
_JSON = ("order", "endpoints", "quality", "stddev", "cost_usd", "probability", "eligible")


def raw(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    """Rows as the driver has them, without SQLAlchemy's types; JSON by its text."""
    json_text = "::text" if connection.dialect.name == "postgresql" else ""
    quoted = connection.dialect.identifier_preparer.quote
    columns = [quoted(name) + (json_text if name in _JSON else "") for name in COLUMNS[table]]
    return [tuple(row) for row in connection.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {table}")]


@pytest.mark.parametrize("table", [table.name for table in JOURNALLED])
def test_a_record_has_the_columns_of_its_table_in_order_and_is_taken_as_it_is(table: str) -> None:
    record = RECORDS[table]
    assert tuple(record["row"]) == COLUMNS[table]
    row = stored_row(encode_payload(record))
    assert row.table == table
    assert row.json in encode(record)
    assert orjson.loads(row.json) == record["row"]


@pytest.mark.parametrize("table", [table.name for table in JOURNALLED])
def test_a_line_of_an_older_version_becomes_the_same_row(table: str) -> None:
    old = {"table": table, "row": _OLD[table]}
    assert stored_row(encode_payload(old)) == stored_row(encode_payload(RECORDS[table]))


def test_an_attempt_from_before_providers_named_costs_is_kept() -> None:
    old = dict(_OLD["attempts"])
    del old["provider_cost_nusd"]
    row = stored_row(encode_payload({"table": "attempts", "row": old}))
    assert orjson.loads(row.json) == RECORDS["attempts"]["row"] | {"provider_cost_nusd": None}


def test_the_same_columns_in_another_order_become_the_same_row() -> None:
    record = RECORDS["attempts"]
    other = record | {"layout": "0" * 8, "row": dict(reversed(record["row"].items()))}
    assert stored_row(encode_payload(other)) == stored_row(encode_payload(record))


@pytest.mark.parametrize(
    "changes",
    [
        {"table": "x"},
        {"layout": "0" * 8, "row": {}},
        {"layout": "0" * 8, "row": RECORDS["attempts"]["row"] | {"more": 1}},
        {"layout": "0" * 8, "row": RECORDS["attempts"]["row"] | {"at": 1}},
        {"layout": "0" * 8, "row": RECORDS["attempts"]["row"] | {"query_id": "x"}},
    ],
)
def test_a_record_of_another_shape_is_not_believed(changes: Record) -> None:
    with pytest.raises(ValueError):
        stored_row(encode_payload(RECORDS["attempts"] | changes))
    with pytest.raises(ValueError):
        stored_row(b'"attempts"')


@pytest.mark.parametrize("table", JOURNALLED, ids=lambda table: table.name)
def test_the_tables_hold_what_sqlalchemy_would_have_put_there(engine: Engine, table: Table) -> None:
    values = _OLD[table.name] | {"at": AT}
    values |= {key: UUID(values[key]) for key in ("id", "query_id", "call_id") if key in values}
    if table.name == "decisions":
        values |= {"worth_usd": float("inf"), "embedding": VECTOR.astype("<f2").tobytes()}
    with engine.connect() as connection:
        connection.execute(core_insert(table), [values])
        expected = raw(connection, table.name)
        connection.rollback()
        insert(connection, RECORDS[table.name])
        assert raw(connection, table.name) == expected


def test_a_journal_of_an_older_version_is_replayed(database_url: str, tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    rows = [_OLD["decisions"], _OLD["attempts"], _OLD["feedback"]]
    lines = [encode({"table": t, "row": r}) for t, r in zip(("decisions", "attempts", "feedback"), rows, strict=True)]
    (directory / "0195512a-0000-7000-8000-000000000000.journal").write_bytes(b"".join(lines))
    ledger = Ledger.open(database_url, directory=directory)
    assert ledger.drain()
    found = ledger.decision(ID)
    assert found is not None
    assert repr(found.decision) == repr(replace(DECISION, at=AT.astimezone(UTC)))
    assert found.attempts == (ATTEMPT,)
    assert found.feedback == (FEEDBACK,)
    assert ledger.counters.rows_set_aside == 0
    assert ledger.close()
