"""/admin/api/overview: what was asked, spent and said, by endpoint over time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.core.errors import RequestError
from router_gateway.core.money import nusd_to_usd
from router_gateway.ledger.overview import Cell, Expectations, Overview, Step, read_overview

_USUAL = timedelta(days=1)
_HOURS_UP_TO = timedelta(days=4)
_SERIES = ("requests", "errors", "cost_nusd", "latency_p50_ms", "latency_p95_ms", "rated")


@admin_only
async def get_overview(asked: Asked) -> dict[str, Any]:
    """Whole steps from that of `since` to that of `until`, the last day unless said; `step` is `hour` or `day`."""
    until = asked.instant("until") or datetime.now(UTC)
    since = asked.instant("since") or until - _USUAL
    given = asked.request.query_params.get("step", "hour" if until - since <= _HOURS_UP_TO else "day")
    if given not in get_args(Step):
        raise RequestError(f"`step` must be one of {', '.join(get_args(Step))}", param="step")
    found = await asyncio.to_thread(read_overview, asked.database, since, until, cast(Step, given))
    return _overview(found)


def _overview(found: Overview) -> dict[str, Any]:
    return {
        "object": "overview",
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "step": found.step,
        "steps": [at.isoformat() for at in found.steps],
        "endpoints": [
            {
                "endpoint": name,
                **{series: [getattr(cell, series) for cell in cells] for series in _SERIES},
                "quality": [cell.quality for cell in cells] if found.of_endpoint[name].rated else None,
                "total": _cell(found.of_endpoint[name]),
            }
            for name, cells in found.cells.items()
        ],
        "totals": _cell(found.total),
        "expected": _expected(found.expectations),
        "ratings_max": found.ratings_max,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "requests": cell.requests,
        "attempts": cell.attempts,
        "answers": cell.answers,
        "errors": cell.errors,
        "tokens_prompt": cell.tokens_prompt,
        "tokens_completion": cell.tokens_completion,
        "cost_nusd": cell.cost_nusd,
        "cost_usd": nusd_to_usd(cell.cost_nusd),
        "latency_p50_ms": cell.latency_p50_ms,
        "latency_p95_ms": cell.latency_p95_ms,
        "quality": cell.quality,
        "rated": cell.rated,
    }


def _expected(found: Expectations) -> dict[str, Any]:
    return {
        "decisions": found.decisions,
        "quality": found.quality,
        "cost_usd": found.cost_usd,
        "endpoints": [
            {"endpoint": of.endpoint, "decisions": of.decisions, "quality": of.quality, "cost_usd": of.cost_usd}
            for of in found.endpoints
        ],
    }


ROUTES: tuple[Route, ...] = (("GET", "/overview", get_overview),)
