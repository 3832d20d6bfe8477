from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Decision, Feedback, Query
from router_gateway.ledger.ledger import Ledger

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
VECTOR = np.array([0.6, 0.8, 0.0]).astype(np.float16).astype(np.float32)  # as embedders round


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def decide(ledger: Ledger, *, at: datetime = NOON, vector: Any = VECTOR, space: str = "space", **changes: Any) -> UUID:
    query = Query(id=uuid7(), text="hello", tokens_input=7)
    values = {"endpoint": "a", "order": ("a", "b"), "propensity": 0.75, "worth_usd": 0.02, "reason": "scored"} | changes
    decision = Decision(query_id=query.id, at=at, embedding_space=space, **values)
    ledger.record_decision(query, decision, requested_model="auto", embedding=vector)
    return query.id


def answer(ledger: Ledger, query_id: UUID, endpoint: str = "a", number: int = 1, status: int = 200) -> None:
    attempt = Attempt(
        query_id=query_id, number=number, at=NOON, endpoint=endpoint, status=status, cost_nusd=2_500, latency_ms=1.0
    )
    ledger.record_attempt(attempt)


def rate(ledger: Ledger, query_id: UUID, quality: float, *, at: datetime = NOON, **changes: Any) -> None:
    values = {"source": "user"} | changes
    ledger.record_feedback(Feedback(id=uuid7(), query_id=query_id, at=at, quality=quality, **values))


def outcomes(ledger: Ledger, watermark: int = 0, **options: Any) -> tuple[list[tuple[str, float, float]], int]:
    """(endpoint, quality, propensity) of each observation, and the next watermark."""
    assert ledger.drain()
    experience, watermark = ledger.experience_since(watermark, **options)
    columns = zip(experience.endpoint, experience.quality, experience.propensity, strict=True)
    return [(experience.endpoints[e], float(q), float(p)) for e, q, p in columns], watermark


def test_an_answer_that_was_rated_is_an_observation(ledger: Ledger) -> None:
    query_id = decide(ledger)
    answer(ledger, query_id)
    rate(ledger, query_id, 0.25)
    assert ledger.drain()
    experience, watermark = ledger.experience_since()
    assert watermark == 1
    assert (experience.endpoints, experience.queries.space) == (("a",), "space")
    assert experience.queries.text == ("",)
    assert (experience.queries.tokens_input.tolist(), experience.cost_usd.tolist()) == ([7], [2.5e-6])
    assert (experience.quality.tolist(), experience.propensity.tolist()) == ([0.25], [0.75])
    np.testing.assert_array_equal(experience.queries.embedding, [VECTOR])
    dtypes = [a.dtype.name for a in (experience.queries.embedding, experience.quality, experience.cost_usd)]
    assert dtypes == ["float32", "float32", "float64"]


def test_credit_goes_to_the_endpoint_that_answered_and_a_fallback_has_no_propensity(ledger: Ledger) -> None:
    query_id = decide(ledger)
    answer(ledger, query_id, "a", number=1, status=503)
    answer(ledger, query_id, "b", number=2)
    rate(ledger, query_id, 1.0)
    assert outcomes(ledger)[0] == [("b", 1.0, 0.0)]


def test_of_two_answers_the_last_one_is_rated(ledger: Ledger) -> None:
    query_id = decide(ledger)
    answer(ledger, query_id, "b", number=1)
    answer(ledger, query_id, "a", number=2)
    answer(ledger, query_id, "c", number=3, status=500)
    rate(ledger, query_id, 1.0)
    assert outcomes(ledger)[0] == [("a", 1.0, 0.75)]


def test_a_declined_decision_teaches_without_propensity(ledger: Ledger) -> None:
    query_id = decide(ledger, propensity=0.0, reason="pinned")
    answer(ledger, query_id)
    rate(ledger, query_id, 0.5)
    assert outcomes(ledger)[0] == [("a", 0.5, 0.0)]


def test_what_cannot_be_learned_from_is_passed_over(ledger: Ledger) -> None:
    unembedded, unanswered = decide(ledger, vector=None), decide(ledger)
    answer(ledger, unembedded)
    answer(ledger, unanswered, status=500)
    for query_id in (unembedded, unanswered, uuid7()):
        rate(ledger, query_id, 0.5)
    assert outcomes(ledger) == ([], 3)
    experience, _ = ledger.experience_since()
    assert experience.queries.embedding.shape == (0, 0)


def test_a_rating_given_again_replaces_the_first_but_not_another_ones(ledger: Ledger) -> None:
    query_id = decide(ledger)
    answer(ledger, query_id)
    rate(ledger, query_id, 0.0)
    rate(ledger, query_id, 0.5, source="judge")
    rate(ledger, query_id, 1.0)
    assert ledger.drain()
    experience, _ = ledger.experience_since()
    assert (experience.quality.tolist(), experience.query.tolist(), len(experience.queries)) == ([0.5, 1.0], [0, 0], 1)


def test_vectors_of_two_spaces_never_meet(ledger: Ledger) -> None:
    for minute, (space, vector, quality) in enumerate([("old", np.ones(5), 0.0), ("new", VECTOR, 1.0)]):
        query_id = decide(ledger, at=NOON + timedelta(minutes=minute), space=space, vector=vector)
        answer(ledger, query_id)
        rate(ledger, query_id, quality)
    assert outcomes(ledger)[0] == [("a", 1.0, 0.75)]
    assert outcomes(ledger, embedding_space="old")[0] == [("a", 0.0, 0.75)]


def test_the_watermark_gives_each_observation_once_in_pieces_of_any_size(ledger: Ledger) -> None:
    for quality in (0.0, 0.25, 0.5, 0.75, 1.0):
        query_id = decide(ledger)
        answer(ledger, query_id)
        rate(ledger, query_id, quality)
    watermark, seen = 0, []
    while (piece := outcomes(ledger, watermark, rows_max=2))[1] != watermark:
        seen += [quality for _, quality, _ in piece[0]]
        watermark = piece[1]
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    query_id = decide(ledger)
    answer(ledger, query_id)
    rate(ledger, query_id, 0.5)
    assert [quality for _, quality, _ in outcomes(ledger, watermark)[0]] == [0.5]


def test_fresh_feedback_waits_for_its_answer_and_nothing_later_overtakes_the_watermark(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    first = decide(ledger)
    answer(ledger, first)
    rate(ledger, first, 0.25, at=now)
    second = decide(ledger)
    rate(ledger, second, 0.5, at=now)
    third = decide(ledger)
    answer(ledger, third)
    rate(ledger, third, 0.75, at=now)
    patient = {"settle_s": 3600.0}
    before, watermark = outcomes(ledger, **patient)
    assert [quality for _, quality, _ in before] == [0.25]
    assert [q for _, q, _ in outcomes(ledger, watermark, settle_s=-60.0)[0]] == [0.75]
    answer(ledger, second)
    assert [quality for _, quality, _ in outcomes(ledger, watermark, **patient)[0]] == [0.5, 0.75]
