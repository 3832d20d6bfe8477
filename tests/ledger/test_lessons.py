"""What the learner reads, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from router_gateway.core.errors import LedgerUnavailable
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Comparison, Feedback, Revocation
from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.lessons import Lesson, Lessons, Watermark
from router_gateway.ledger.outcome_rows import Wanted, read_pages
from router_gateway.ledger.reports import usage
from tests.ledger.test_learnable import NOON, VECTOR, answer, decide

ACROSS = np.array([0.0, 0.0, 1.0], dtype=np.float32)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def answered(ledger: Ledger, **changes: Any) -> UUID:
    query_id = decide(ledger, **changes)
    answer(ledger, query_id)
    return query_id


def rate(ledger: Ledger, query_id: UUID, quality: float = 1.0, **changes: Any) -> UUID:
    said = Feedback(id=uuid7(), query_id=query_id, quality=quality, **{"at": NOON, "source": "user"} | changes)
    ledger.record_feedback(said)
    return said.id


def compare(ledger: Ledger, query_id: UUID, better: str, worse: str, at: datetime = NOON) -> UUID:
    said = Comparison(id=uuid7(), query_id=query_id, at=at, better=better, worse=worse, source="user")
    ledger.record_comparison(said)
    return said.id


def take_back(ledger: Ledger, *ids: UUID) -> None:
    for each in ids:
        ledger.record_revocation(Revocation(id=each, at=NOON))


def read(ledger: Ledger, since: Watermark | None = None, rows_max: int = 100, **options: Any) -> Lesson:
    assert ledger.drain()
    reading = {"embedding_space": "space", "rows_max": rows_max} | options
    return Lessons(ledger.engine).read(since or Watermark(), **reading)


def test_outcomes_and_comparisons_of_a_query_share_its_vector(ledger: Ledger) -> None:
    both, only_compared = answered(ledger), answered(ledger, vector=ACROSS)
    rate(ledger, both, 0.5)
    compare(ledger, both, "b", "a")
    compare(ledger, only_compared, "c", "b")
    lesson = read(ledger)
    experience = lesson.experience
    assert experience.endpoints == ("a", "b", "c")
    assert (experience.query.tolist(), experience.endpoint.tolist(), experience.quality.tolist()) == ([0], [0], [0.5])
    assert experience.comparisons.tolist() == [[0, 1, 0], [1, 2, 1]]
    assert np.array_equal(experience.queries.embedding, np.stack([VECTOR, ACROSS]))
    assert lesson.reached == Watermark(feedback=1, comparisons=2)
    assert read(ledger, lesson.reached).experience.queries.embedding.shape == (0, 0)


def test_what_was_taken_back_is_not_there_and_counts_once_where_it_had_been_read(ledger: Ledger) -> None:
    query_id = answered(ledger)
    first, second = rate(ledger, query_id, 0.25), rate(ledger, query_id, 0.75)
    pair = compare(ledger, query_id, "b", "a")
    start = read(ledger)
    assert start.experience.quality.tolist() == [0.75]
    later = rate(ledger, query_id, 0.5)
    take_back(ledger, second, second, later, pair)
    lesson = read(ledger, start.reached)
    assert len(lesson.experience) == len(lesson.experience.comparisons) == 0
    assert lesson.taken_back == 2  # one outcome, one comparison; the later word had not been read
    assert read(ledger, lesson.reached).taken_back == 0
    anew = read(ledger)
    assert anew.experience.quality.tolist() == [0.25]  # the word before it stands again
    assert len(anew.experience.comparisons) == 0
    take_back(ledger, first)
    assert read(ledger, lesson.reached).taken_back == 1


def test_reports_and_exports_pass_over_what_was_taken_back(ledger: Ledger) -> None:
    query_id = answered(ledger)
    rate(ledger, query_id, 0.25)
    take_back(ledger, rate(ledger, query_id, 1.0))
    take_back(ledger, rate(ledger, answered(ledger), 1.0))
    assert ledger.drain()
    [row] = usage(ledger.engine, group_by="endpoint")
    assert (row.quality, row.rated) == (0.25, 1)
    [page] = read_pages(ledger.engine, Wanted())
    assert {row["sample_id"]: row["score"] for row in page}[str(query_id)] == 0.25
    assert sorted(str(row["score"]) for row in page) == ["0.25", "None"]


def test_a_comparison_waits_for_its_decision(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    compare(ledger, uuid7(), "a", "b", at=now)
    compare(ledger, answered(ledger), "b", "a", at=now)
    patient = read(ledger, settle_s=3600.0)
    assert (len(patient.experience.comparisons), patient.reached.comparisons) == (0, 0)
    assert read(ledger, settle_s=-60.0).experience.comparisons.tolist() == [[0, 1, 0]]


def test_a_revoked_word_without_an_answer_is_not_waited_for(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    take_back(ledger, rate(ledger, uuid7(), at=now))
    rate(ledger, answered(ledger), at=now)
    assert read(ledger, settle_s=3600.0).reached.feedback == 2


def test_pieces_say_whether_there_may_be_more(ledger: Ledger) -> None:
    for _ in range(3):
        rate(ledger, answered(ledger))
    first = read(ledger, rows_max=2)
    assert (len(first.experience), first.full) == (2, True)
    second = read(ledger, first.reached, rows_max=2)
    assert (len(second.experience), second.full) == (1, False)
    assert second.reached == Lessons(ledger.engine).newest()


def test_outcomes_of_chosen_decisions_alone(ledger: Ledger) -> None:
    chosen, other = answered(ledger), answered(ledger)
    rate(ledger, other, 0.0)
    rate(ledger, chosen, 1.0)
    lesson = read(ledger, chosen=lambda query_id: query_id == chosen)
    assert lesson.experience.quality.tolist() == [1.0]
    assert lesson.reached.feedback == 2


def test_another_space_is_passed_over(ledger: Ledger) -> None:
    query_id = answered(ledger, space="old")
    rate(ledger, query_id)
    compare(ledger, query_id, "a", "b")
    lesson = read(ledger)
    assert len(lesson.experience) == len(lesson.experience.comparisons) == 0
    assert lesson.reached == Watermark(feedback=1, comparisons=1)


def test_without_a_database_there_is_nothing_to_read(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(LedgerUnavailable):
        Lessons(engine).newest()
    engine.dispose()
