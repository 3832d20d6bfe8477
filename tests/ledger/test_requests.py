"""Requests as a page asks for them: filtered, paged, and looked for in a bounded part of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from router_gateway.core.errors import NotFound
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Comparison, Feedback, Revocation
from router_gateway.ledger import requests
from router_gateway.ledger.aside import read_aside
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.requests import Wanted, read_requests
from tests.ledger.test_ledger import a_decision, a_query, an_attempt

NOON = datetime(2030, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal", store_text=True)
    yield ledger
    ledger.close()


def call(ledger: Ledger, minutes: int, *tries: dict[str, Any], said: tuple[float, ...] = (), **of: Any) -> UUID:
    """A request that many minutes after noon; `of` are fields of its query or decision."""
    decided = {name: of.pop(name) for name in ("policy", "endpoint", "candidate") if name in of}
    query, at = a_query(**of), NOON + minutes * MINUTE
    ledger.record_decision(query, a_decision(query, at=at, **decided), requested_model="auto", embedding=None)
    for number, values in enumerate(tries, start=1):
        known: dict[str, Any] = {"endpoint": "a", "status": 200, "latency_ms": 10.0, "cost_nusd": 1_000} | values
        ledger.record_attempt(Attempt(query_id=query.id, number=number, at=at, **known))
    for quality in said:
        ledger.record_feedback(Feedback(id=uuid7(), query_id=query.id, at=at, quality=quality, source="user"))
    return query.id


@pytest.fixture
def made(ledger: Ledger) -> dict[str, UUID]:
    made = {
        "plain": call(ledger, 0, {}, session="s1", text="What is the Capital of 100% France?", policy="knn@1"),
        "dear": call(ledger, 1, {"cost_nusd": 5_000_000, "endpoint": "b"}, tenant="acme", policy="knn@2", said=(0.2,)),
        "fallen back": call(
            ledger,
            2,
            {"status": 503, "error": "busy"},
            {"endpoint": "b", "cost_nusd": 7},
            policy="knn_x@1",
            said=(0, 1),
        ),
        "failed": call(ledger, 3, {"status": 429, "error": "rate limit"}, session="s1", policy="linear@1"),
        "open": call(ledger, 4, tenant="acme", policy="linear@1", endpoint="c"),
    }
    assert ledger.drain()
    return made


def names(ledger: Ledger, made: dict[str, UUID], wanted: Wanted) -> list[str]:
    by_id = {each: name for name, each in made.items()}
    return [by_id[row.id] for row in read_requests(ledger.engine, wanted).rows]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["open", "failed", "fallen back", "dear", "plain"]),
        ({"since": NOON + MINUTE, "until": NOON + 3 * MINUTE}, ["fallen back", "dear"]),
        ({"tenant": "acme"}, ["open", "dear"]),
        ({"endpoint": "b"}, ["fallen back", "dear"]),
        ({"endpoint": "c"}, ["open"]),
        ({"policy": "knn"}, ["dear", "plain"]),
        ({"policy": "knn@2"}, ["dear"]),
        ({"policy": "k%"}, []),
        ({"outcome": "answered"}, ["fallen back", "dear", "plain"]),
        ({"outcome": "failed"}, ["failed"]),
        ({"outcome": "retried"}, ["fallen back"]),
        ({"outcome": "open"}, ["open"]),
        ({"status": 503}, ["fallen back"]),
        ({"cost_nusd_min": 5_000_000}, ["dear"]),
        ({"rated": "any"}, ["fallen back", "dear"]),
        ({"rated": "none"}, ["open", "failed", "plain"]),
        ({"rated": "good"}, ["fallen back"]),
        ({"rated": "bad"}, ["dear"]),
        ({"text": "s1"}, ["failed", "plain"]),
        ({"text": "capital of 100%"}, ["plain"]),
        ({"text": "100_ France"}, []),
        ({"text": "s1", "outcome": "failed"}, ["failed"]),
        ({"tenant": "acme", "rated": "bad", "policy": "knn"}, ["dear"]),
    ],
)
def test_what_is_asked_for_is_found(ledger: Ledger, made: dict[str, UUID], wanted: Any, expected: list[str]) -> None:
    assert names(ledger, made, Wanted(**wanted)) == expected


def test_an_id_is_found_by_its_beginning(ledger: Ledger, made: dict[str, UUID]) -> None:
    wanted = made["dear"]
    assert names(ledger, made, Wanted(text=str(wanted))) == ["dear"]
    assert names(ledger, made, Wanted(text=wanted.hex.upper())) == ["dear"]
    assert "dear" in names(ledger, made, Wanted(text=str(wanted)[:11]))
    assert names(ledger, made, Wanted(text=wanted.hex[:31] + ("0" if wanted.hex[31] != "0" else "1"))) == []


def test_a_row_says_what_came_of_it(ledger: Ledger, made: dict[str, UUID]) -> None:
    rows = {row.id: row for row in read_requests(ledger.engine, Wanted()).rows}
    fallen = rows[made["fallen back"]]
    assert (fallen.endpoint, fallen.answered_by, fallen.attempts, fallen.status) == ("a", "b", 2, 200)
    assert (fallen.cost_nusd, fallen.latency_ms, fallen.rated, fallen.quality) == (1_007, 20.0, 2, 0.5)
    failed = rows[made["failed"]]
    assert (failed.answered_by, failed.status, failed.error, failed.quality) == (None, 429, "rate limit", None)
    unknown = rows[made["open"]]
    assert (unknown.attempts, unknown.status, unknown.latency_ms, unknown.cost_nusd) == (0, None, None, 0)
    assert rows[made["plain"]].snippet == "What is the Capital of 100% France?"


def test_pages_follow_each_other_and_skip_nothing(ledger: Ledger) -> None:
    made = [call(ledger, minutes // 3, {}) for minutes in range(20)]  # three share an instant
    assert ledger.drain()
    for wanted in (Wanted(), Wanted(outcome="answered")):
        found: list[UUID] = []
        before, pages = None, 0
        while True:
            page = read_requests(ledger.engine, wanted, before=before, limit=7)
            found += [row.id for row in page.rows]
            pages += 1
            if (before := page.next_before) is None:
                break
        assert sorted(found) == sorted(made)
        assert len(found) == 20
        assert pages == 3
    exact = read_requests(ledger.engine, Wanted(), limit=20)
    assert (len(exact.rows), exact.next_before) == (20, None)


def test_what_no_index_knows_is_looked_for_in_part_and_goes_on(ledger: Ledger, monkeypatch: Any) -> None:
    monkeypatch.setattr(requests, "LOOKED_AT_MAX", 8)
    monkeypatch.setattr(requests, "_AT_ONCE", 4)
    rare = call(ledger, 0, {"status": 503, "error": "busy"})
    for minutes in range(1, 12):
        call(ledger, minutes, {})
    assert ledger.drain()
    page = read_requests(ledger.engine, Wanted(status=503))
    assert (page.rows, page.looked_at) == ((), 8)
    assert page.looked_back_to == NOON + 4 * MINUTE
    assert page.next_before is not None
    page = read_requests(ledger.engine, Wanted(status=503), before=page.next_before)
    assert [row.id for row in page.rows] == [rare]


def test_going_on_from_nowhere_is_refused(engine: Engine) -> None:
    with pytest.raises(NotFound) as raised:
        read_requests(engine, Wanted(), before=uuid7())
    assert raised.value.param == "before"


def test_ratings_that_were_taken_back_do_not_count(ledger: Ledger) -> None:
    query = a_query()
    said = Feedback(id=uuid7(), query_id=query.id, at=NOON, quality=0.0, source="user")
    ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
    ledger.record_attempt(an_attempt(query))
    ledger.record_feedback(said)
    ledger.record_revocation(Revocation(id=said.id, at=NOON))
    assert ledger.drain()
    assert read_requests(ledger.engine, Wanted(rated="any")).rows == ()
    assert read_requests(ledger.engine, Wanted(rated="none")).rows[0].rated == 0


def test_what_else_is_known_of_it(ledger: Ledger) -> None:
    query = a_query()
    ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
    compared = Comparison(id=uuid7(), query_id=query.id, at=NOON, better="a", worse="b", source="judge")
    gone = Comparison(id=uuid7(), query_id=query.id, at=NOON, better="b", worse="a", source="user")
    ledger.record_comparison(compared)
    ledger.record_comparison(gone)
    ledger.record_revocation(Revocation(id=gone.id, at=NOON))
    assert ledger.drain()
    aside = read_aside(ledger.engine, query.id)
    assert [(row["better"], row["source"]) for row in aside.comparisons] == [("a", "judge")]
    assert (aside.judges, aside.shadows) == ({}, [])
