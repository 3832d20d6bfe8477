"""/admin/api/reports: spend, quality, errors and latency, from the ledger's database."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Any, cast, get_args

from router_gateway.api.admin_door import Asked, Route, admin_only, listed
from router_gateway.core.errors import RequestError
from router_gateway.core.money import nusd_to_usd
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


ROUTES: tuple[Route, ...] = (("GET", "/reports/{by}", get_report),)
