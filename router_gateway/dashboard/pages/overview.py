"""Overview: what routing spends, saves and brings, where the requests go, and whether it is worth it here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import Chart, Series, chart
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.view import View

_EVERY_S = 15.0
_DAYS = 30


def build(view: View) -> None:
    """Tiles over charts; everything fills in by itself."""
    since = (datetime.now(UTC) - timedelta(days=_DAYS)).isoformat()

    async def endpoints(admin: AdminClient) -> list[dict[str, Any]]:
        return await admin.data("/reports/endpoint", {"since": since}, fresh_s=5.0)

    async def days(admin: AdminClient) -> list[dict[str, Any]]:
        return await admin.data("/reports/day", {"since": since}, fresh_s=5.0)

    view.region(endpoints, _tiles, every_s=_EVERY_S, height="92px")
    with parts.grid(min_width="420px"):
        view.region(days, _spend, every_s=_EVERY_S, height="340px", classes="rg-card")
        view.region(endpoints, _shares, every_s=_EVERY_S, height="340px", classes="rg-card")


def _tiles(rows: Sequence[Mapping[str, Any]]) -> None:
    requests = sum(row["requests"] for row in rows)
    if not requests:
        parts.empty("No requests yet", "Send one through the gateway, and this page begins to fill.")
        return
    spent, errors = sum(row["cost_nusd"] for row in rows), sum(row["errors"] for row in rows)
    with ui.element("div").classes("rg-tiles"):
        parts.tile("Spend", words.money_nusd(spent), detail=f"{words.money_nusd(spent // requests)} a request")
        parts.tile("Requests", words.count(requests), detail=f"last {_DAYS} days")
        parts.tile("Errors", words.percent(errors / requests, digits=2), detail=f"{words.count(errors)} attempts")


def _spend(rows: Sequence[Mapping[str, Any]]) -> None:
    chart(
        Chart(
            title="Spend",
            unit="USD per day",
            x=[f"{row['group']}T00:00:00Z" for row in rows],
            series=[Series(name="spend", values=[row["cost_usd"] for row in rows])],
            kind="bar",
            form="usd",
        )
    )


def _shares(rows: Sequence[Mapping[str, Any]]) -> None:
    chart(
        Chart(
            title="Requests by endpoint",
            unit="requests",
            x=[str(row["group"]) for row in rows],
            x_kind="category",
            series=[Series(name="requests", values=[row["requests"] for row in rows])],
            kind="bar",
            form="count",
        )
    )
