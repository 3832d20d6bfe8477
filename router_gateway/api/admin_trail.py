"""/admin/api/events: what was done over the admin API, by whom, when and why."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Any

from router_gateway.api.admin_door import Asked, Route, admin_only, listed
from router_gateway.core.errors import RequestError
from router_gateway.ledger.admin_events import AdminEvent, AdminEvents

_ID_MAX = 2**62


@admin_only
async def list_events(asked: Asked) -> dict[str, Any]:
    """The trail, newest first; `?action=key.create` or `key` narrows it, `?before=` (an id) reads on, `?limit=`."""
    given = asked.request.query_params
    before = given.get("before")
    if before is not None and not (before.isascii() and before.isdigit() and int(before) < _ID_MAX):
        raise RequestError("`before` must be the id of an event", param="before")
    read = partial(
        AdminEvents(asked.database).newest,
        limit=asked.limit(),
        before=None if before is None else int(before),
        action=given.get("action"),
    )
    return listed([_event(event) for event in await asyncio.to_thread(read)])


def _event(event: AdminEvent) -> dict[str, Any]:
    return {**asdict(event), "at": event.at.isoformat()}


ROUTES: tuple[Route, ...] = (("GET", "/events", list_events),)
