from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from router_gateway.core.errors import LedgerFull, LedgerUnavailable
from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import JUDGING_TENANT, Judgement
from router_gateway.core.types import Attempt, Decision, Feedback, Query, Usage
from router_gateway.ledger import reads
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.engine import migrate
from router_gateway.ledger.keys import Keys
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.records import attempt_record, decision_record
from router_gateway.ledger.tables import judgements
from tests.ledger.inserting import insert

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
E1 = np.eye(4, dtype=np.float32)[0]


def a_query(**changes: Any) -> Query:
    return Query(**({"id": uuid7(), "text": "hello", "tokens_input": 7} | changes))


def a_decision(query: Query, **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "query_id": query.id, "at": NOON, "endpoint": "a", "order": ("a", "b"), "propensity": 0.75,
        "worth_usd": 0.02, "reason": "scored", "embedding_space": "space",
    }  # fmt: skip
    return Decision(**(values | changes))


def an_attempt(query: Query, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "query_id": query.id, "number": 1, "at": NOON, "endpoint": "a", "status": 200, "latency_ms": 5.0,
        "usage": Usage(tokens_input=10, tokens_output=20), "cost_nusd": 1_000,
    }  # fmt: skip
    return Attempt(**(values | changes))


def some_feedback(query: Query, **changes: Any) -> Feedback:
    values: dict[str, Any] = {"id": uuid7(), "query_id": query.id, "at": NOON, "quality": 0.5, "source": "user"}
    return Feedback(**(values | changes))


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal", store_text=True)
    yield ledger
    ledger.close()


def test_what_was_recorded_is_read_back(ledger: Ledger) -> None:
    query = a_query(tenant="acme", session="s1")
    decision = a_decision(
        query, endpoints=("a", "b"), quality=(0.25, float("nan")), stddev=(0.5, 1.0), cost_usd=(1e-9, float("inf")),
        probability=(0.75, 0.25), eligible=(True, False), policy="knn@3", rule="greedy", detail="why",
        worth_usd=float("inf"),
    )  # fmt: skip
    failed = an_attempt(query, endpoint="b", status=503, usage=None, cost_nusd=0, error="overloaded", first_byte_ms=3.5)
    answered = an_attempt(query, number=2, cost_estimated=True)
    feedback = some_feedback(query, turn=2, comment="good")
    ledger.record_decision(query, decision, requested_model="auto", embedding=E1)
    ledger.record_attempt(failed)
    ledger.record_attempt(answered)
    ledger.record_feedback(feedback)
    assert ledger.drain()
    found = ledger.decision(query.id)
    assert found is not None
    assert repr(found.decision) == repr(decision)  # by repr, since NaN differs from itself
    assert (found.tenant, found.session, found.requested_model) == ("acme", "s1", "auto")
    assert (found.tokens_input, found.text, found.answered_by) == (7, "hello", "a")
    assert found.attempts == (failed, answered)
    assert found.feedback == (feedback,)
    assert found.embedding is not None
    np.testing.assert_array_equal(found.embedding, E1)


def test_a_decision_is_found_at_once_and_an_unknown_one_is_not(ledger: Ledger) -> None:
    query = a_query()
    ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
    found = ledger.decision(query.id)
    assert found is not None
    assert found.embedding is None
    assert ledger.decision(uuid7()) is None


def test_a_decision_written_between_two_looks_is_found(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    query = a_query()
    look = reads.read_decision
    looks = []

    def just_too_early(engine: Engine, query_id: UUID) -> reads.DecisionRecord | None:
        looks.append(query_id)
        if len(looks) == 1:
            ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
            assert ledger.drain()  # nothing waits any more when the first look says that there is nothing
            return None
        return look(engine, query_id)

    monkeypatch.setattr(reads, "read_decision", just_too_early)
    assert ledger.decision(query.id) is not None


def test_text_is_kept_only_on_request(database_url: str, tmp_path: Path) -> None:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    query = a_query(text="my secret prompt")
    ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
    assert all(b"secret" not in file.read_bytes() for file in (tmp_path / "journal").iterdir())
    found = ledger.decision(query.id)
    assert found is not None
    assert found.text is None
    assert ledger.close()
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700


def test_text_that_no_database_takes_is_made_storable(ledger: Ledger) -> None:
    nasty = "a\0b\ud800c\u00e9\U0001f600"
    clean = "a\ufffdb\ufffdc\u00e9\U0001f600"
    query = a_query(text=nasty, tenant=nasty, session=nasty)
    decision = a_decision(query, detail=nasty, order=(nasty,))
    ledger.record_decision(query, decision, requested_model=nasty, embedding=None)
    ledger.record_attempt(an_attempt(query, error=nasty))
    ledger.record_feedback(some_feedback(query, comment=nasty))
    assert ledger.drain()
    found = ledger.decision(query.id)
    assert found is not None
    texts = (found.text, found.tenant, found.session, found.requested_model, found.decision.detail)
    assert {*texts, *found.decision.order, found.attempts[0].error, found.feedback[0].comment} == {clean}
    assert ledger.counters.rows_set_aside == 0


def test_the_longest_texts_still_fit_a_line(ledger: Ledger) -> None:
    query = a_query(text="x" + "\U0001f600" * 100_000)
    decision = a_decision(query, detail="\u00e9" * 100_000)
    ledger.record_decision(query, decision, requested_model="m" * 100_000, embedding=np.ones(4096))
    found = ledger.decision(query.id)
    assert found is not None
    assert found.text == "\U0001f600" * 65_536
    assert found.requested_model == "m" * 1_000


def test_recording_twice_changes_nothing(ledger: Ledger) -> None:
    query = a_query()
    feedback = some_feedback(query)
    for cost_nusd in (1, 2):
        ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=E1)
        ledger.record_attempt(an_attempt(query, cost_nusd=cost_nusd))
        ledger.record_feedback(feedback)
    assert ledger.drain()
    found = ledger.decision(query.id)
    assert found is not None
    assert [attempt.cost_nusd for attempt in found.attempts] == [1]
    assert found.feedback == (feedback,)
    assert ledger.counters.errors == 0


def test_spend_is_summed_exactly_by_time_and_tenant(ledger: Ledger) -> None:
    mine, theirs = a_query(tenant="me"), a_query(tenant="they")
    for query in (mine, theirs):
        ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
    ledger.record_attempt(an_attempt(mine, cost_nusd=2**53 + 1))
    ledger.record_attempt(an_attempt(mine, number=2, cost_nusd=1, at=NOON + timedelta(hours=1)))
    ledger.record_attempt(an_attempt(theirs, cost_nusd=5, at=NOON + timedelta(hours=2)))
    assert ledger.drain()
    assert ledger.spend_since(NOON) == 2**53 + 7
    assert ledger.spend_since(NOON + timedelta(hours=1)) == 6
    assert ledger.spend_since(NOON, tenant="me") == 2**53 + 2
    assert ledger.spend_since(NOON + timedelta(days=1)) == 0


def test_a_session_remembers_who_answered_before_and_after_a_restart(database_url: str, tmp_path: Path) -> None:
    first = Ledger.open(database_url, directory=tmp_path / "one")
    query = a_query(session="s")
    first.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
    first.record_attempt(an_attempt(query, status=500))
    assert first.last_endpoint("s") is None
    first.record_attempt(an_attempt(query, number=2, endpoint="b"))
    assert first.last_endpoint("s") == "b"
    assert first.last_endpoint("another") is None
    assert first.drain()
    second = Ledger.open(database_url, directory=tmp_path / "two")
    assert second.last_endpoint("s") == "b"
    later = a_query(session="s")
    minute = NOON + timedelta(minutes=1)
    second.record_decision(later, a_decision(later, at=minute), requested_model="auto", embedding=None)
    second.record_attempt(an_attempt(later, endpoint="c", at=minute))
    assert second.close()
    assert first.last_endpoint("s") == "c"  # another process answered since
    first.close()


def test_output_tokens_count_reported_answers_by_endpoint(ledger: Ledger) -> None:
    query = a_query()
    full = Usage(tokens_input=1, tokens_cached_input=2, tokens_cache_write=3, tokens_output=4, tokens_reasoning=5)
    for number, (endpoint, status, usage) in enumerate(
        [("a", 200, full), ("a", 200, Usage(tokens_output=1)), ("b", 200, None), ("b", 500, full)], start=1
    ):
        ledger.record_attempt(an_attempt(query, number=number, endpoint=endpoint, status=status, usage=usage))
    judging = a_query(tenant=JUDGING_TENANT)  # judges' answers are short, and say nothing of those of requests
    ledger.record_decision(judging, a_decision(judging), requested_model="a", embedding=None)
    ledger.record_attempt(an_attempt(judging, endpoint="a", usage=Usage(tokens_output=1_000)))
    assert ledger.drain()
    assert ledger.output_tokens() == {"a": (2, 5.0, 3.0)}


def test_a_judgement_comes_back_as_it_was_said(ledger: Ledger) -> None:
    said = Judgement(
        id=uuid7(), query_id=uuid7(), call_id=uuid7(), at=NOON, judge="j", endpoint="a", other="b", score=0.5,
        chars=10, other_chars=20, tenant="t",
    )  # fmt: skip
    ledger.record_judgement(said)
    ledger.record_judgement(said)  # once more changes nothing
    assert ledger.drain()
    with reading(ledger.engine) as connection:
        [row] = connection.execute(select(judgements)).all()
    assert Judgement(**row._mapping) == said


def test_reads_of_a_database_without_tables_say_that_it_is_unavailable(empty_database_url: str, tmp_path: Path) -> None:
    ledger = Ledger.open(empty_database_url, directory=tmp_path / "journal")
    query = a_query(session="s")
    ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=None)
    ledger.record_attempt(an_attempt(query, endpoint="b"))
    for read in (
        lambda: ledger.decision(query.id),
        lambda: ledger.spend_since(NOON),
        ledger.experience_since,
        ledger.output_tokens,
        lambda: Keys(ledger.engine).find("rg-x"),
        lambda: Keys(ledger.engine).create("name"),
    ):
        with pytest.raises(LedgerUnavailable, match="does not answer"):
            read()
    assert ledger.last_endpoint("s") == "b"  # what this process knows needs no database
    assert not ledger.ready()
    assert not ledger.close(0.1)


async def test_a_full_ledger_makes_requests_wait_but_takes_what_is_paid(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"  # no tables yet: nothing can leave the journal
    ledger = Ledger.open(url, directory=tmp_path / "journal", journal_bytes_max=5_000)
    query = a_query()
    while ledger.has_room:
        ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=E1)
    with pytest.raises(LedgerFull):
        ledger.record_decision(query, a_decision(query), requested_model="auto", embedding=E1)
    with pytest.raises(LedgerFull):
        ledger.record_feedback(some_feedback(query))
    with pytest.raises(LedgerFull):
        await ledger.wait_for_room(0.05)
    ledger.record_attempt(an_attempt(query))
    assert not ledger.ready()
    async with asyncio.TaskGroup() as requests:
        waiting = requests.create_task(ledger.wait_for_room(30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await asyncio.to_thread(migrate, url)
    assert await asyncio.to_thread(ledger.ready)
    assert await asyncio.to_thread(ledger.drain)
    found = await asyncio.to_thread(ledger.decision, query.id)
    assert found is not None
    assert len(found.attempts) == 1
    ledger.close()


floats = st.floats(width=64)
names = st.text(max_size=20)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_decision_survives_journal_and_database(engine: Engine, data: st.DataObject) -> None:
    storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    count = data.draw(st.integers(0, 4))
    some = st.tuples(*[floats] * count)
    query = a_query(tenant=data.draw(storable), session=data.draw(st.none() | storable))
    decision = a_decision(
        query,
        at=data.draw(st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC))).replace(fold=0),
        order=data.draw(st.tuples(*[storable] * count)),
        endpoints=data.draw(st.tuples(*[storable] * count)),
        quality=data.draw(some), stddev=data.draw(some), cost_usd=data.draw(some), probability=data.draw(some),
        eligible=data.draw(st.tuples(*[st.booleans()] * count)),
        propensity=data.draw(st.floats(0, 1)), detail=data.draw(storable),
    )  # fmt: skip
    vector = np.array(data.draw(st.lists(st.floats(-1, 1, width=16), max_size=8)), dtype=np.float32)
    record = decision_record(query, decision, requested_model="auto", embedding=vector, store_text=False)
    with writing(engine) as connection:
        insert(connection, record)
    read = reads.read_decision(engine, query.id)
    assert read is not None
    assert repr(read.decision) == repr(decision)
    assert (read.tenant, read.session) == (query.tenant, query.session)
    np.testing.assert_array_equal(read.embedding, vector)


@given(text=st.text())
def test_any_text_becomes_text_that_both_databases_take(text: str) -> None:
    query = a_query()
    error = attempt_record(an_attempt(query, error=text))["row"]["error"]
    assert error.encode("utf-8").decode() == error
    assert "\0" not in error
    assert len(error) == min(len(text), 1_000)
