"""The register of candidates, what came of an experiment, and the shadow's rows, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, Table, delete, update
from sqlalchemy.exc import DBAPIError

from router_gateway.core.errors import Conflict, NotFound
from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Attempt, Decision, Feedback, Query, Reason, Revocation
from router_gateway.ledger.candidates import Candidate, Candidates, Transition
from router_gateway.ledger.experiments import read_outcomes
from router_gateway.ledger.hearing import Hearing
from router_gateway.ledger.journal import Journal
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.lifecycle_tables import candidates, transitions
from router_gateway.ledger.retention import prune
from router_gateway.ledger.shadows import ShadowRow, Shadows

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)


def candidate(name: str = "c", **changes: object) -> Candidate:
    return Candidate(**{"name": name, "policy": "knn", "author": "me", "changes": {"worth_usd": 1.0}, **changes})  # type: ignore[arg-type]


def line(number: int, name: str = "c", before: str = "none", state: str = "draft", **changes: object) -> Transition:
    told = {"policy": "knn", "number": number, "candidate": name, "before": before, "state": state}
    return Transition(**{**told, "author": "me", "reason": "asked", "at": AT, **changes})  # type: ignore[arg-type]


def test_what_is_registered_is_read_back_as_it_was(engine: Engine) -> None:
    register = Candidates(engine)
    first = candidate(snapshot="knn@3", margins={"cost": None}, note="why\nnot")
    register.add(first, line(1))
    evidence = {"measures": [{"worse": 0.25, "upper": None}]}
    register.append(line(2, before="draft", state="canary", share=0.05, evidence=evidence))
    assert register.named("c") == first
    assert register.all() == [first]
    assert register.standing()[0].share == 0.05
    assert [row.number for row in register.trail(candidate="c")] == [2, 1]
    assert register.trail(policy="knn", limit=1)[0].evidence == evidence
    assert register.trail(policy="other") == []
    assert register.numbers() == {"knn": 2}
    with pytest.raises(NotFound):
        register.named("nobody")


def test_a_name_is_taken_for_good_and_nothing_is_half_written(engine: Engine) -> None:
    register = Candidates(engine)
    register.add(candidate(), line(1))
    with pytest.raises(Conflict, match="exists already"):
        register.add(candidate(), line(2))
    with pytest.raises(Conflict, match="somebody else"):
        register.add(candidate("d"), line(1, "d"))
    assert [each.name for each in register.all()] == ["c"]
    with pytest.raises(Conflict, match="somebody else"):
        register.append(line(2, before="draft", state="canary"), line(1))
    assert register.numbers() == {"knn": 1}


def test_of_many_that_move_at_once_one_is_heard(engine: Engine) -> None:
    register = Candidates(engine)
    register.add(candidate(), line(1))

    def move(author: int) -> bool:
        try:
            register.append(line(2, before="draft", state="canary", author=str(author)))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        moved = list(threads.map(move, range(8)))
    assert moved.count(True) == 1
    assert register.standing()[0].author == str(moved.index(True))


def test_nothing_happened_as_long_as_the_newest_number_stays(engine: Engine) -> None:
    register = Candidates(engine)
    before = register.newest()
    register.add(candidate(), line(1))
    assert register.newest() > before
    assert register.newest() == register.newest()


@pytest.fixture
def ledger(engine: Engine, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(engine, Journal(tmp_path / "journal", bytes_max=1 << 20), store_text=False)
    ledger.start()
    yield ledger
    ledger.close()


class Lab:
    """Records decisions of an experiment."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.count = 0

    def decide(
        self,
        unit: str,
        *tries: tuple[int, str | None, float],
        canary: bool = True,
        reason: Reason = "scored",
        experiment: str | None = "c",
        at: datetime = AT,
    ) -> Query:
        """`tries` are (status, error, first byte in ms); each costs 10 nano-dollars and takes 100 ms."""
        self.count += 1
        moment = at + timedelta(seconds=self.count)
        query = Query(id=uuid7(), text="", tokens_input=1)
        decision = Decision(
            query_id=query.id,
            at=moment,
            endpoint="a",
            order=("a",),
            propensity=0.5,
            worth_usd=1.0,
            reason=reason,
            candidate="c" if canary else None,
            experiment=experiment,
            arm_share=None if experiment is None else 0.1 if canary else 0.9,
            arm_unit=None if experiment is None else unit,
        )
        self.ledger.record_decision(query, decision, requested_model="auto", embedding=None)
        for number, (status, error, first_byte_ms) in enumerate(tries, start=1):
            attempt = Attempt(
                query_id=query.id, number=number, at=moment, endpoint="a", status=status, cost_nusd=10,
                first_byte_ms=first_byte_ms if status == 200 else None, latency_ms=100.0, error=error,
            )  # fmt: skip
            self.ledger.record_attempt(attempt)
        return query

    def rate(self, query: Query, quality: float, **changes: object) -> Feedback:
        said = {"id": uuid7(), "query_id": query.id, "at": AT, "quality": quality, "source": "user", **changes}
        feedback = Feedback(**said)  # type: ignore[arg-type]
        self.ledger.record_feedback(feedback)
        return feedback

    def read(self, since: datetime = AT, rows_max: int = 100):  # type: ignore[no-untyped-def]
        assert self.ledger.drain()
        return read_outcomes(self.ledger.engine, "c", since, rows_max)


OK = (200, None, 30.0)


def test_outcomes_of_both_sides_are_read_in_order(ledger: Ledger) -> None:
    lab = Lab(ledger)
    first = lab.decide("u1", OK)
    lab.decide("u2", (503, "upstream_error", 0.0), OK, canary=False)
    lab.decide("u3", (503, "upstream_error", 0.0))
    lab.decide("u4", OK, reason="fallback:error")
    lab.decide("u5", (400, "invalid_request", 0.0))
    lab.decide("under way")
    lab.decide("nobody's", OK, experiment=None)
    lab.decide("another's", OK, experiment="d")
    lab.rate(first, 0.2)
    found = lab.read()
    assert [each.unit for each in found] == ["u1", "u2", "u3", "u4", "u5"]
    assert [each.canary for each in found] == [True, False, True, True, True]
    assert [each.failed for each in found] == [False, False, True, True, False]
    assert [each.cost_nusd for each in found] == [10, 20, 10, 10, 10]
    assert [each.first_token_ms for each in found] == [30.0, 130.0, None, 30.0, None]
    assert [each.quality for each in found] == [0.2, None, None, None, None]
    assert [each.unit for each in lab.read(since=AT + timedelta(seconds=3))] == ["u3", "u4", "u5"]
    assert [each.unit for each in lab.read(rows_max=2)] == ["u1", "u2"]


def test_the_last_word_of_everybody_counts_and_what_was_taken_back_does_not(ledger: Ledger) -> None:
    lab = Lab(ledger)
    query, silent = lab.decide("u", OK), lab.decide("v", OK)
    lab.rate(query, 0.0)
    lab.rate(query, 1.0)
    lab.rate(query, 0.5, source="judge")
    gone = lab.rate(silent, 0.9)
    ledger.record_revocation(Revocation(id=gone.id, at=AT))
    assert [each.quality for each in lab.read()] == [0.75, None]


def test_ratings_are_weighed_as_asked(ledger: Ledger) -> None:
    lab = Lab(ledger)
    judged, both = lab.decide("u", OK), lab.decide("v", (503, "upstream_error", 0.0), OK, canary=False)
    for query in (judged, both):
        said = lab.rate(query, 0.9, source="judge")
        ledger.record_judgement(
            Judgement(
                id=said.id, query_id=query.id, call_id=uuid7(), at=AT, judge="j", endpoint="a", score=0.9, chars=1
            )
        )
    lab.rate(both, 0.1, source="label")
    assert [each.quality for each in lab.read()] == [0.9, 0.5]
    known = {("j", "a", 0.9): 0.6}
    hearing = Hearing(truth=frozenset({"label"}), corrected=lambda *said: known[said])
    found = read_outcomes(ledger.engine, "c", AT, 100, hearing)
    assert [each.quality for each in found] == [0.6, 0.1]


def test_a_decision_without_a_candidate_is_recorded_as_ever(ledger: Ledger) -> None:
    lab = Lab(ledger)
    query = lab.decide("u", OK, canary=False, experiment=None)
    record = ledger.decision(query.id)
    assert record is not None
    assert (record.decision.candidate, record.decision.experiment, record.decision.arm_unit) == (None, None, None)
    tried = ledger.decision(lab.decide("u", OK).id)
    assert tried is not None
    assert (tried.decision.candidate, tried.decision.experiment) == ("c", "c")
    assert (tried.decision.arm_share, tried.decision.arm_unit) == (0.1, "u")


def shadow(**changes: object) -> ShadowRow:
    row = {"candidate": "c", "query_id": uuid7(), "at": AT, "policy": "knn@2", "endpoint": "a", "served": "a"}
    values = {"propensity": 1.0, "quality": 0.5, "cost_usd": 1.0, "served_quality": 0.7, "served_cost_usd": 3.0}
    return ShadowRow(**{**row, **values, "latency_ms": 2.0, **changes})  # type: ignore[arg-type]


def test_a_shadow_is_summed_up(engine: Engine) -> None:
    shadows = Shadows(engine)
    assert shadows.summary("c")["decisions"] == 0
    failed = {"endpoint": None, "propensity": None, "quality": None, "cost_usd": None, "error": "policy_error"}
    rows = [shadow(), shadow(endpoint="b", cost_usd=2.0, latency_ms=6.0), shadow(**failed)]
    shadows.add(rows)
    shadows.add(rows[:1])
    shadows.add([shadow(candidate="d")])
    assert shadows.count("c") == 3
    found = shadows.summary("c")
    assert (found["decisions"], found["failed"], found["agreed"]) == (3, 1, 0.5)
    assert found["expected_cost_usd"] == pytest.approx(1.5)
    assert found["live_expected_cost_usd"] == pytest.approx(3.0)
    assert found["latency_ms_max"] == 6.0


@pytest.mark.parametrize("table", [candidates, transitions])
def test_the_trail_cannot_be_changed(engine: Engine, table: Table) -> None:
    Candidates(engine).add(candidate(), line(1))
    for change in (delete(table), update(table).values(author="nobody")):
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(change)


def test_shadow_decisions_go_with_the_decision_they_shadowed(ledger: Ledger) -> None:
    lab = Lab(ledger)
    old = datetime.now(UTC) - timedelta(days=100)
    query = lab.decide("u", OK, at=old)
    assert ledger.drain()
    shadows = Shadows(ledger.engine)
    shadows.add([shadow(query_id=query.id), shadow(at=old), shadow(at=datetime.now(UTC))])
    removed = prune(ledger.engine, datetime.now(UTC) - timedelta(days=90), pause_s=0)
    assert removed.rows["shadow_decisions"] == 2
    assert shadows.count("c") == 1
