"""/admin/api: reports, budgets and keys, from the ledger's database."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast, get_args
from uuid import UUID

from router_gateway.api.admin_door import Asked, Route, admin_only, listed
from router_gateway.core.errors import RequestError
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.periods import next_period, period_start
from router_gateway.ledger.budgets import Budgets, BudgetState
from router_gateway.ledger.keys import ApiKey, Keys
from router_gateway.ledger.reports import GroupBy, usage


@admin_only
async def get_report(asked: Asked) -> dict[str, Any]:
    """Spend, quality, errors and latency by endpoint, day or tenant, for `since` <= instant < `until`."""
    by = asked.path("by")
    if by not in get_args(GroupBy):
        raise RequestError(f"`by` must be one of {', '.join(get_args(GroupBy))}", param="by")
    since, until = asked.instant("since"), asked.instant("until")
    read = partial(usage, asked.database, cast(GroupBy, by), since=since, until=until)
    rows = await asyncio.to_thread(read)
    return listed([{**asdict(row), "cost_usd": nusd_to_usd(row.cost_nusd)} for row in rows])


@admin_only
async def list_budgets(asked: Asked) -> dict[str, Any]:
    """Every budget in its present period."""
    now = datetime.now(UTC)
    states = await asyncio.to_thread(Budgets(asked.database).states, now)
    return listed([_budget(state, now) for state in states])


@admin_only
async def list_keys(asked: Asked) -> dict[str, Any]:
    """The keys that are valid now, oldest first; of each no more than its first characters is known."""
    keys = await asyncio.to_thread(Keys(asked.database).list)
    return listed([_key(key) for key in keys])


@admin_only
async def revoke_key(asked: Asked) -> dict[str, Any]:
    """Withdraw a key by its id; running gateways notice within seconds."""
    try:
        key_id = UUID(asked.path("key_id"))
    except ValueError:
        raise RequestError("`key_id` is not a UUID", param="key_id") from None
    key = await asyncio.to_thread(Keys(asked.database).revoke, key_id)
    return {**_key(key), "status": "revoked"}


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


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "tenant": key.tenant,
        "prefix": key.prefix,
        "allows": list(key.allows),
        "admin": key.admin,
        "created_at": key.created_at.isoformat(),
    }


ROUTES: tuple[Route, ...] = (
    ("GET", "/reports/{by}", get_report),
    ("GET", "/budgets", list_budgets),
    ("GET", "/keys", list_keys),
    ("DELETE", "/keys/{key_id}", revoke_key),
)
