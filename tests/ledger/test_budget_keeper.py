"""Budgets as the gateway holds them: fresh within a moment, given back by who leaves, written after an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from router_gateway.core.errors import BudgetExceeded, LedgerUnavailable
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Endpoint, Query
from router_gateway.ledger.budget_keeper import BudgetKeeper
from router_gateway.ledger.budgets import Budgets
from router_gateway.routing.bound import CostBound

NOW = datetime(2030, 5, 17, 12, 30, tzinfo=UTC)
SMALL = Endpoint(
    name="small",
    model="m",
    price_input_usd_per_mtok=Decimal(1),
    price_output_usd_per_mtok=Decimal(10),
    price_cached_input_usd_per_mtok=Decimal(1),
    price_cache_write_usd_per_mtok=Decimal(2),
    context_tokens_max=8_000,
)
DEAR_NUSD = 20 * 2_000 + 100 * 10_000  # 10 tokens and the margin's double, at the dearest prompt price; 100 out


def query() -> Query:
    return Query(id=uuid7(), text="x", tokens_input=10, tokens_output_max=100)


def attempt(of: Query, cost_nusd: int) -> Attempt:
    return Attempt(query_id=of.id, number=1, at=NOW, endpoint="small", status=200, cost_nusd=cost_nusd, latency_ms=1.0)


@pytest.fixture
def keeper(engine: Engine) -> Iterator[BudgetKeeper]:
    bound = CostBound(endpoints={"small": SMALL}, prompt_margin=2.0)
    keeper = BudgetKeeper(engine, bound=bound, refresh_s=0.05, now=lambda: NOW)
    keeper.start()
    yield keeper
    keeper.close()


def state(engine: Engine) -> tuple[int, int]:
    (found,) = Budgets(engine).states(NOW)
    return found.spent_nusd, found.reserved_nusd


async def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return condition()


async def test_a_new_budget_binds_running_gateways_soon(engine: Engine, keeper: BudgetKeeper) -> None:
    key_id = uuid7()
    assert keeper.budgets_of(key_id, "acme") == ()
    mine = Budgets(engine).set("key", str(key_id), "hour", DEAR_NUSD)
    Budgets(engine).set("tenant", "other", "hour", 1)
    assert await eventually(lambda: keeper.budgets_of(key_id, "acme") == (mine,))
    asked = query()
    hold = await keeper.set_aside([mine], asked, ["small"])
    assert hold is not None
    with pytest.raises(BudgetExceeded):
        await keeper.set_aside([mine], query(), ["small"])
    hold.add(attempt(asked, 7))
    hold.close()
    hold.close()
    assert await eventually(lambda: {each.spent_nusd for each in Budgets(engine).states(NOW)} == {7, 0})


async def test_who_is_cancelled_while_waiting_gets_it_all_given_back(engine: Engine, keeper: BudgetKeeper) -> None:
    budget = Budgets(engine).set("gateway", "", "hour", 10 * DEAR_NUSD)
    waiting = [asyncio.ensure_future(keeper.set_aside([budget], query(), ["small"])) for _ in range(8)]
    await asyncio.sleep(0.005)
    for task in waiting:
        task.cancel()
    got = await asyncio.gather(*waiting, return_exceptions=True)
    for hold in got:
        if hold is not None and not isinstance(hold, BaseException):
            hold.close()
    assert await eventually(lambda: not keeper._threads._work_queue.qsize() and state(engine) == (0, 0))


async def test_what_could_not_be_settled_in_an_outage_is_settled_after_it(engine: Engine, keeper: BudgetKeeper) -> None:
    budget = Budgets(engine).set("gateway", "", "hour", 10 * DEAR_NUSD)
    asked = query()
    hold = await keeper.set_aside([budget], asked, ["small"])
    assert hold is not None
    assert state(engine) == (0, DEAR_NUSD)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE reservations RENAME TO away"))
    with pytest.raises(LedgerUnavailable):
        await keeper.set_aside([budget], query(), ["small"])
    hold.add(attempt(asked, 7))
    hold.close()
    assert await eventually(lambda: len(keeper._unsettled) >= 1)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO reservations"))
    assert await eventually(lambda: state(engine) == (7, 0))


async def test_an_answer_that_streams_is_settled_when_its_last_attempt_ends(
    engine: Engine, keeper: BudgetKeeper
) -> None:
    budget = Budgets(engine).set("gateway", "", "hour", 10 * DEAR_NUSD)
    asked = query()
    hold = await keeper.set_aside([budget], asked, ["small"])
    assert hold is not None
    hold.add(attempt(asked, 5))  # a try that failed and was billed
    hold.await_last()
    assert state(engine) == (0, DEAR_NUSD)
    hold.add(attempt(asked, 6))
    assert await eventually(lambda: state(engine) == (11, 0))


@pytest.mark.parametrize(
    ("choices", "answers"), [(1, 1), (3, 3), (None, 1), ("9", 1), (-4, 1), (True, 1), (10**9, 128)]
)
def test_every_answer_asked_for_counts(choices: object, answers: int) -> None:
    bound = CostBound(endpoints={"small": SMALL}, prompt_margin=2.0)
    assert bound.cost_nusd(["small"], query(), choices=choices) == 20 * 2_000 + answers * 100 * 10_000


def test_an_answer_without_a_bound_counts_as_assumed_or_as_all_the_context_allows() -> None:
    free = Query(id=uuid7(), text="x", tokens_input=10)
    assumed = CostBound(endpoints={"small": SMALL}, output_tokens_assumed=50, prompt_margin=1.0)
    assert assumed.cost_nusd(["small", "unknown"], free) == 10 * 2_000 + 50 * 10_000
    widest = CostBound(endpoints={"small": SMALL}, output_tokens_assumed=None, prompt_margin=1.0)
    assert widest.cost_nusd(["small"], free) == 10 * 2_000 + 7_990 * 10_000
    assert widest.cost_nusd(["small"], free, choices=2) == 10 * 2_000 + 2 * 7_990 * 10_000
    boundless = Query(id=uuid7(), text="x", tokens_input=10**6, tokens_output_max=10**9)
    assert assumed.cost_nusd(["small"], boundless) == 8_000 * 2_000 + 8_000 * 10_000
    assert widest.cost_nusd([], free) == 0
    assert widest.lasts_s(["small", "small"]) == SMALL.timeout_s
