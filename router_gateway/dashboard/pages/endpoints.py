"""Endpoints: who answers, how each fares now, what it charges; and how one is added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient, Refused, Trouble
from router_gateway.dashboard.schema_form import SchemaForm
from router_gateway.dashboard.tables import Column, Order, table
from router_gateway.dashboard.view import View

HEALTH: Mapping[str, parts.Tone] = {"healthy": "good", "degraded": "warn", "recovering": "warn", "down": "bad"}
STATES: Mapping[str, parts.Tone] = {"done": "good", "running": "accent", "stopping": "accent", "failed": "bad"}
UNDER_WAY = frozenset({"running", "stopping"})
_EVERY_S = 5.0

_COLUMNS = (
    Column(name="name", title="Endpoint", sort=True, path="path"),
    Column(name="health", title="Health", form="pill", sort=True),
    Column(name="model", title="Model", form="mono"),
    Column(name="in_flight", title="In flight", form="count", sort=True),
    Column(name="p50", title="p50", form="ms", sort=True),
    Column(name="p95", title="p95", form="ms", sort=True),
    Column(name="error_rate", title="Errors", form="percent", sort=True),
    Column(name="price_in", title="In, $/M tokens", form="money", sort=True),
    Column(name="price_out", title="Out, $/M tokens", form="money", sort=True),
)
_ONBOARDINGS = (
    Column(name="started_at", title="Started", form="ago"),
    Column(name="endpoint", title="Endpoint", path="path"),
    Column(name="state", title="State", form="pill"),
    Column(name="progress", title="Answers"),
    Column(name="mean", title="Mean quality (95 %)"),
    Column(name="spent_usd", title="Spent", form="money"),
)
_PRICE = {"type": "number", "minimum": 0}
_NEW: Mapping[str, Any] = {
    "required": ["name", "model", "price_input_usd_per_mtok", "price_output_usd_per_mtok", "context_tokens_max"],
    "properties": {
        "name": {"type": "string", "maxLength": 100, "description": "what clients and reports call it"},
        "model": {"type": "string", "maxLength": 200, "description": "as the provider calls it"},
        "base_url": {"type": "string", "description": "where it speaks OpenAI's API; empty: OpenAI's own"},
        "api_key_env": {"type": "string", "description": "the NAME of the variable that holds its key, never the key"},
        "price_input_usd_per_mtok": {**_PRICE, "description": "USD per million tokens"},
        "price_output_usd_per_mtok": {**_PRICE, "description": "USD per million tokens"},
        "context_tokens_max": {"type": "integer", "minimum": 1, "description": "its longest request and answer"},
    },
}


def build(view: View) -> None:
    """Tiles, the pool, what was onboarded, and a form for a new one."""

    async def pool(admin: AdminClient) -> list[dict[str, Any]]:
        return await admin.data("/endpoints")

    async def onboardings(admin: AdminClient) -> list[dict[str, Any]]:
        return await admin.data("/onboardings")

    view.region(pool, _tiles, every_s=_EVERY_S, height="84px")
    view.region(pool, _pool, every_s=_EVERY_S, height="200px")
    with parts.card("Onboardings", hint="a new endpoint answers probes until its place is known; open one to begin"):
        view.region(onboardings, _onboarded, every_s=_EVERY_S, height="120px")
    with parts.card("Add an endpoint", hint="checked as the configuration is; nothing changes before a restart"):
        _new(view)


def path_of(endpoint: str) -> str:
    """The page of an endpoint."""
    return f"/endpoints/{quote(endpoint, safe='')}"


def _tiles(rows: Sequence[Mapping[str, Any]]) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    box = ui.element("div").classes("rg-tiles")

    def show(rows: Sequence[Mapping[str, Any]]) -> None:
        box.clear()
        ailing = [row["name"] for row in rows if HEALTH.get(row["health"], "") in ("bad", "warn")]
        tried = sum(row["recent"]["attempts"] for row in rows)
        failed = sum(sum(row["recent"]["errors"].values()) for row in rows)
        with box:
            parts.tile(
                "Endpoints", words.count(len(rows)), detail=f"{sum(row['health'] == 'idle' for row in rows)} idle"
            )
            parts.tile(
                "Ailing",
                words.count(len(ailing)),
                detail=", ".join(ailing)[:60] or "none",
                tone="bad" if ailing else "",
            )
            parts.tile("Calls in flight", words.count(sum(row["in_flight"] for row in rows)), detail="of this process")
            parts.tile(
                "Errors, last hour",
                words.percent(failed / tried if tried else None),
                detail=f"of the newest {words.count(tried)} tries",
            )

    show(rows)
    return show


def _pool(rows: Sequence[Mapping[str, Any]]) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    made = table(_COLUMNS, label="Endpoints", order=Order(by="name", descending=False))

    def show(rows: Sequence[Mapping[str, Any]]) -> None:
        made.show([_row(row) for row in rows])

    show(rows)
    return show


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    ranks = row["recent"]["latency_ms"] or {}
    return {
        "name": row["name"],
        "path": path_of(row["name"]),
        "health": (row["health"], HEALTH.get(row["health"], "")),
        "model": row["model"],
        "in_flight": row["in_flight"],
        "p50": ranks.get("p50"),
        "p95": ranks.get("p95"),
        "error_rate": row["recent"]["error_rate"],
        "price_in": float(row["price_input_usd_per_mtok"]),
        "price_out": float(row["price_output_usd_per_mtok"]),
    }


def _onboarded(rows: Sequence[Mapping[str, Any]]) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    made = table(_ONBOARDINGS, label="Onboardings", none="None yet: open an endpoint and onboard it with probes.")

    def show(rows: Sequence[Mapping[str, Any]]) -> None:
        made.show(
            [
                {
                    "started_at": row["started_at"],
                    "endpoint": row["endpoint"],
                    "path": path_of(row["endpoint"]),
                    "state": (row["state"], STATES.get(row["state"], "warn")),
                    "progress": f"{row['answered']} of {row['probes']}",
                    "mean": mean_of(row["interval"]),
                    "spent_usd": row["spent_usd"],
                }
                for row in rows
            ]
        )

    show(rows)
    return show


def mean_of(interval: Mapping[str, float] | None) -> str:
    """A mean with its interval; a dash without any."""
    if interval is None:
        return words.DASH
    return f"{interval['mean']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"


def _new(view: View) -> None:
    form = SchemaForm(_NEW)
    with parts.row():
        parts.button("Check and show the lines", lambda: check(), kind="primary")
    told = parts.column()

    async def check() -> None:
        values = form.values()
        if values is None:
            return
        try:
            found = await view.admin.send("POST", "/endpoints", values)
        except Refused as refused:
            if not form.blame(refused.param, refused.message):
                view.tell(refused)
            return
        except Trouble as trouble:
            view.tell(trouble)
            return
        told.clear()
        with told:
            if found["api_key_is_set"] is False:
                parts.text(
                    "The variable of its key is not set where the gateway runs: set it first.", "rg-warn", tag="p"
                )
            parts.text("Add these lines to `endpoints` of gateway.yaml and restart; then open it here.", tag="p")
            lines = parts.text(found["yaml"], "rg-pre", tag="pre")
            lines._props.update({"tabindex": "0", "aria-label": "Lines for gateway.yaml"})
