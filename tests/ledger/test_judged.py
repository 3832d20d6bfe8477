from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Feedback, FeedbackSource, Revocation
from router_gateway.ledger.judged import UNNAMED, Graded, read_graded, read_readings
from router_gateway.ledger.ledger import Ledger
from tests.learning.conftest import *  # noqa: F403 - fixtures
from tests.learning.school import AT, WORLD, decide

TRUTH: tuple[FeedbackSource, ...] = ("label", "verifier")
VECTOR = WORLD.queries(1, seed=1)[0].embedding[0]


def say(ledger: Ledger, query_id: UUID, quality: float, source: FeedbackSource) -> UUID:
    said = Feedback(id=uuid7(), query_id=query_id, at=AT, quality=quality, source=source)
    ledger.record_feedback(said)
    return said.id


def judgement(query_id: UUID, judgement_id: UUID, **changes: object) -> Judgement:
    values = {"judge": "j", "endpoint": "a", "score": 0.5, "chars": 7} | changes
    return Judgement(id=judgement_id, query_id=query_id, call_id=uuid7(), at=AT, **values)  # type: ignore[arg-type]


def test_scores_meet_the_truth_of_the_same_answer(ledger: Ledger) -> None:
    both, judged, labelled, opinion = (decide(ledger, VECTOR, "a") for _ in range(4))
    score_id = say(ledger, both, 0.7, "judge")
    ledger.record_judgement(judgement(both, score_id, score=0.7))
    say(ledger, both, 1.0, "verifier")
    say(ledger, both, 0.0, "label")  # counts before the verifier
    say(ledger, judged, 0.4, "judge")  # a client's own
    say(ledger, labelled, 0.5, "verifier")
    say(ledger, labelled, 0.25, "verifier")  # the second word
    say(ledger, opinion, 1.0, "user")  # not true here
    assert ledger.drain()
    assert read_graded(ledger.engine, TRUTH) == [
        Graded(query_id=both, endpoint="a", truth=0.0, judge="j", score=0.7, chars=7),
        Graded(query_id=judged, endpoint="a", judge=UNNAMED, score=0.4),
        Graded(query_id=labelled, endpoint="a", truth=0.25),
    ]


def test_what_was_taken_back_is_not_read(ledger: Ledger) -> None:
    query_id = decide(ledger, VECTOR, "a")
    for source in ("judge", "label"):
        ledger.record_revocation(Revocation(id=say(ledger, query_id, 1.0, source), at=AT))
    assert ledger.drain()
    assert read_graded(ledger.engine, TRUTH) == []


def test_a_part_of_the_past_is_read_and_no_more_rows_than_asked(ledger: Ledger) -> None:
    for _ in range(5):
        say(ledger, decide(ledger, VECTOR, "a"), 0.5, "judge")
    assert ledger.drain()
    assert len(read_graded(ledger.engine, TRUTH, rows_max=3)) == 3
    assert read_graded(ledger.engine, TRUTH, since=AT + timedelta(seconds=1)) == []
    assert len(read_graded(ledger.engine, TRUTH, since=AT)) == 5
    assert read_graded(ledger.engine, TRUTH, until=AT) == []
    assert len(read_graded(ledger.engine, TRUTH, until=AT + timedelta(seconds=1))) == 5


@pytest.mark.parametrize("since", [None, datetime(2020, 1, 1, tzinfo=UTC)])
def test_readings_of_pairs_are_read_and_scores_are_not(ledger: Ledger, since: datetime | None) -> None:
    query_id = decide(ledger, VECTOR, "a")
    ledger.record_judgement(judgement(query_id, uuid7()))
    ledger.record_judgement(judgement(query_id, uuid7(), other="b", other_chars=9, score=1.0))
    assert ledger.drain()
    [found] = read_readings(ledger.engine, since=since)
    assert (found.query_id, found.judge, found.first, found.second) == (query_id, "j", "a", "b")
    assert (found.score, found.first_chars, found.second_chars) == (1.0, 7, 9)
    assert read_readings(ledger.engine, since=AT + timedelta(days=1)) == []
