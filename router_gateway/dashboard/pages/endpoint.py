"""One endpoint: health and circuit, latency and errors over time, prices and their history, calibration, onboarding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import Chart, Series, chart
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.pages.endpoint_probes import onboarding
from router_gateway.dashboard.pages.endpoints import HEALTH
from router_gateway.dashboard.view import View

_EVERY_S, _SLOW_S = 5.0, 60.0
_HOURS = 36
_CHART_PX = "260px"
_PRICES = (
    ("input", "price_input_usd_per_mtok"),
    ("output", "price_output_usd_per_mtok"),
    ("cached input", "price_cached_input_usd_per_mtok"),
    ("cache write", "price_cache_write_usd_per_mtok"),
)


def build(view: View) -> None:
    """Everything of one endpoint; the name is in the path."""
    name = view.path["name"]
    path = f"/endpoints/{quote(name, safe='')}"

    async def endpoint(admin: AdminClient) -> dict[str, Any]:
        found: dict[str, Any] = await admin.get(path)
        return found

    async def hours(admin: AdminClient) -> dict[str, Any]:
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        asked = {"since": (now - timedelta(hours=_HOURS)).isoformat(), "step": "hour"}
        found = await admin.get("/overview", asked, fresh_s=2.0)
        own = next((each for each in found["endpoints"] if each["endpoint"] == name), None)
        return {"steps": found["steps"], "own": own}

    async def calibration(admin: AdminClient) -> dict[str, Any]:
        found: dict[str, Any] = await admin.get(f"{path}/calibration", fresh_s=_SLOW_S)
        return found

    with parts.row("rg-between"), parts.row():
        parts.anchor("All endpoints", "/endpoints")
        parts.text(name, "rg-h2 rg-break", tag="h2")
    view.region(endpoint, _tiles, every_s=_EVERY_S, height="84px")
    onboarding(view, name)
    with parts.grid(min_width="420px"):
        view.region(hours, _latency, every_s=_SLOW_S, height="320px", classes="rg-card")
        view.region(hours, _errors, every_s=_SLOW_S, height="320px", classes="rg-card")
        view.region(calibration, _calibration, every_s=_SLOW_S, height="380px", classes="rg-card")
        view.region(endpoint, _price_history, every_s=_SLOW_S, height="380px", classes="rg-card")
    with parts.card("About it"):
        view.region(endpoint, _about, every_s=_SLOW_S, height="160px")


def _tiles(found: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None]:
    box = ui.element("div").classes("rg-tiles")

    def show(found: Mapping[str, Any]) -> None:
        box.clear()
        ranks, errors = found["recent"]["latency_ms"] or {}, found["recent"]["errors"]
        with box:
            health = found["health"]
            parts.tile("Health", health, detail=found["circuit_why"] or "circuit closed", tone=HEALTH.get(health, ""))
            parts.tile("Calls in flight", words.count(found["in_flight"]), detail="of this process")
            parts.tile(
                "Latency, p50",
                words.duration_ms(ranks.get("p50")),
                detail=f"p95 {words.duration_ms(ranks.get('p95'))}, p99 {words.duration_ms(ranks.get('p99'))}",
            )
            parts.tile(
                "Errors, last day",
                words.percent(found["recent"]["error_rate"]),
                detail=", ".join(f"{code} {n}" for code, n in sorted(errors.items()))[:60] or "none",
            )
            parts.tile(
                "Price, in and out",
                f"{_usd(found, 'input')} / {_usd(found, 'output')}",
                detail="USD per million tokens",
            )

    show(found)
    return show


def _usd(found: Mapping[str, Any], side: str) -> str:
    return words.money(float(found[f"price_{side}_usd_per_mtok"]))


def _latency(found: Mapping[str, Any]) -> None:
    own = found["own"]
    if own is None:
        parts.empty("No latency yet", f"Nobody asked it in the last {_HOURS} hours.")
        return
    chart(
        Chart(
            title="Latency",
            unit="ms, by hour",
            x=found["steps"],
            series=[
                Series(name="p50", values=own["latency_p50_ms"]),
                Series(name="p95", values=own["latency_p95_ms"], color=2),
            ],
            form="ms",
            y_min=0,
        ),
        height=_CHART_PX,
    )


def _errors(found: Mapping[str, Any]) -> None:
    own = found["own"]
    if own is None:
        parts.empty("No requests yet", f"Nobody asked it in the last {_HOURS} hours.")
        return
    chart(
        Chart(
            title="Requests and errors",
            unit="a hour",
            x=found["steps"],
            series=[
                Series(name="requests", values=own["requests"], kind="bar"),
                Series(name="errors", values=own["errors"], kind="bar", color=6),
            ],
            form="count",
            y_min=0,
        ),
        height=_CHART_PX,
    )


def _calibration(found: Mapping[str, Any]) -> None:
    if not found["n"]:
        parts.heading("Calibration")
        parts.empty(
            "No rated answers yet", "Once answers that a policy chose it for are rated, expectation meets outcome here."
        )
        return
    bins = found["bins"]
    chart(
        Chart(
            title="Calibration",
            unit="quality said, by quality expected",
            x=[f"{each['expected']:.2f}" for each in bins],
            x_kind="category",
            x_title="expected by the policy when it decided",
            series=[
                Series(
                    name="said (95 %)",
                    values=[each["said"] for each in bins],
                    low=[each["low"] for each in bins],
                    high=[each["high"] for each in bins],
                ),
                Series(name="expected", values=[each["expected"] for each in bins], dashed=True, color=8),
            ],
            y_min=0,
            y_max=1,
            about="Where the line of what was said lies on the dashed one, expectations are right.",
        ),
        height=_CHART_PX,
    )
    gap = found["said"] - found["expected"]
    parts.text(
        f"{words.count(found['n'])} rated answers: expected {found['expected']:.3f}, said {found['said']:.3f} "
        f"({words.points(gap)}); calibration error {found['ece']:.3f}, Brier score {found['brier']:.3f}.",
        "rg-dim",
        tag="p",
    )


def _price_history(found: Mapping[str, Any]) -> None:
    history: Sequence[Mapping[str, Any]] = found["price_history"]
    if len(history) < 2:
        parts.heading("Price history")
        rows: list[tuple[str, object]] = [
            (name, f"{words.money(float(found[field]))} per million tokens") for name, field in _PRICES
        ]
        parts.definition(rows)
        parts.text("Its prices never changed, and no change is set (price_changes).", "rg-dim", tag="p")
        return
    x, at = _steps(history)
    shown = [(name, field) for name, field in _PRICES if name in ("input", "output")]
    chart(
        Chart(
            title="Price history",
            unit="USD per million tokens",
            x=x,
            series=[Series(name=name, values=[float(each[field]) for each in at]) for name, field in shown],
            form="usd",
            y_min=0,
        ),
        height=_CHART_PX,
    )
    turns = [each["since"] for each in history if each["since"] is not None]
    with parts.row():
        parts.text(f"{len(turns)} changes, the last", "rg-dim")
        words.instant(turns[-1], style="date")


def _steps(history: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Mapping[str, Any]]]:
    """A price holds until the next: two points for each, a month beyond the first and the last change."""
    turns = [datetime.fromisoformat(each["since"]) for each in history if each["since"] is not None]
    start = min(turns) - timedelta(days=30)
    end = max(*turns, datetime.now(UTC)) + timedelta(days=30)
    x: list[str] = []
    at: list[Mapping[str, Any]] = []
    for each in history:
        for instant in (each["since"] or start.isoformat(), each["until"] or end.isoformat()):
            x.append(instant)
            at.append(each)
    return x, at


def _about(found: Mapping[str, Any]) -> None:
    offers = ", ".join(found["offers"]) or "text alone"
    parts.definition(
        [
            ("Model", found["model"]),
            ("Provider", f"{found['provider']} ({found['protocol']})"),
            ("Context", f"{words.count(found['context_tokens_max'])} tokens"),
            ("Offers", offers),
            ("Region", found["region"] or "not said"),
            ("Collects data", "yes" if found["collects_data"] else "no"),
            ("Default endpoint", "yes" if found["default"] else "no"),
        ]
    )
    if found["circuit_since"]:
        with parts.row():
            parts.text(f"Circuit {found['circuit'].replace('_', ' ')} since", "rg-dim")
            words.instant(found["circuit_since"])
