"""Overview: what routing spends, saves and brings, where the requests go, and whether it is worth it here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import chart
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.pages import overview_charts as drawn
from router_gateway.dashboard.pages.overview_verdict import verdict
from router_gateway.dashboard.view import Region, View

_EVERY_S = 30.0
_FRESH_S = 5.0
_RANGES = {"1": "24 hours", "7": "7 days", "30": "30 days"}
_Z = 1.96

Answer = Mapping[str, Any]


@dataclass(slots=True)
class _Asked:
    """What the page shows at present."""

    days: int = 7
    regions: list[Region[Any]] = field(default_factory=list)

    async def fine(self, admin: AdminClient) -> Answer:
        """The overview of these days in hours, as long as one can still see them."""
        return await self._fetch(admin, "hour" if self.days <= 7 else "day")

    async def coarse(self, admin: AdminClient) -> Answer:
        """The same in days where there are several: means and percentiles of single hours are mostly noise."""
        return await self._fetch(admin, "hour" if self.days == 1 else "day")

    async def _fetch(self, admin: AdminClient, step: str) -> Answer:
        """To the minute, so that tabs share an answer."""
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        since = now - timedelta(days=self.days)
        found: Answer = await admin.get("/overview", {"since": since.isoformat(), "step": step}, fresh_s=_FRESH_S)
        return found


def build(view: View) -> None:
    """The verdict over figures over charts; each part fills in by itself."""
    asked = _Asked()

    async def choose(days: str) -> None:
        asked.days = int(days)
        for region in asked.regions:
            await region.refresh()

    with parts.row("rg-between"):
        parts.segments("Time that is shown", _RANGES, str(asked.days), choose)
        parts.text("keeps itself up to date", "rg-dim rg-small")
    figures = view.region(asked.coarse, partial(_figures, asked), every_s=_EVERY_S, height="86px")
    asked.regions.append(figures)
    verdict(view)
    with parts.grid(min_width="440px"):
        for make in (drawn.spend, drawn.share, drawn.quality, drawn.errors, drawn.latency):
            fetch = asked.fine if make in (drawn.spend, drawn.share) else asked.coarse
            draw = partial(_chart, make)
            asked.regions.append(view.region(fetch, draw, every_s=_EVERY_S, height="360px", classes="rg-card"))
        with parts.card("Budgets", hint="spent so far; the line is where an even pace would be", classes="rg-budgets"):
            view.region(_budgets, _burn, every_s=_EVERY_S, height="292px")


def _figures(asked: _Asked, found: Answer) -> None:
    totals = found["totals"]
    requests, attempts = totals["requests"], totals["attempts"]
    if not requests:
        parts.empty(
            "No requests in this time",
            "Send one through the gateway, with model “auto”: this page fills by itself.",
            command="make demo-traffic",
        )
        return
    quality, rated = totals["quality"], totals["rated"]
    arm = _Z * math.sqrt(max(quality * (1 - quality), 0.0) / rated) if rated else 0.0
    with ui.element("div").classes("rg-tiles"):
        parts.tile("Spend", words.money_nusd(totals["cost_nusd"]), detail=_each(totals["cost_nusd"], requests))
        parts.tile("Requests", words.count(requests), detail=_RANGES[str(asked.days)])
        parts.tile(
            "Quality of rated answers",
            words.percent(quality if rated else None),
            detail=words.interval(max(quality - arm, 0.0), min(quality + arm, 1.0)) if rated else "nobody rated any",
            hint=f"mean of {rated:,} ratings, with a 95 % interval",
        )
        parts.tile(
            "Latency, median",
            words.duration_ms(totals["latency_p50_ms"]),
            detail=f"95 % within {words.duration_ms(totals['latency_p95_ms'])}",
        )
        share = totals["errors"] / attempts if attempts else 0.0
        parts.tile(
            "Failed calls",
            words.percent(share, digits=2),
            detail=f"{totals['errors']:,} of {words.count(attempts)}",
            tone="bad" if share > 0.05 else "",
        )


def _each(nusd: int, requests: int) -> str:
    return f"{words.money(nusd / 1e9 / requests * 1000)} per 1,000 requests"


def _chart(make: Callable[[Answer], Any], found: Answer) -> Callable[[Answer], None] | None:
    if not found["endpoints"]:
        parts.empty("Nothing to draw yet", "Charts begin with the first request of this time.")
        return None
    element = chart(make(found))
    return lambda newer: element.show(make(newer))


async def _budgets(admin: AdminClient) -> list[dict[str, Any]]:
    return await admin.data("/budgets", fresh_s=_FRESH_S)


def _burn(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        parts.empty(
            "No budgets",
            "A budget bounds what a key, a tenant or the gateway may spend.",
            command="router-gateway budgets set 10 --per day",
        )
        return
    with parts.column("rg-gap"):
        for row in rows:
            _budget(row)


def _budget(row: Mapping[str, Any]) -> None:
    limit = row["limit_nusd"] or 1
    spent = (row["spent_nusd"] + row["reserved_nusd"]) / limit
    start, end = datetime.fromisoformat(row["period_start"]), datetime.fromisoformat(row["renews_at"])
    passed = (datetime.now(UTC) - start) / (end - start)
    name = " ".join(filter(None, (row["scope"], row["subject"])))
    with parts.column():
        with parts.row("rg-between"):
            parts.text(f"{name}, per {row['period']}", "rg-break")
            parts.text(f"{words.money(row['spent_usd'])} of {words.money(row['limit_usd'])}", "rg-dim")
        tone: parts.Tone = "bad" if spent >= 1 else "warn" if spent > passed + 0.1 else ""
        parts.meter(spent, f"{name}: spent", mark=passed, tone=tone)
        with parts.row("rg-between rg-small rg-dim"):
            parts.text(_pace(spent, passed))
            with parts.row():
                parts.text("renews")
                words.instant(row["renews_at"], style="ago")


def _pace(spent: float, passed: float) -> str:
    """In words: where the period ends at this pace."""
    if spent >= 1:
        return "spent: paid calls are refused until it renews"
    if passed < 0.02 or spent == 0:
        return "too early to say where it ends"
    return f"at this pace {words.percent(spent / passed, digits=0)} by the end"
