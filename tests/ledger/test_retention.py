"""Rows that go: what is left is exact, nobody's watermark moves, and the writer is never in the way."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select

from router_gateway.core.errors import RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Comparison, Feedback, Revocation
from router_gateway.ledger import retention
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.lessons import Lessons, Watermark
from router_gateway.ledger.lifecycle_tables import shadow_decisions
from router_gateway.ledger.reports import usage
from router_gateway.ledger.reservations import reserve, settle, sweep
from router_gateway.ledger.retention import forget, prune
from router_gateway.ledger.tables import (
    attempts,
    comparisons,
    daily_totals,
    decisions,
    feedback,
    feedback_revocations,
    open_calls,
)
from tests.ledger.test_ledger import E1, a_decision, a_query, an_attempt

NOW = datetime.now(UTC)
OLD, LATELY = NOW - timedelta(days=100), NOW - timedelta(days=10)
CUT = NOW - timedelta(days=90)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Any:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal", store_text=True)
    yield ledger
    ledger.close()


def call(ledger: Ledger, at: datetime, tenant: str = "acme", *, cost_nusd: int = 10, said: bool = True) -> Any:
    """A whole call: decision, attempt, feedback, a comparison, and something taken back."""
    query = a_query(tenant=tenant, text=f"a secret of {tenant}")
    decision = a_decision(query, at=at, endpoints=("a", "b"))
    ledger.record_decision(query, decision, requested_model="auto", embedding=E1, expected_nusd=3)
    ledger.record_attempt(an_attempt(query, at=at, cost_nusd=cost_nusd))
    if said:
        common = {"query_id": query.id, "at": at, "tenant": tenant}
        first, second = (
            Feedback(id=uuid7(), quality=0.5, source=source, comment="a comment", **common)
            for source in ("user", "label")
        )
        ledger.record_feedback(first)
        ledger.record_feedback(second)
        ledger.record_comparison(Comparison(id=uuid7(), better="a", worse="b", source="user", **common))
        ledger.record_revocation(Revocation(id=second.id, at=at, tenant=tenant))
    return query.id


def shadow(ledger: Ledger, at: datetime) -> None:
    """What a candidate would have chosen for a call that is there by now."""
    assert ledger.drain()
    with writing(ledger.engine) as connection:
        query_id = connection.execute(select(decisions.c.query_id)).scalars().first()
        row = {"candidate": "c", "query_id": query_id, "at": at, "policy": "knn@1", "served": "a", "latency_ms": 1.0}
        connection.execute(insert(shadow_decisions).values(row))


def counts(engine: Engine) -> dict[str, int]:
    tables = (decisions, attempts, feedback, comparisons, feedback_revocations)
    with reading(engine) as connection:
        return {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables}


def money(engine: Engine, tenant: str | None = None) -> int:
    query = select(func.sum(daily_totals.c.cost_nusd))
    with reading(engine) as connection:
        return int(
            connection.execute(query if tenant is None else query.where(daily_totals.c.tenant == tenant)).scalar()
        )


def test_old_rows_go_with_all_that_belongs_to_them_and_their_money_stays(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH_ROWS", 3)
    for n in range(7):
        call(ledger, OLD + timedelta(seconds=n))
    shadow(ledger, OLD)
    kept = [call(ledger, LATELY), call(ledger, LATELY)]
    assert ledger.drain()
    told: list[int] = []
    removed = prune(ledger.engine, CUT, progress=told.append, pause_s=0)
    assert removed.rows == {
        "decisions": 7, "attempts": 7, "feedback": 14, "comparisons": 7, "feedback_revocations": 7,
        "judgements": 0, "shadow_decisions": 1,
    }  # fmt: skip
    assert told == [3, 6]
    assert counts(ledger.engine) == {
        "decisions": 2, "attempts": 2, "feedback": 4, "comparisons": 2, "feedback_revocations": 2,
    }  # fmt: skip
    with reading(ledger.engine) as connection:
        assert set(connection.execute(select(decisions.c.query_id)).scalars()) == set(kept)
    assert sum(row.cost_nusd for row in usage(ledger.engine, "day")) == 90
    assert ledger.spend_since(OLD - timedelta(days=2)) == 90
    assert ledger.spend_since(OLD - timedelta(days=2), tenant="acme") == 90
    assert not any(prune(ledger.engine, CUT, pause_s=0).rows.values()), "once more changes nothing"


def test_what_never_had_a_decision_goes_by_its_own_age(ledger: Ledger) -> None:
    ledger.record_attempt(an_attempt(a_query(), at=OLD, cost_nusd=4))
    ledger.record_attempt(an_attempt(a_query(), at=LATELY, cost_nusd=5))
    ledger.record_feedback(Feedback(id=uuid7(), query_id=uuid7(), at=OLD, quality=1.0, source="user"))
    call(ledger, LATELY)
    assert ledger.drain()
    removed = prune(ledger.engine, CUT, pause_s=0)
    assert (removed.rows["attempts"], removed.rows["feedback"]) == (1, 1)
    assert money(ledger.engine, "unknown") == 9


def test_only_texts(ledger: Ledger) -> None:
    old, new = call(ledger, OLD), call(ledger, LATELY)
    assert ledger.drain()
    before = counts(ledger.engine)
    assert prune(ledger.engine, CUT, text_only=True, pause_s=0).texts == 3  # a prompt and two comments
    assert counts(ledger.engine) == before
    found = {query_id: ledger.decision(query_id) for query_id in (old, new)}
    assert found[old].text is None
    assert found[new].text == "a secret of acme"
    assert [said.comment for said in found[new].feedback] == ["a comment"]
    assert found[old].embedding is not None, "what was learned from stays"
    prune(ledger.engine, datetime.now(UTC), text_only=True, pause_s=0)  # of any age
    assert ledger.decision(new).text is None


def test_rows_that_may_still_settle_a_budget_are_kept(ledger: Ledger) -> None:
    with pytest.raises(RequestError, match="8 days") as refused:
        prune(ledger.engine, NOW - timedelta(days=7))
    assert refused.value.param == "older_than"


@pytest.mark.parametrize("tenant", ["acme", "bob"])
def test_a_tenant_is_forgotten_and_the_sums_stay(ledger: Ledger, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH_ROWS", 2)
    for who, cost_nusd in (("acme", 10), ("bob", 7), ("acme", 10), ("bob", 7), ("acme", 10)):
        call(ledger, LATELY, who, cost_nusd=cost_nusd)
    assert ledger.drain()
    of = {"acme": 3, "bob": 2}
    spent = {"acme": 30, "bob": 14}
    removed = forget(ledger.engine, tenant, pause_s=0)
    assert removed.left == 0
    assert removed.rows["decisions"] == removed.rows["attempts"] == of[tenant]
    (other,) = set(of) - {tenant}
    assert {row.group: row.cost_nusd for row in usage(ledger.engine, "tenant") if row.attempts} == {
        other: spent[other],
        "forgotten": spent[tenant],
    }
    with reading(ledger.engine) as connection:
        for table in (decisions, feedback, comparisons, feedback_revocations, daily_totals, open_calls):
            assert tenant not in set(connection.execute(select(table.c.tenant)).scalars()), table.name
        assert connection.execute(select(func.count(feedback.c.comment))).scalar_one() == 2 * of[other]
    forget(ledger.engine, tenant, pause_s=0)
    assert money(ledger.engine) == 44


def test_on_sqlite_no_byte_of_a_forgotten_prompt_is_left_in_the_file(tmp_path: Path) -> None:
    from router_gateway.ledger.engine import migrate

    url = f"sqlite:///{tmp_path}/ledger.db"
    migrate(url)
    ledger = Ledger.open(url, directory=tmp_path / "journal", store_text=True)
    call(ledger, LATELY, "acme")
    call(ledger, LATELY, "bob")
    assert ledger.drain()
    forget(ledger.engine, "acme", pause_s=0)
    ledger.close()
    left = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert b"a secret of acme" not in left
    assert b"a secret of bob" in left


def test_a_learners_watermarks_stand_though_the_newest_rows_go(ledger: Ledger) -> None:
    lessons = Lessons(ledger.engine)
    call(ledger, OLD)
    assert ledger.drain()
    read = lessons.newest()
    assert read == Watermark(feedback=2, comparisons=1, revocations=1)
    prune(ledger.engine, CUT, pause_s=0)
    assert lessons.newest().feedback in (0, 2)  # PostgreSQL never gives a number twice, and needs no placeholder
    call(ledger, LATELY)
    assert ledger.drain()
    lesson = lessons.read(read, embedding_space="space", rows_max=10, settle_s=0)
    assert len(lesson.experience.quality) == 1, "what came after the removal is new to the learner"
    assert len(lesson.experience.comparisons) == 1
    assert lesson.taken_back == 0
    forget(ledger.engine, "acme", pause_s=0)
    forget(ledger.engine, "acme", pause_s=0)  # the emptied rows are nobody's
    again = lessons.read(Watermark(), embedding_space="space", rows_max=10, settle_s=0)
    assert len(again.experience.quality) == 0, "a refit has nothing of it"


def test_budgets_keep_their_sums_and_calls_under_way_are_left(ledger: Ledger) -> None:
    engine = ledger.engine
    budget = Budgets(engine).set("tenant", "acme", "month", 1000)
    done, under_way, swept = (call(ledger, NOW, said=False) for _ in range(3))
    assert ledger.drain()
    for query_id, expires_in_s in ((done, 60), (under_way, 60), (swept, -60)):
        reserve(engine, [budget], query_id, 100, now=NOW, expires_at=NOW + timedelta(seconds=expires_in_s))
    settle(engine, done, 10)
    sweep(engine, NOW)
    removed = forget(engine, "acme", pause_s=0)
    assert (removed.rows["decisions"], removed.left) == (2, 1)
    assert money(engine, "acme") == 30, "the name stays until the last call is settled"
    sweep(engine, NOW + timedelta(seconds=1))
    (state,) = Budgets(engine).states(NOW)
    assert (state.spent_nusd, state.reserved_nusd) == (20, 100)
    settle(engine, under_way, 10)
    assert forget(engine, "acme", pause_s=0).left == 0
    (state,) = Budgets(engine).states(NOW)
    assert (state.spent_nusd, state.reserved_nusd) == (30, 0)
    assert money(engine, "forgotten") == 30


def test_the_writer_writes_on_meanwhile(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH_ROWS", 10)
    for _ in range(100):
        call(ledger, OLD, said=False)
    assert ledger.drain()
    written_during: Counter[str] = Counter()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            call(ledger, NOW, said=False)
            assert ledger.drain(10)
            written_during["calls"] += 1

    writer = threading.Thread(target=write)
    writer.start()
    removed = prune(ledger.engine, CUT, pause_s=0.02)
    stop.set()
    writer.join()
    assert removed.rows["decisions"] == 100
    assert written_during["calls"] >= 1
    assert counts(ledger.engine)["decisions"] == written_during["calls"]
    assert ledger.counters.errors == 0
