"""/admin/api/judges: what judges' scores and the truth say together, and the judges' bias."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.evaluation.judge_bias import report_of


@admin_only
async def get_judges(asked: Asked) -> dict[str, Any]:
    """Quality by endpoint, differences, and each judge's bias; of what was said from `since` on."""
    read = partial(report_of, asked.database, asked.parts.truth, since=asked.instant("since"))
    found = await asyncio.to_thread(read)
    return {"object": "judge_report", "truth": list(asked.parts.truth), **found.as_dict()}


ROUTES: tuple[Route, ...] = (("GET", "/judges", get_judges),)
