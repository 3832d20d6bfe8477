"""Budgets over HTTP: who is refused and how, what is booked, and that nobody slips through at once."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from sqlalchemy import text

from router_gateway.core.types import Usage
from router_gateway.dispatch.echo import Echo
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.engine import migrate
from tests.api.building import EASY, endpoint, error_of, running
from tests.ledger import conftest as databases

postgres_server = databases.postgres_server
postgres = databases.postgres
postgres_url = databases.postgres_url

ANSWER_TOKENS = 200
USAGE = Usage(tokens_input=100, tokens_output=ANSWER_TOKENS)


@pytest.fixture
async def start(tmp_path):
    async with AsyncExitStack() as stack:

        async def make(**changes):
            site = await stack.enter_async_context(running(tmp_path, **changes))
            site.gateway.budgets._now = lambda: datetime(2030, 5, 17, 12, 30, tzinfo=UTC)
            return site

        yield make


def give(site, scope, subject, limit_nusd, period="day"):
    budget = Budgets(site.ledger.engine).set(scope, subject, period, limit_nusd)
    site.gateway.budgets.refresh()
    return budget


async def state(site):
    """(spent, reserved) of the only budget, once every call has been settled that ended."""
    for _ in range(200):
        (found,) = Budgets(site.ledger.engine).states(site.gateway.budgets._now())
        if found.reserved_nusd == 0:
            break
        await asyncio.sleep(0.02)
    return found.spent_nusd, found.reserved_nusd


async def test_a_spent_budget_is_a_402_that_sdks_do_not_retry(start):
    site = await start()
    give(site, "tenant", "default", 1)
    response = await site.chat(EASY)
    error = error_of(response, 402)
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    assert "tenant default, per day" in error["message"]
    assert "renews at 2030-05-18T00:00:00Z" in error["message"]
    assert response.headers["x-should-retry"] == "false"
    assert error_of(await site.chat(EASY, stream=True), 402)["code"] == "budget_exceeded"
    assert site.echo.calls == []
    assert (await site.rows())["decisions"] == 0
    elsewhere = {"authorization": f"Bearer {site.keys.create('other', tenant='acme')}"}
    assert (await site.chat(EASY, headers=elsewhere)).status_code == 200


async def test_a_budget_of_one_key_binds_that_key_only(start):
    site = await start()
    mine = site.keys.create("mine")
    give(site, "key", str(site.keys.named(mine[:11]).id), 1)
    assert (await site.chat(EASY, headers={"authorization": f"Bearer {mine}"})).status_code == 402
    assert (await site.chat(EASY)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [None, "refused", "breaks_off", "bad_request"])
async def test_what_is_booked_is_what_the_attempts_cost(start, stream, failure):
    site = await start(echoes={"small": Echo(usage=USAGE, failure=failure)})
    give(site, "gateway", "", 10**9)
    await site.chat(EASY, stream=stream)
    assert site.echo.calls
    spent, reserved = await state(site)
    await site.rows()
    assert reserved == 0
    with site.ledger.engine.connect() as connection:
        assert spent == connection.execute(text("SELECT sum(cost_nusd) FROM attempts")).scalar_one()
    assert spent > 0 or failure == "bad_request"


async def test_a_client_that_leaves_gets_no_money_stuck(start):
    site = await start(echoes={name: Echo(latency_s=30.0) for name in ("small", "mid", "large")})
    give(site, "gateway", "", 10**9)
    with pytest.raises(httpx.ReadTimeout):
        await site.client.post(
            "/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": EASY}]},
            timeout=1.0,
        )
    assert (await state(site))[1] == 0


async def test_a_database_that_is_away_leaves_no_caller_with_a_budget_unlimited(start):
    site = await start()
    give(site, "tenant", "default", 10**9)
    with site.ledger.engine.begin() as connection:
        connection.execute(text("DROP TABLE reservations"))
    assert error_of(await site.chat(EASY), 503)["code"] == "ledger_unavailable"
    assert site.echo.calls == []
    elsewhere = {"authorization": f"Bearer {site.keys.create('other', tenant='acme')}"}
    assert (await site.chat(EASY, headers=elsewhere)).status_code == 200


async def test_free_endpoints_need_no_budget(start):
    free = {f"price_{kind}_usd_per_mtok": Decimal(0) for kind in ("input", "output", "cached_input", "cache_write")}
    site = await start(endpoints=[endpoint("small", **free)])
    give(site, "gateway", "", 0)
    assert (await site.chat(EASY)).status_code == 200


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_of_500_at_once_a_budget_for_50_answers_50(start, database, request):
    """Every answer costs exactly what was set aside for it: prompts are free, answers as long as allowed."""
    url = None
    if database == "postgres":
        url = request.getfixturevalue("postgres_url")
        migrate(url)
    pool = [
        endpoint("small", **{f"price_{k}_usd_per_mtok": Decimal(0) for k in ("input", "cached_input", "cache_write")})
    ]
    site = await start(
        endpoints=pool, echoes={"small": Echo(usage=USAGE)}, requests_in_flight_max=1000, database_url=url
    )
    each_nusd = int(ANSWER_TOKENS * pool[0].price_output_usd_per_mtok * 1000)
    give(site, "tenant", "default", 50 * each_nusd)
    members = {"max_completion_tokens": ANSWER_TOKENS}
    responses = await asyncio.gather(*(site.chat(EASY, **members) for _ in range(500)))
    codes = [response.status_code for response in responses]
    assert (codes.count(200), codes.count(402)) == (50, 450)
    assert await state(site) == (50 * each_nusd, 0)
    assert len(site.echo.calls) == 50


async def test_what_is_left_is_exposed(start):
    site = await start(echoes={"small": Echo(usage=USAGE)})
    give(site, "gateway", "", 10**6)
    await site.chat(EASY, max_completion_tokens=ANSWER_TOKENS)
    spent, _ = await state(site)
    site.gateway.budgets.refresh()
    assert site.gateway.budgets.remaining_ratios() == {"gateway": pytest.approx(1 - spent / 10**6)}
