"""/v1/feedback beyond a score: comparisons, and taking back what was said."""

import uuid

import pytest
from sqlalchemy import select

from router_gateway.ledger.connections import reading
from router_gateway.ledger.tables import comparisons, feedback_revocations
from tests.api.building import HARD, error_of


@pytest.fixture
async def decision_id(site):
    return (await site.chat(HARD)).headers["x-router-decision-id"]


async def say(site, **body):
    return await site.client.post("/v1/feedback", json=body)


async def rows(site, table):
    await site.rows()
    with reading(site.ledger.engine) as connection:
        return [row._asdict() for row in connection.execute(select(table).order_by(table.c.seq))]


async def test_of_two_endpoints_the_better_one_is_recorded(site, decision_id):
    response = await say(site, decision_id=decision_id, better="large", worse="mid", source="judge")
    assert response.status_code == 200
    assert response.json()["status"] == "recorded"
    [row] = await rows(site, comparisons)
    assert str(row["id"]) == response.json()["id"]
    assert (str(row["query_id"]), row["better"], row["worse"]) == (decision_id, "large", "mid")
    assert (row["source"], row["tenant"]) == ("judge", "default")
    assert (await site.record(decision_id)).feedback == ()
    assert 'router_feedback_total{source="judge"} 1.0' in (await site.client.get("/metrics")).text


async def test_a_comparison_with_the_same_idempotency_key_is_one_row(site, decision_id):
    same = {"decision_id": decision_id, "better": "large", "worse": "mid", "idempotency_key": "k"}
    assert (await say(site, **same)).json() == (await say(site, **same)).json()
    assert len(await rows(site, comparisons)) == 1


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"better": "large"}, "worse"),
        ({"worse": "large"}, "better"),
        ({"better": "large", "worse": "large"}, "worse"),
        ({"better": "large", "worse": "mid", "score": 1}, "score"),
        ({"better": "large", "worse": "mid", "verdict": "good"}, "score"),
        ({"better": "gpt-9", "worse": "mid"}, "better"),
        ({"better": "large", "worse": "gpt-9"}, "worse"),
        ({"better": "", "worse": "mid"}, "better"),
        ({"better": 3, "worse": "mid"}, "better"),
        ({"better": "large", "worse": "mid", "turn": 1}, "turn"),
        ({"better": "large", "worse": "mid", "comment": "so"}, "comment"),
    ],
)
async def test_a_comparison_that_makes_no_sense_is_refused_by_field(site, decision_id, said, param):
    error = error_of(await say(site, decision_id=decision_id, **said), 400)
    assert error["param"] == param
    assert await rows(site, comparisons) == []


@pytest.mark.parametrize("said", [{"score": 0.0}, {"better": "large", "worse": "mid"}])
async def test_what_was_said_can_be_taken_back_as_often_as_one_likes(site, decision_id, said):
    feedback_id = (await say(site, decision_id=decision_id, **said)).json()["id"]
    for _ in range(2):
        response = await site.client.delete(f"/v1/feedback/{feedback_id}")
        assert response.status_code == 200
        assert response.json() == {"id": feedback_id, "decision_id": decision_id, "status": "revoked"}
    assert [str(row["id"]) for row in await rows(site, feedback_revocations)] == [feedback_id]
    assert (await site.record(decision_id)).feedback == ()


async def test_what_stands_beside_the_revoked_still_counts(site, decision_id):
    kept = await say(site, decision_id=decision_id, score=0.25)
    revoked = await say(site, decision_id=decision_id, score=0.75)
    await site.client.delete(f"/v1/feedback/{revoked.json()['id']}")
    [feedback] = (await site.record(decision_id)).feedback
    assert str(feedback.id) == kept.json()["id"]


async def test_one_takes_back_ones_own_feedback_only(site, decision_id):
    feedback_id = (await say(site, decision_id=decision_id, score=1)).json()["id"]
    stranger = {"authorization": f"Bearer {site.keys.create('other', tenant='other')}"}
    error = error_of(await site.client.delete(f"/v1/feedback/{feedback_id}", headers=stranger), 404)
    assert error["param"] == "feedback_id"
    nobody = await site.client.delete(f"/v1/feedback/{feedback_id}", headers={"authorization": "Bearer rg-no"})
    assert error_of(nobody, 401)["code"] == "invalid_api_key"
    assert await rows(site, feedback_revocations) == []


async def test_unknown_feedback_and_malformed_ids_are_told_apart(site):
    assert error_of(await site.client.delete(f"/v1/feedback/{uuid.uuid4()}"), 404)["param"] == "feedback_id"
    assert error_of(await site.client.delete("/v1/feedback/last"), 400)["param"] == "feedback_id"
