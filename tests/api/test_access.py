"""Keys over the admin API: roles, what is shown once, and the trail of who did what."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from router_gateway.core.errors import LedgerUnavailable
from router_gateway.ledger.admin_events import AdminEvents
from tests.api.building import EASY, error_of
from tests.api.conftest import admin_client


async def test_a_key_knows_its_name_and_role(office, visitor):
    admin, viewer = (await office.get("/me")).json(), (await visitor.get("/me")).json()
    assert (admin["name"], admin["role"], admin["sees_text"]) == ("operator", "admin", True)
    assert (viewer["name"], viewer["role"], viewer["sees_text"]) == ("onlooker", "viewer", False)


async def test_a_made_key_is_shown_once_and_works(site, office):
    body = {"name": "laptop", "tenant": "acme", "allows": ["small"], "note": "for Ann"}
    made = (await office.post("/keys", json=body)).json()
    assert (made["name"], made["tenant"], made["allows"], made["role"]) == ("laptop", "acme", ["small"], "user")
    found = site.keys.find(made["secret"])
    assert (found.name, found.tenant, found.allows, found.admin) == ("laptop", "acme", ("small",), False)
    answer = await site.chat(EASY, headers={"authorization": f"Bearer {made['secret']}"})
    assert answer.headers["x-router-model"] == "small"
    for path in ("/keys", "/events"):
        assert made["secret"] not in (await office.get(path)).text
    (event,) = (await office.get("/events", params={"action": "key"})).json()["data"]
    assert (event["action"], event["subject"], event["note"]) == (
        "key.create",
        f"laptop ({made['prefix']}…)",
        "for Ann",
    )
    assert event["author"].startswith("operator (rg-")


@pytest.mark.parametrize("role", ["user", "viewer", "admin"])
async def test_a_made_key_has_its_role_and_no_more(site, office, role):
    secret = (await office.post("/keys", json={"name": "new", "role": role})).json()["secret"]
    async with admin_client(site, secret) as client:
        reading, changing = await client.get("/keys"), await client.post("/keys", json={"name": "another"})
    assert reading.status_code == (403 if role == "user" else 200)
    assert changing.status_code == (200 if role == "admin" else 403)


async def test_an_expired_key_is_no_key(site, office):
    soon = datetime.now(UTC) + timedelta(hours=1)
    made = (await office.post("/keys", json={"name": "guest", "expires_at": soon.isoformat()})).json()
    assert datetime.fromisoformat(made["expires_at"]) == soon
    bearer = {"authorization": f"Bearer {made['secret']}"}
    assert (await site.chat(EASY, headers=bearer)).status_code == 200
    (remembered,) = [r for r in site.auth._remembered.values() if r.key is not None and r.key.name == "guest"]
    object.__setattr__(remembered.key, "expires_at", datetime.now(UTC))
    assert error_of(await site.chat(EASY, headers=bearer), 401)["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "x", "role": "root"}, "role"),
        ({"name": "x", "tenant": "\x00"}, "tenant"),
        ({"name": "x", "allows": ["*"] * 101}, "allows"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"name": "x", "secret": "rg-mine"}, "secret"),
    ],
)
async def test_a_key_that_cannot_be_is_refused_by_field(site, office, body, param):
    before = len(site.keys.list())
    assert error_of(await office.post("/keys", json=body), 400)["param"] == param
    assert len(site.keys.list()) == before
    assert (await office.get("/events")).json()["data"] == []


async def test_keys_are_listed_without_their_secret_and_revoked(site, office):
    secret = site.keys.create("laptop", "acme")
    answer = await office.get("/keys")
    rows = {row["name"]: row for row in answer.json()["data"]}
    assert (rows["laptop"]["tenant"], rows["laptop"]["admin"], rows["operator"]["admin"]) == ("acme", False, True)
    assert secret not in answer.text
    assert "sha256" not in answer.text
    gone = await office.delete(f"/keys/{rows['laptop']['id']}", params={"note": "lost"})
    assert gone.json()["status"] == "revoked"
    assert site.keys.find(secret) is None
    assert error_of(await office.delete(f"/keys/{rows['laptop']['id']}"), 404)["code"] == "not_found"
    assert error_of(await office.delete("/keys/7"), 400)["param"] == "key_id"
    assert error_of(await office.delete(f"/keys/{uuid4()}"), 404)
    (event,) = (await office.get("/events")).json()["data"]
    assert (event["action"], event["note"]) == ("key.revoke", "lost")
    assert UUID(event["detail"]["id"]) == UUID(rows["laptop"]["id"])


async def test_the_trail_names_the_person_behind_a_service_key(site, office):
    named = {"x-router-actor": "zoë@example.com".encode()}
    made = (await office.post("/keys", json={"name": "laptop"}, headers=named)).json()
    await office.delete(f"/keys/{made['id']}")
    revoked, created = (await office.get("/events")).json()["data"]
    assert created["author"].startswith("zoë@example.com via operator (rg-")
    assert revoked["author"].startswith("operator (rg-")
    assert created["id"] < revoked["id"]
    (older,) = (await office.get("/events", params={"before": revoked["id"]})).json()["data"]
    assert older == created


@pytest.mark.parametrize("actor", [b"", b"x" * 201, b"a\xff", "a\u202eb".encode(), b"tab\there"])
async def test_an_actor_that_would_spoil_the_trail_is_refused_before_anything_is_done(site, office, actor):
    before = len(site.keys.list())
    answer = await office.post("/keys", json={"name": "laptop"}, headers={"x-router-actor": actor})
    assert error_of(answer, 400)["param"] == "x-router-actor"
    assert len(site.keys.list()) == before


async def test_a_question_that_is_posted_is_no_deed(office):
    asked = {"messages": [{"role": "user", "content": EASY}]}
    assert (await office.post("/decide", json=asked)).status_code == 200
    assert (await office.get("/events")).json()["data"] == []


async def test_every_change_is_in_the_trail_though_its_handler_says_nothing(site, office):
    draft = {"name": "thrifty", "changes": {"worth_usd": 0.001}, "note": "cheaper"}
    assert (await office.post("/lifecycle/candidates", json=draft)).status_code == 200
    assert (await office.post("/lifecycle/candidates/thrifty/shadow", json={})).status_code == 200
    events = (await office.get("/events")).json()["data"]
    assert [event["action"] for event in events] == ["candidate.shadow", "candidate.draft"]
    assert (events[1]["subject"], events[1]["note"]) == ("thrifty", "cheaper")
    assert error_of(await office.get("/events", params={"before": "last"}), 400)["param"] == "before"


async def test_a_change_that_the_trail_missed_is_not_passed_over_in_silence(office, monkeypatch, caplog):
    def away(self, event):
        raise LedgerUnavailable("the ledger's database does not answer")

    monkeypatch.setattr(AdminEvents, "append", away)
    assert error_of(await office.post("/keys", json={"name": "laptop"}), 503)["code"] == "ledger_unavailable"
    assert "done, but not in the trail: key.create laptop (rg-" in caplog.text
