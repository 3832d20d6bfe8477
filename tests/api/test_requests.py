"""Requests in the admin API: found, opened, and rated."""

from uuid import uuid4

import pytest

from tests.api.building import EASY, HARD, error_of


@pytest.fixture
async def site(start):
    return await start(store_text=True)


async def asked(site, text, **members):
    answer = await site.chat(text, **members)
    assert answer.status_code == 200
    assert site.ledger.drain()
    return answer.headers["x-router-decision-id"]


async def test_they_are_listed_newest_first_and_paged(site, office):
    made = [await asked(site, text) for text in (EASY, HARD, EASY)]
    body = (await office.get("/requests", params={"limit": 2})).json()
    assert [row["id"] for row in body["data"]] == made[:0:-1]
    row = body["data"][1]
    assert (row["endpoint"], row["answered_by"], row["status"], row["attempts"]) == ("large", "large", 200, 1)
    assert (row["policy"], row["text"], row["rated"], row["quality"]) == ("knn@1", HARD, 0, None)
    assert row["cost_usd"] == row["cost_nusd"] / 1e9 > 0
    rest = (await office.get("/requests", params={"limit": 2, "before": body["next_before"]})).json()
    assert [row["id"] for row in rest["data"]] == made[:1]
    assert rest["next_before"] is None


async def test_they_are_found_by_what_they_were(site, office):
    easy, hard = await asked(site, EASY), await asked(site, HARD, user="session-of-mine")
    for params, expected in (
        ({"endpoint": "large"}, [hard]),
        ({"policy": "knn", "status": "answered"}, [hard, easy]),
        ({"status": "503"}, []),
        ({"q": "indemnity"}, [hard]),
        ({"q": easy}, [easy]),
        ({"feedback": "any"}, []),
        ({"min_cost_usd": "1"}, []),
        ({"tenant": "nobody"}, []),
        ({"until": "2020-01-01"}, []),
    ):
        found = (await office.get("/requests", params=params)).json()
        assert [row["id"] for row in found["data"]] == expected, params


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("since", "yesterday"),
        ("status", "fine"),
        ("status", "99"),
        ("status", "9" * 400),
        ("min_cost_usd", "-1"),
        ("min_cost_usd", "nan"),
        ("feedback", "great"),
        ("q", " "),
        ("q", "x" * 201),
        ("before", "7"),
        ("limit", "0"),
        ("colour", "blue"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(office, param, value):
    assert error_of(await office.get("/requests", params={param: value}), 400)["param"] == param


async def test_one_that_there_is_not(office):
    for method, path in (("GET", ""), ("POST", "/feedback"), ("POST", "/replay"), ("DELETE", f"/feedback/{uuid4()}")):
        body = {"verdict": "good"} if path == "/feedback" else {}
        answer = await office.request(method, f"/requests/{uuid4()}{path}", json=body)
        assert error_of(answer, 404)["param"] == "id"
        assert error_of(await office.request(method, f"/requests/7{path}", json=body), 400)["param"] == "id"
    assert error_of(await office.get("/requests", params={"before": str(uuid4())}), 404)["param"] == "before"


async def test_one_is_told_with_its_reasons(site, office):
    made = await asked(site, HARD)
    told = (await office.get(f"/requests/{made}")).json()
    assert (told["object"], told["id"], told["endpoint"], told["answered_by"]) == ("request", made, "large", "large")
    assert (told["text"], told["stored"], told["absent"]) == (HARD, {"text": True, "vector": True}, ["routing_ms"])
    rows = {row["endpoint"]: row for row in told["candidates"]}
    chosen = rows["large"]
    assert chosen["chosen"]
    assert not rows["small"]["chosen"]
    low, high = chosen["interval"]
    assert 0 <= low <= chosen["quality"] <= high <= 1
    assert chosen["value"] == pytest.approx(chosen["quality"] - chosen["cost_usd"] / told["worth_usd"])
    assert max(rows, key=lambda name: rows[name]["value"]) == "large"
    assert told["switch"]["below"]["endpoint"] in rows
    assert 0 <= told["draw"] < 1
    assert told["guard"]["admits"] == {"small": True, "mid": True, "large": True}
    assert told["evidence"]["policy"] == "knn@1"
    near = told["evidence"]["neighbours"]
    assert near[0]["cosine"] > 0.5
    assert set(near[0]["quality"]) == {"small", "mid", "large"}
    (attempt,) = told["attempts"]
    assert attempt["tokens"]["output"] > 0
    assert told["timings"]["total_ms"] == attempt["latency_ms"]
    assert told["cost_nusd"] == attempt["cost_nusd"]


async def test_without_stored_text_it_says_so_and_shows_none(start, office_of):
    site = await start(store_text=False)
    made = await asked(site, "a secret of mine")
    office = await office_of(site)
    answer = await office.get(f"/requests/{made}")
    assert answer.json()["text"] is None
    assert "text" in answer.json()["absent"]
    assert "secret" not in answer.text
    assert "secret" not in (await office.get("/requests")).text
    assert (await office.get("/requests", params={"q": "secret"})).json()["data"] == []


async def test_a_pinned_one_was_never_scored(site, office):
    made = await asked(site, EASY, model="large")
    told = (await office.get(f"/requests/{made}")).json()
    assert (told["reason"], told["guard"], told["draw"], told["evidence"]) == ("pinned", None, None, None)
    assert set(told["absent"]) == {"routing_ms", "vector", "scores"}
    assert [row["interval"] for row in told["candidates"]] == [None, None, None]


async def test_an_operator_rates_it_and_takes_that_back(site, office):
    made = await asked(site, EASY)
    said = (await office.post(f"/requests/{made}/feedback", json={"verdict": "bad", "note": "<b>wrong</b>"})).json()
    assert (said["status"], said["quality"], said["decision_id"]) == ("recorded", 0.0, made)
    (kept,) = (await site.record(made)).feedback
    assert (str(kept.id), kept.source, kept.comment, kept.tenant) == (said["id"], "label", "<b>wrong</b>", "default")
    (told,) = (await office.get(f"/requests/{made}")).json()["feedback"]
    assert (told["note"], told["source"], told["judge"]) == ("<b>wrong</b>", "label", None)
    for _ in range(2):
        gone = await office.delete(f"/requests/{made}/feedback/{said['id']}")
        assert gone.json()["status"] == "revoked"
    assert (await office.get(f"/requests/{made}")).json()["feedback"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "score"),
        ({"score": 0.5, "verdict": "good"}, "score"),
        ({"score": 1.5}, "score"),
        ({"verdict": "so so"}, "verdict"),
        ({"verdict": "good", "source": "judge"}, "source"),
        ({"verdict": "good", "note": "x" * 2001}, "note"),
        ({"verdict": "good", "colour": "blue"}, "colour"),
    ],
)
async def test_a_rating_that_is_none_is_refused_by_name(site, office, body, param):
    made = await asked(site, EASY)
    assert error_of(await office.post(f"/requests/{made}/feedback", json=body), 400)["param"] == param


async def test_feedback_of_another_request_cannot_be_taken_back_here(site, office):
    one, other = await asked(site, EASY), await asked(site, HARD)
    said = (await office.post(f"/requests/{one}/feedback", json={"score": 1})).json()
    answer = await office.delete(f"/requests/{other}/feedback/{said['id']}")
    assert error_of(answer, 404)["param"] == "feedback_id"
    assert error_of(await office.delete(f"/requests/{one}/feedback/7"), 400)["param"] == "feedback_id"


async def test_a_viewer_finds_requests_and_reads_nobodys_words(site, office, visitor):
    made = await asked(site, HARD)
    await office.post(f"/requests/{made}/feedback", json={"score": 1, "note": "as I told you: indemnity"})
    for path in ("/requests", f"/requests/{made}", "/requests?q=indemnity"):
        answer = await visitor.get(path)
        assert answer.status_code == 200
        assert "indemnity" not in answer.text
    assert (await visitor.get("/requests", params={"q": "indemnity"})).json()["data"] == []
    assert [row["id"] for row in (await visitor.get("/requests", params={"q": made})).json()["data"]] == [made]


async def test_what_an_operator_said_is_in_the_trail(site, office):
    made = await asked(site, EASY)
    said = (await office.post(f"/requests/{made}/feedback", json={"score": 1, "note": "a secret"})).json()
    await office.delete(f"/requests/{made}/feedback/{said['id']}")
    await office.post(f"/requests/{made}/replay", json={})
    answer = await office.get("/events")
    told = [(row["action"], row["subject"]) for row in answer.json()["data"]]
    assert told == [("request.feedback.revoke", made), ("request.feedback", made)]
    assert "a secret" not in answer.text
