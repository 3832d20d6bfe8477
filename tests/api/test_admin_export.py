"""The ledger's export over the admin API: who gets what, in which form, and that it is on record."""

import csv
import io
import json

import pytest

from router_gateway.ledger import outcome_rows
from tests.api.building import EASY, HARD, error_of
from tests.api.conftest import admin_client


@pytest.fixture
async def offices(start):
    """A gateway that stores prompts and has answered three, with clients of an admin and of a viewer."""
    site = await start(store_text=True)
    for text in (EASY, HARD, EASY):
        assert (await site.chat(text)).status_code == 200
    assert site.ledger.drain()
    admin = admin_client(site, site.keys.create("operator", admin=True))
    viewer = admin_client(site, site.keys.create("onlooker", viewer=True))
    async with admin, viewer:
        yield admin, viewer


def rows_of(answer):
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_an_admin_gets_prompts_where_he_asks_for_them(offices):
    admin, _ = offices
    plain = rows_of(await admin.get("/export", params={"format": "jsonl"}))
    assert [(row["prompt"], row["model"]) for row in plain] == [(None, "small"), (None, "large"), (None, "small")]
    assert all(row["vector"] for row in plain)
    told = rows_of(await admin.get("/export", params={"format": "jsonl", "text": "true"}))
    assert [row["prompt"] for row in told] == [EASY, HARD, EASY]
    events = (await admin.get("/events", params={"action": "ledger.export"})).json()["data"]
    assert [(e["subject"], e["detail"]) for e in events] == [("jsonl", {"text": "true"}), ("jsonl", {})]
    assert events[0]["author"].startswith("operator (rg-")


async def test_a_viewer_gets_neither_prompts_nor_vectors_and_is_on_record(offices):
    admin, viewer = offices
    for row in rows_of(await viewer.get("/export", params={"format": "jsonl"})):
        assert (row["prompt"], row["vector"]) == (None, None)
        assert row["cost_usd"] > 0
    assert error_of(await viewer.get("/export", params={"text": "true"}), 403)["code"] == "read_only_role"
    (event,) = (await admin.get("/events", params={"action": "ledger"})).json()["data"]
    assert event["author"].startswith("onlooker (rg-")


async def test_pages_follow_each_other_without_a_seam_in_csv_as_well(offices, monkeypatch):
    admin, _ = offices
    monkeypatch.setattr(outcome_rows, "PAGE_DECISIONS", 1)
    answer = await admin.get("/export", params={"text": "true"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="ledger.csv"'
    assert "content-length" not in answer.headers
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["prompt"] for row in rows] == [EASY, HARD, EASY]
    assert list(rows[0]) == list(outcome_rows.COLUMNS)
    empty = await admin.get("/export", params={"since": "2999-01-01"})
    assert empty.text.splitlines() == [",".join(outcome_rows.COLUMNS)]


@pytest.mark.parametrize(
    ("params", "param"),
    [({"format": "xls"}, "format"), ({"text": "yes"}, "text"), ({"since": "noon"}, "since"), ({"limit": "5"}, "limit")],
)
async def test_what_is_no_export_is_refused_and_not_on_record(offices, params, param):
    admin, _ = offices
    assert error_of(await admin.get("/export", params=params), 400)["param"] == param
    assert (await admin.get("/events")).json()["data"] == []
