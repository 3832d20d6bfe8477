"""A decision that was only asked for, explained: the choice in a sentence, all candidates, and what it leaned on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import Chart, Series, chart
from router_gateway.dashboard.tables import Column, Order, table

_COLUMNS = (
    Column(name="endpoint", title="Endpoint", sort=True),
    Column(name="quality", title="Expected quality", form="number", sort=True),
    Column(name="interval", title="95 % interval"),
    Column(name="cost_usd", title="Expected cost", form="money", sort=True),
    Column(name="value", title="Value at the dial", form="number", sort=True),
    Column(name="probability", title="Drawn", form="percent", sort=True),
    Column(name="state", title="Eligible", form="pill"),
)
_WHY = {
    "scored": "its value is the best",
    "explored": "the rule drew it, to learn about it",
    "guard:low_evidence": "there is too little evidence to leave the default endpoint",
    "fallback:error": "routing failed, so the default endpoint serves",
    "fallback:context": "no other endpoint takes a request of this length",
    "gate:modality": "no other endpoint can do what the request needs",
    "pinned": "the request, or the key, allows no other",
    "bypass": "there is no text to route on",
}
_BARS = {
    "pinned": "another model was named",
    "tenant": "the key may not use it",
    "preferences": "the request excludes it",
    "capability": "it cannot do what is needed",
    "context": "the request is too long for it",
}


def show_decision(found: Mapping[str, Any]) -> None:
    """Draw what POST /admin/api/decide answered."""
    rows: Sequence[Mapping[str, Any]] = found["candidates"]
    chosen = next(row for row in rows if row["endpoint"] == found["endpoint"])
    parts.text(f"{found['endpoint']} would answer: {_WHY.get(found['reason'], found['reason'])}.", "rg-lead", tag="p")
    parts.text(_second_line(found, chosen), "rg-dim", tag="p")
    made = table(_COLUMNS, label="Candidates", order=Order(by="value", descending=True))
    made.show([_row(row) for row in rows])
    scored = [row for row in rows if row["quality"] is not None]
    if scored:
        chart(_doubts(scored), height="260px")
    _neighbours(found)
    timings = found["timings"]
    parts.text(
        f"Vector {words.duration_ms(timings['embed_ms'])}, choice {words.duration_ms(timings['route_ms'])}.",
        "rg-dim rg-small",
        tag="p",
    )


def _second_line(found: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    said = [
        f"policy {found['policy']}, rule {found['rule']}",
        f"a perfect answer is worth {words.money(found['worth_usd'])}",
    ]
    if chosen["cost_usd"] is not None:
        said.append(f"expected cost {words.money(chosen['cost_usd'])}")
    for side, words_of in (("below", "less"), ("above", "more")):
        if (switch := found["switch"][side]) is not None:
            said.append(f"{switch['endpoint']} if it were worth {words_of} than {words.money(switch['worth_usd'])}")
    if found["detail"]:
        said.append(found["detail"])
    return "; ".join(said)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    barred = [_BARS.get(each, each) for each in row["barred_by"]]
    state = ("yes", "good") if row["eligible"] else (barred[0] if barred else "outside the bounds", "warn")
    interval = words.DASH
    if row["quality"] is not None:
        interval = f"{row['quality_low']:.2f} to {row['quality_high']:.2f}"
    names = ("endpoint", "quality", "cost_usd", "value", "probability")
    return {**{name: row[name] for name in names}, "interval": interval, "state": state}


def _doubts(rows: Sequence[Mapping[str, Any]]) -> Chart:
    by_cost = sorted(rows, key=lambda row: float(row["cost_usd"] or 0.0))
    return Chart(
        title="Expected quality and its doubt",
        unit="quality, endpoints from cheap to dear",
        x=[str(row["endpoint"]) for row in by_cost],
        x_kind="category",
        series=[
            Series(
                name="quality (95 %)",
                values=[row["quality"] for row in by_cost],
                low=[row["quality_low"] for row in by_cost],
                high=[row["quality_high"] for row in by_cost],
            ),
            Series(name="value at the dial", values=[row["value"] for row in by_cost], dashed=True, color=2),
        ],
        about="Where the dashed line is highest is the choice, unless the rule explores.",
    )


def _neighbours(found: Mapping[str, Any]) -> None:
    near = found.get("neighbours")
    if not near:
        return
    names = [row["endpoint"] for row in found["candidates"]]
    columns = [Column(name="cosine", title="Likeness (cosine)", form="number")]
    columns += [Column(name=f"quality {i}", title=name, form="number") for i, name in enumerate(names)]
    parts.heading("Past requests that it leaned on", level=3)
    made = table(columns, label="Past requests that it leaned on, with the quality of each endpoint's answer")
    made.show(
        [
            {"cosine": each["cosine"], **{f"quality {i}": each["quality"].get(name) for i, name in enumerate(names)}}
            for each in near
        ]
    )
