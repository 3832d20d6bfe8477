"""POST /v1/feedback."""

import json
import uuid

import pytest

from tests.api.building import EASY, error_of


@pytest.fixture
async def decision_id(site):
    return (await site.chat(EASY)).headers["x-router-decision-id"]


async def say(site, **body):
    return await site.client.post("/v1/feedback", json=body)


@pytest.mark.parametrize(
    ("said", "quality"),
    [({"score": 0.25}, 0.25), ({"verdict": "good"}, 1.0), ({"verdict": "bad"}, 0.0), ({"score": 1}, 1.0)],
)
async def test_a_score_or_a_verdict_is_recorded(site, decision_id, said, quality):
    response = await say(site, decision_id=decision_id, source="judge", turn=2, comment="so so", **said)
    assert response.status_code == 200
    assert response.json()["decision_id"] == decision_id
    [feedback] = (await site.record(decision_id)).feedback
    assert str(feedback.id) == response.json()["id"]
    assert (feedback.quality, feedback.source, feedback.turn, feedback.comment) == (quality, "judge", 2, "so so")
    assert feedback.tenant == "default"


async def test_the_same_idempotency_key_twice_is_one_row(site, decision_id):
    first = await say(site, decision_id=decision_id, score=0.2, idempotency_key="k1")
    second = await say(site, decision_id=decision_id, score=0.9, idempotency_key="k1")
    assert first.json() == second.json()
    other = await say(site, decision_id=decision_id, score=0.9, idempotency_key="k2")
    assert other.json()["id"] != first.json()["id"]
    qualities = [f.quality for f in (await site.record(decision_id)).feedback]
    assert qualities == [0.2, 0.9]


async def test_without_an_idempotency_key_every_word_counts(site, decision_id):
    for _ in range(2):
        assert (await say(site, decision_id=decision_id, score=0.5)).status_code == 200
    assert len((await site.record(decision_id)).feedback) == 2


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({}, "score"),
        ({"score": 0.5, "verdict": "good"}, "score"),
        ({"score": 1.01}, "score"),
        ({"score": -0.01}, "score"),
        ({"score": "high"}, "score"),
        ({"verdict": "meh"}, "verdict"),
        ({"score": 1, "source": "me"}, "source"),
        ({"score": 1, "turn": -1}, "turn"),
        ({"score": 1, "comment": "x" * 2_001}, "comment"),
        ({"score": 1, "comment": "\ud800"}, "comment"),
        ({"score": 1, "idempotency_key": ""}, "idempotency_key"),
        ({"score": 1, "decision_id": "no-uuid"}, "decision_id"),
        ({"score": 1, "decision_id": None}, "decision_id"),
    ],
)
async def test_each_wrong_field_is_named(site, decision_id, said, param):
    raw = json.dumps({"decision_id": decision_id, **said}).encode()
    error = error_of(await site.post(raw, path="/v1/feedback"), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert (await site.record(decision_id)).feedback == ()


async def test_an_unknown_field_is_refused(site, decision_id):
    error = error_of(await say(site, decision_id=decision_id, score=1, stars=5), 400)
    assert (error["param"], error["code"]) == ("stars", "unsupported_parameter")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"score": NaN}', b'{"score": Infinity}', b"\xff"])
async def test_what_is_not_json_is_refused(site, raw):
    assert error_of(await site.post(raw, path="/v1/feedback"), 400)["code"] == "invalid_request"


async def test_an_unknown_decision_is_not_found(site):
    error = error_of(await say(site, decision_id=str(uuid.UUID(int=1)), score=1), 404)
    assert (error["param"], error["code"]) == ("decision_id", "not_found")


async def test_another_tenants_decision_is_not_found(site, decision_id):
    site.client.headers["authorization"] = "Bearer " + site.keys.create("other", tenant="other")
    theirs = error_of(await say(site, decision_id=decision_id, score=0), 404)
    assert theirs["message"] == f"no decision {decision_id}"
    assert (await site.record(decision_id)).feedback == ()


async def test_feedback_needs_a_key_before_it_is_read(site):
    del site.client.headers["authorization"]
    assert error_of(await site.post(b"{nonsense", path="/v1/feedback"), 401)["code"] == "missing_api_key"


async def test_a_large_body_is_refused(site, decision_id):
    error_of(await say(site, decision_id=decision_id, score=1, comment="x" * 100_000), 413)


async def test_curl_without_a_content_type_is_understood(site, decision_id):
    raw = json.dumps({"decision_id": decision_id, "score": 1}).encode()
    response = await site.client.post(
        "/v1/feedback", content=raw, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert response.status_code == 200
