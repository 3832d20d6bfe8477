"""GET /admin/api/overview, from a gateway that served something."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.api.building import EASY, HARD, error_of


@pytest.fixture
async def office(site):
    headers = {"authorization": f"Bearer {site.keys.create('operator', admin=True)}"}
    url = f"{site.url}/admin/api"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


async def test_what_was_served_is_there_by_endpoint_and_step(site, office):
    answers = [await site.chat(text) for text in (EASY, EASY, HARD)]
    said = {"decision_id": answers[0].headers["x-router-decision-id"], "score": 0.75}
    assert (await site.client.post("/v1/feedback", json=said)).status_code == 200
    assert site.ledger.drain()
    body = (await office.get("/overview")).json()
    assert (body["object"], body["step"]) == ("overview", "hour")
    assert len(body["steps"]) in (24, 25)
    rows = {row["endpoint"]: row for row in body["endpoints"]}
    assert {name: sum(row["requests"]) for name, row in rows.items()} == {"small": 2, "large": 1}
    for row in rows.values():
        series = ("requests", "errors", "cost_nusd", "latency_p50_ms", "latency_p95_ms", "rated")
        assert {len(row[name]) for name in series} == {len(body["steps"])}
        assert row["total"]["latency_p50_ms"] > 0
    assert [quality for quality in rows["small"]["quality"] if quality is not None] == [0.75]
    assert rows["large"]["quality"] is None
    totals = body["totals"]
    assert (totals["requests"], totals["answers"], totals["errors"], totals["rated"]) == (3, 3, 0, 1)
    assert totals["cost_usd"] == totals["cost_nusd"] / 1e9 > 0
    assert totals["quality"] == 0.75
    assert body["expected"]["decisions"] == 3
    assert [of["endpoint"] for of in body["expected"]["endpoints"]] == ["large", "mid", "small"]


async def test_days_where_the_time_is_long_and_where_they_are_asked_for(office):
    now = datetime.now(UTC)
    body = (await office.get("/overview", params={"since": (now - timedelta(days=30)).isoformat()})).json()
    assert (body["step"], len(body["steps"])) == ("day", 31)
    asked = {"since": "2030-01-01T05:00:00", "until": "2030-01-02T00:00:00Z", "step": "day"}
    body = (await office.get("/overview", params=asked)).json()
    assert (body["since"], body["until"]) == ("2030-01-01T00:00:00+00:00", "2030-01-02T00:00:00+00:00")


@pytest.mark.parametrize(
    ("param", "asked"),
    [
        ("since", {"since": "yesterday"}),
        ("until", {"until": "soon"}),
        ("until", {"since": "2030-01-02", "until": "2030-01-01"}),
        ("step", {"step": "week"}),
        ("step", {"since": "2030-01-01", "until": "2031-01-01", "step": "hour"}),
        ("step", {"since": "0001-01-01", "step": "hour"}),
    ],
)
async def test_what_cannot_be_answered_is_refused_by_name(office, param, asked):
    assert error_of(await office.get("/overview", params=asked), 400)["param"] == param
