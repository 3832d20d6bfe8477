"""/admin/api: budgets (set, removed, how they burn down) and teams, which are tenants."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from router_gateway.api.admin_door import LISTED_MAX, Asked, Note, Route, admin_only, listed
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.money import NUSD_PER_USD, nusd_to_usd
from router_gateway.core.periods import PERIODS, Period, next_period, period_start
from router_gateway.ledger.budgets import Budgets, BudgetState, Scope
from router_gateway.ledger.burn_down import Spent, past_periods, spent_so_far
from router_gateway.ledger.keys import Keys
from router_gateway.ledger.reports import sums

_SCOPES: dict[str, Scope] = {"gateway": "gateway", "tenant": "tenant", "team": "tenant", "key": "key"}


class NewBudget(BaseModel):
    """What may be spent. `subject` is a tenant's (team's) name, or a key's id or prefix; none for the gateway."""

    model_config = ConfigDict(extra="forbid")

    scope: Literal["gateway", "tenant", "team", "key"]
    subject: Annotated[str, Field(max_length=200)] = ""
    period: Period
    limit_usd: Annotated[Decimal, Field(ge=0, le=1_000_000_000)]
    note: Note = ""


@admin_only
async def list_budgets(asked: Asked) -> dict[str, Any]:
    """Every budget in its present period."""
    now = datetime.now(UTC)
    states = await asyncio.to_thread(Budgets(asked.database).states, now)
    return listed([_budget(state, now) for state in states])


@admin_only
async def set_budget(asked: Asked) -> dict[str, Any]:
    """Make a budget, or give the one of this scope, subject and period another limit. This process follows at once."""
    body = await asked.body(NewBudget)
    limit_nusd = int((body.limit_usd * NUSD_PER_USD).to_integral_value(ROUND_HALF_UP))

    def work() -> BudgetState:
        scope, subject = _whose(asked, body.scope, body.subject)
        budget = Budgets(asked.database).set(scope, subject, body.period, limit_nusd)
        _follow(asked)
        return _state(asked, scope, budget.subject, body.period, datetime.now(UTC))

    state = await asyncio.to_thread(work)
    asked.did("budget.set", state.budget.label, note=body.note, limit_nusd=limit_nusd)
    return _budget(state, datetime.now(UTC))


@admin_only
async def remove_budget(asked: Asked) -> dict[str, Any]:
    """Lift the budget of `?scope=&subject=&period=`; `&note=`."""
    note = asked.note

    def work() -> BudgetState:
        state = _asked_for(asked, datetime.now(UTC))
        budget = state.budget
        Budgets(asked.database).remove(budget.scope, budget.subject, budget.period)
        _follow(asked)
        return state

    state = await asyncio.to_thread(work)
    asked.did("budget.remove", state.budget.label, note=note, limit_nusd=state.budget.limit_nusd)
    return {**_budget(state, datetime.now(UTC)), "status": "removed"}


@admin_only
async def get_burn_down(asked: Asked) -> dict[str, Any]:
    """How the present period of `?scope=&subject=&period=` is being spent, and what earlier ones came to."""
    now = datetime.now(UTC)

    def read() -> tuple[BudgetState, list[Spent], list[Spent]]:
        state = _asked_for(asked, now)
        budget = state.budget
        steps = spent_so_far(asked.database, budget.scope, budget.subject, budget.period, now)
        return state, steps, past_periods(asked.database, budget.id, now)

    state, steps, past = await asyncio.to_thread(read)
    return {**_budget(state, now), "steps": [_spent(each) for each in steps], "periods": [_spent(e) for e in past]}


@admin_only
async def list_teams(asked: Asked) -> dict[str, Any]:
    """Tenants with their keys, their budgets, and what they spent: this month, unless `?since=` and `?until=` say."""
    now = datetime.now(UTC)
    since, until = asked.instant("since") or period_start("month", now), asked.instant("until")

    def read() -> list[dict[str, Any]]:
        spent = sums(asked.database, "tenant", since=since, until=until)
        keys = Keys(asked.database).list()
        states = [state for state in Budgets(asked.database).states(now) if state.budget.scope == "tenant"]
        names = {*spent, *(key.tenant for key in keys), *(state.budget.subject for state in states)}
        return [
            {
                "name": name,
                "keys": sum(key.tenant == name for key in keys),
                "requests": spent.get(name, {}).get("requests", 0),
                "spent_nusd": (nusd := spent.get(name, {}).get("cost_nusd", 0)),
                "spent_usd": nusd_to_usd(nusd),
                "budgets": [_budget(state, now) for state in states if state.budget.subject == name],
            }
            for name in sorted(names)[:LISTED_MAX]
        ]

    return {**listed(await asyncio.to_thread(read)), "since": since.isoformat()}


def _whose(asked: Asked, said: str, subject: str) -> tuple[Scope, str]:
    """Scope and subject as budgets have them; a key's is its id. Raises RequestError, NotFound."""
    scope = _SCOPES.get(said)
    if scope is None:
        raise RequestError(f"`scope` must be one of {', '.join(_SCOPES)}", param="scope")
    if scope != "key":
        return scope, subject
    try:
        return scope, str(Keys(asked.database).named(subject.removesuffix("…")).id)
    except NotFound as error:
        raise NotFound(error.message, param="subject") from None


def _asked_for(asked: Asked, now: datetime) -> BudgetState:
    """The budget that the query parameters name; one of a revoked key by the key's id. Raises NotFound."""
    given = asked.request.query_params
    period = given.get("period", "")
    if period not in PERIODS:
        raise RequestError(f"`period` must be one of {', '.join(PERIODS)}", param="period")
    scope, subject = given.get("scope", ""), given.get("subject", "")
    try:
        UUID(subject)
    except ValueError:
        scope, subject = _whose(asked, scope, subject)
    return _state(asked, _SCOPES.get(scope, scope), subject, period, now)


def _state(asked: Asked, scope: str, subject: str, period: Period, now: datetime) -> BudgetState:
    for state in Budgets(asked.database).states(now):
        budget = state.budget
        if (budget.scope, budget.subject, budget.period) == (scope, subject, period):
            return state
    raise NotFound(f"no budget of {scope} {subject[:100]}".rstrip() + f" per {period}", param="subject")


def _follow(asked: Asked) -> None:
    if asked.gateway.budgets is not None:
        asked.gateway.budgets.refresh()


def _spent(each: Spent) -> dict[str, Any]:
    return {"at": each.at.isoformat(), "spent_nusd": each.spent_nusd, "spent_usd": nusd_to_usd(each.spent_nusd)}


def _budget(state: BudgetState, now: datetime) -> dict[str, Any]:
    budget = state.budget
    start = period_start(budget.period, now)
    return {
        "scope": budget.scope,
        "subject": budget.subject or None,
        "period": budget.period,
        "limit_nusd": budget.limit_nusd,
        "spent_nusd": state.spent_nusd,
        "reserved_nusd": state.reserved_nusd,
        "limit_usd": nusd_to_usd(budget.limit_nusd),
        "spent_usd": nusd_to_usd(state.spent_nusd),
        "reserved_usd": nusd_to_usd(state.reserved_nusd),
        "remaining_ratio": state.remaining_ratio,
        "period_start": start.isoformat(),
        "renews_at": next_period(budget.period, start).isoformat(),
    }


ROUTES: tuple[Route, ...] = (
    ("GET", "/budgets", list_budgets),
    ("PUT", "/budgets", set_budget),
    ("DELETE", "/budgets", remove_budget),
    ("GET", "/budgets/history", get_burn_down),
    ("GET", "/teams", list_teams),
)
