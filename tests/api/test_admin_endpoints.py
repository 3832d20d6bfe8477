"""The admin API's endpoints: health, circuit, load, latency, prices over time, and calibration."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from router_gateway.core.prices import ALWAYS, PriceChange
from router_gateway.dispatch.echo import Echo
from tests.api.building import EASY, HARD, endpoint, error_of


async def row_of(office, name):
    return next(each for each in (await office.get("/endpoints")).json()["data"] if each["name"] == name)


async def test_an_endpoint_that_was_never_asked_is_idle(office):
    one = (await office.get("/endpoints/small")).json()
    assert (one["health"], one["circuit"], one["circuit_since"], one["in_flight"]) == ("idle", "closed", None, 0)
    assert one["recent"] == {
        "attempts": 0,
        "oldest": None,
        "error_rate": None,
        "errors": {},
        "latency_ms": None,
        "first_byte_ms": None,
    }


async def test_what_it_answered_shows_as_percentiles(site, office):
    for _ in range(4):
        await site.chat(EASY, model="small")
    assert site.ledger.drain()
    row = await row_of(office, "small")
    assert (row["health"], row["recent"]["attempts"], row["recent"]["error_rate"]) == ("healthy", 4, 0.0)
    ranks = row["recent"]["latency_ms"]
    assert 0 < ranks["p50"] <= ranks["p95"] <= ranks["p99"]
    assert (await office.get("/endpoints/small")).json()["recent"] == row["recent"]
    assert (await row_of(office, "large"))["recent"]["attempts"] == 0


async def test_an_open_circuit_says_since_when_and_why(site, office):
    site.echo.echoes["small"] = Echo(failure="refused")
    before = datetime.now(UTC)
    for _ in range(5):
        await site.chat(EASY, model="small")
    assert site.ledger.drain()
    row = await row_of(office, "small")
    assert (row["health"], row["circuit"], row["failures_in_a_row"]) == ("down", "open", 5)
    assert row["circuit_why"].startswith("5 failures in a row (")
    assert before <= datetime.fromisoformat(row["circuit_since"]) < datetime.fromisoformat(row["circuit_until"])
    assert row["recent"]["error_rate"] == 1.0
    assert sum(row["recent"]["errors"].values()) == 5


async def test_calls_under_way_are_its_load(site, office):
    site.echo.echoes["small"] = Echo(latency_s=20)
    calls = [asyncio.ensure_future(site.chat(EASY, model="small")) for _ in range(2)]
    async with asyncio.timeout(20):
        while (await row_of(office, "small"))["in_flight"] != 2:
            await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    async with asyncio.timeout(20):
        while (await row_of(office, "small"))["in_flight"]:
            await asyncio.sleep(0.01)


async def test_prices_come_with_the_dates_on_which_they_change(start, office_of):
    cheap, dear = Decimal("0.10"), Decimal("0.90")
    changes = [
        PriceChange(
            at=at,
            price_input_usd_per_mtok=price,
            price_output_usd_per_mtok=price,
            price_cached_input_usd_per_mtok=price,
            price_cache_write_usd_per_mtok=price,
        )
        for at, price in ((ALWAYS, cheap), (datetime(2999, 1, 1, tzinfo=UTC), dear))
    ]
    site = await start(endpoints=[replace(endpoint("small"), price_changes=tuple(changes)), endpoint("mid")])
    office = await office_of(site)
    one = (await office.get("/endpoints/small")).json()
    assert one["price_input_usd_per_mtok"] == "0.10"
    history = [(each["since"], each["until"], each["price_output_usd_per_mtok"]) for each in one["price_history"]]
    turn = "2999-01-01T00:00:00+00:00"
    assert history == [(None, turn, "0.10"), (turn, None, "0.90")]
    assert len((await office.get("/endpoints/mid")).json()["price_history"]) == 1


async def test_calibration_compares_what_was_expected_with_what_was_said(site, office):
    told = []
    for text, score in ((EASY, 1.0), (EASY, 1.0), (HARD, 0.0)):
        answer = await site.chat(text)
        told.append(answer.headers["x-router-decision-id"])
        said = {"decision_id": told[-1], "score": score}
        assert (await site.client.post("/v1/feedback", json=said)).status_code == 200
    await site.client.post("/v1/feedback", json={"decision_id": told[0], "score": 0.5})  # the second word counts
    records = [await site.record(each) for each in told]
    for name in {record.answered_by for record in records}:
        rows = [
            (record.decision.quality[record.decision.endpoints.index(name)], score)
            for record, score in zip(records, (0.5, 1.0, 0.0), strict=True)
            if record.answered_by == name
        ]
        found = (await office.get(f"/endpoints/{name}/calibration")).json()
        assert found["n"] == len(rows) == sum(each["n"] for each in found["bins"])
        assert found["brier"] == pytest.approx(sum((guess - said) ** 2 for guess, said in rows) / len(rows))
        assert found["said"] == pytest.approx(sum(said for _, said in rows) / len(rows))
        assert 0 <= found["ece"] <= 1
        assert all(0 <= each["low"] <= each["said"] <= each["high"] <= 1 for each in found["bins"])


async def test_calibration_passes_over_what_was_not_scored_or_was_taken_back(site, office):
    pinned = await site.chat(EASY, model="small")
    scored = await site.chat(EASY)
    ids = []
    for answer in (pinned, scored):
        said = {"decision_id": answer.headers["x-router-decision-id"], "score": 1.0}
        ids.append((await site.client.post("/v1/feedback", json=said)).json()["id"])
    await site.client.delete(f"/v1/feedback/{ids[1]}")
    assert site.ledger.drain()
    for name in ("small", "mid", "large"):
        found = (await office.get(f"/endpoints/{name}/calibration")).json()
        assert (found["n"], found["ece"], found["bins"]) == (0, None, [])


async def test_an_unknown_endpoint_is_named(office):
    for path in ("/endpoints/no-such", "/endpoints/no-such/calibration"):
        assert error_of(await office.get(path), 404)["param"] == "name"
