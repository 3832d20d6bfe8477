"""Budgets in the database: what is set aside, what is settled, and what two at once may take."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select

from router_gateway.core.errors import BudgetExceeded, NotFound, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt
from router_gateway.ledger.budgets import Budget, Budgets, BudgetState
from router_gateway.ledger.connections import writing
from router_gateway.ledger.records import attempt_record, decision_record
from router_gateway.ledger.reservations import reserve, settle, sweep
from router_gateway.ledger.tables import reservations
from tests.ledger.inserting import insert
from tests.ledger.test_ledger import a_decision, a_query

NOW = datetime(2030, 1, 31, 23, 59, 30, tzinfo=UTC)  # any instant shortly before an hour, a day and a month end
SOON = NOW + timedelta(minutes=5)


def take(engine: Engine, caller: list[Budget], amount_nusd: int, query_id: UUID | None = None) -> UUID:
    query_id = query_id or uuid7()
    reserve(engine, caller, query_id, amount_nusd, now=NOW, expires_at=SOON)
    return query_id


def state(engine: Engine, budget: Budget, now: datetime = NOW) -> tuple[int, int]:
    """(spent, reserved) in nano-dollars."""
    found: dict[UUID, BudgetState] = {each.budget.id: each for each in Budgets(engine).states(now)}
    return found[budget.id].spent_nusd, found[budget.id].reserved_nusd


def attempt(engine: Engine, query_id: UUID, number: int, cost_nusd: int) -> None:
    row = Attempt(
        query_id=query_id, number=number, at=NOW, endpoint="small", status=200, cost_nusd=cost_nusd, latency_ms=1.0
    )
    with writing(engine) as connection:
        insert(connection, attempt_record(row))


@pytest.fixture
def budget(engine: Engine) -> Budget:
    return Budgets(engine).set("gateway", "", "day", 100)


def test_what_is_set_aside_becomes_what_was_spent(engine: Engine, budget: Budget) -> None:
    query_id = take(engine, [budget], 60)
    assert state(engine, budget) == (0, 60)
    settle(engine, query_id, 45)
    assert state(engine, budget) == (45, 0)


def test_settling_again_and_releasing_after_it_change_nothing(engine: Engine, budget: Budget) -> None:
    query_id = take(engine, [budget], 60)
    for total_nusd in (45, 45, 0):
        settle(engine, query_id, total_nusd)
    assert state(engine, budget) == (45, 0)


def test_setting_aside_again_for_the_same_query_takes_nothing_more(engine: Engine, budget: Budget) -> None:
    query_id = take(engine, [budget], 60)
    take(engine, [budget], 60, query_id)
    assert state(engine, budget) == (0, 60)


def test_a_refusal_names_the_budget_and_its_renewal_and_takes_nothing_from_any(engine: Engine) -> None:
    wide, narrow = Budgets(engine).set("gateway", "", "hour", 1_000), Budgets(engine).set("tenant", "acme", "month", 50)
    with pytest.raises(BudgetExceeded, match=r"tenant acme, per month.* renews at 2030-02-01T00:00:00Z"):
        take(engine, [wide, narrow], 51)
    assert state(engine, wide) == state(engine, narrow) == (0, 0)
    take(engine, [wide, narrow], 50)  # exactly all of it fits
    assert state(engine, wide) == state(engine, narrow) == (0, 50)


def test_a_new_period_begins_with_nothing_spent_and_late_costs_stay_where_they_began(
    engine: Engine, budget: Budget
) -> None:
    query_id = take(engine, [budget], 100)
    tomorrow = NOW + timedelta(days=1)
    reserve(engine, [budget], uuid7(), 100, now=tomorrow, expires_at=tomorrow)
    settle(engine, query_id, 70)
    assert state(engine, budget) == (70, 0)
    assert state(engine, budget, tomorrow) == (0, 100)


def test_a_provider_that_bills_more_than_was_set_aside_is_booked_in_full(engine: Engine, budget: Budget) -> None:
    settle(engine, take(engine, [budget], 60), 130)
    assert state(engine, budget) == (130, 0)
    with pytest.raises(BudgetExceeded, match=r"has 0\.000000 USD left"):
        take(engine, [budget], 1)


def test_another_limit_counts_at_once_and_a_lifted_budget_binds_no_more(engine: Engine, budget: Budget) -> None:
    register = Budgets(engine)
    take(engine, [budget], 100)
    assert register.set("gateway", "", "day", 150).id == budget.id
    take(engine, [budget], 50)  # `budget` still says 100: the database's own limit decides
    register.remove("gateway", "", "day")
    take(engine, [budget], 10**9)
    with pytest.raises(NotFound, match="gateway per day"):
        register.remove("gateway", "", "day")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (("world", "", "day", 1), "scope"),
        (("gateway", "acme", "day", 1), "subject"),
        (("tenant", "", "day", 1), "subject"),
        (("tenant", "a\0b", "day", 1), "subject"),
        (("tenant", "acme", "week", 1), "period"),
        (("tenant", "acme", "day", -1), "limit"),
        (("tenant", "acme", "day", 10**18 + 1), "limit"),
    ],
)
def test_bad_input_is_refused_by_name(engine: Engine, given: tuple, param: str) -> None:
    with pytest.raises(RequestError) as refused:
        Budgets(engine).set(*given)
    assert refused.value.param == param
    assert Budgets(engine).states(NOW) == []


def test_an_expired_reservation_is_settled_by_the_attempts_and_never_twice(engine: Engine, budget: Budget) -> None:
    paid, unpaid = take(engine, [budget], 40), take(engine, [budget], 30)
    attempt(engine, paid, 1, 7)
    assert sweep(engine, SOON) == 0  # not expired yet
    later = SOON + timedelta(seconds=1)
    assert sweep(engine, later) == 2
    assert sweep(engine, later) == 0
    assert state(engine, budget) == (7, 0)
    attempt(engine, paid, 2, 5)  # from the journal of a process that was killed
    assert sweep(engine, later) == 1
    assert state(engine, budget) == (12, 0)
    settle(engine, paid, 12)  # the process lived after all
    settle(engine, unpaid, 0)
    assert state(engine, budget) == (12, 0)


def test_a_call_cut_off_counts_as_expected_until_its_attempts_are_known(engine: Engine, budget: Budget) -> None:
    decided, never_decided = take(engine, [budget], 60), take(engine, [budget], 10)
    query = a_query(id=decided)
    decision = a_decision(query)
    record = decision_record(
        query, decision, requested_model="auto", embedding=None, store_text=False, expected_nusd=45
    )
    with writing(engine) as connection:
        insert(connection, record)
    assert sweep(engine, SOON + timedelta(seconds=1)) == 2
    assert state(engine, budget) == (45, 0), "expected, and nothing for the one that was never decided"
    attempt(engine, decided, 1, 47)
    assert sweep(engine, SOON + timedelta(seconds=2)) == 1
    assert state(engine, budget) == (47, 0)
    assert never_decided != decided


def test_what_nobody_needs_any_more_is_cleared_away(engine: Engine, budget: Budget) -> None:
    take(engine, [budget], 40)
    sweep(engine, SOON + timedelta(seconds=1))
    sweep(engine, SOON + timedelta(days=8))
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(reservations)).scalar_one() == 0


def test_of_500_at_once_a_budget_for_50_takes_50(engine: Engine) -> None:
    """Every answer costs what was set aside, so nothing may be left over and nothing overspent."""
    register = Budgets(engine)
    caller = [register.set("gateway", "", "hour", 10**6), register.set("tenant", "acme", "day", 50 * 7)]

    def request(_: int) -> bool:
        try:
            query_id = take(engine, caller, 7)
        except BudgetExceeded:
            return False
        settle(engine, query_id, 7)
        settle(engine, query_id, 7)
        return True

    with ThreadPoolExecutor(8) as threads:
        answered = sum(threads.map(request, range(500)))
    assert answered == 50
    assert [state(engine, each) for each in caller] == [(350, 0), (350, 0)]
