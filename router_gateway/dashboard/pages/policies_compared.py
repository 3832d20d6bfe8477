"""Two policies or candidates side by side on own traffic: their curves, and what each brings at the dial it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, readings, words
from router_gateway.dashboard.charts import Chart, Series, chart
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.pages import tune_charts
from router_gateway.dashboard.pages.candidate_words import state
from router_gateway.dashboard.patience import estimate
from router_gateway.dashboard.readings import Figure, Reading
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_LIVE = "live"
_EXAMPLES = 20
_CHARS = 200
_COLUMNS = (
    Column(name="what", title=""),
    Column(name="first", title="First"),
    Column(name="second", title="Second"),
)


class Comparison:
    """What is live stands on one side until somebody chooses."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._chosen = [_LIVE, ""]
        self._options: dict[str, str] = {}

    def build(self) -> None:
        """Two choices, and beneath them what they bring."""
        view = self._view
        view.region(self._known, self._choose, height="44px")
        self._region = view.region(self._compared, self._draw, height="120px")

    async def _known(self, admin: AdminClient) -> dict[str, str]:
        policies, candidates = await admin.data("/policies"), await admin.data("/lifecycle/candidates")
        found = {_LIVE: "what is live"}
        found |= {f"policy:{row['name']}": f"{row['name']} as configured" for row in policies}
        return found | {
            f"candidate:{row['name']}": f"{row['name']} ({state(row)})"
            for row in candidates
            if row["state"] not in ("fitting", "failed")
        }

    def _choose(self, options: dict[str, str]) -> Callable[[dict[str, str]], None]:
        self._options = options
        made = []
        with ui.element("div").classes("rg-form"):
            for place, label in enumerate(("First", "Second")):
                value = self._chosen[place] or None
                one = ui.select(options, label=label, value=value).props("outlined dense stack-label")
                one.on_value_change(lambda event, place=place: self._put(place, event.value))
                made.append(one)

        def update(newer: dict[str, str]) -> None:
            self._options = newer
            for one in made:
                one.set_options(newer, value=one.value if one.value in newer else None)

        return update

    async def _put(self, place: int, chosen: Any) -> None:
        self._chosen[place] = chosen if chosen in self._options else ""
        await self._region.refresh()

    async def _compared(self, admin: AdminClient) -> dict[str, Any] | None:
        first, second = self._chosen
        if not first or not second or first == second:
            return None
        named: dict[str, list[str]] = {"policy": [], "candidate": []}
        for each in (first, second):
            kind, _, name = each.partition(":")
            if name:
                named[kind].append(name)
        found = await estimate(admin, "/curve", {"on": "traffic", **named})
        asked = {"policy": _named(first), "against": _named(second), "limit": _EXAMPLES}
        apart = await estimate(admin, "/disagreements", asked)
        return {"chosen": [first, second], "found": found, "apart": apart}

    def _draw(self, data: dict[str, Any] | None) -> None:
        if data is None:
            parts.empty(
                "Choose two", "Their curves on your traffic, and what each brings at its own dial, stand here then."
            )
            return
        found = data["found"]
        lines = [_line(found["lines"], each) for each in data["chosen"]]
        if found["refused"] or any(line is None for line in lines):
            why = found["refused"] or "; ".join(found["notes"])
            parts.empty("Your traffic cannot say", f"{why[:1].upper()}{why[1:]}.")
            return
        both = [line for line in lines if line is not None]
        told = [readings.read(line["points"], line["worth_usd"]) for line in both]
        nowhere = Reading(worth_usd=both[0]["worth_usd"])
        with parts.grid(min_width="440px"):
            with parts.column():
                chart(tune_charts.curve_chart({**found, "lines": both}, nowhere), height="480px")
            with parts.column():
                names = [self._options.get(each, line["name"]) for each, line in zip(data["chosen"], both, strict=True)]
                made = table(
                    (_COLUMNS[0], *(Column(name=c.name, title=n) for c, n in zip(_COLUMNS[1:], names, strict=True))),
                    label="Two side by side",
                )
                made.show(_rows(both, told))
                chart(_shares(names, told), height="200px")
        _apart(data["apart"], names)


def _named(chosen: str) -> str | None:
    """As disagreements are asked for: a policy or a candidate by its name, None for what is live."""
    return chosen.partition(":")[2] or None


def _apart(found: Mapping[str, Any], names: Sequence[str]) -> None:
    """Requests that the two send to different endpoints."""
    with parts.row():
        parts.heading("Where they choose differently", level=3)
        share = words.percent(found["share"])
        parts.text(f"{share} of the newest {words.count(found['decisions'])} requests, at each one's dial", "rg-dim")
    made = table(
        (
            Column(name="text", title="Request", path="path"),
            Column(name="first", title=names[0]),
            Column(name="second", title=names[1]),
            Column(name="answered_by", title="Answered by"),
            Column(name="quality", title="Rated", form="percent"),
        ),
        label="Disagreements",
        none="They agree on all of them.",
        height="360px",
    )
    made.show([_example(row) for row in found["data"]])


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row["text"] or f"a request of {row['tokens_input']} tokens (its text is not stored, or not for this key)"
    return {
        "text": text[:_CHARS],
        "path": f"/requests/{row['id']}",
        "first": row["policy"]["endpoint"],
        "second": row["against"]["endpoint"],
        "answered_by": row["answered_by"],
        "quality": row["quality"],
    }


def _line(lines: Sequence[Mapping[str, Any]], chosen: str) -> Mapping[str, Any] | None:
    kind, _, name = chosen.partition(":")
    return next((x for x in lines if x["what"] == kind and (kind == _LIVE or x["name"] == name)), None)


def _rows(lines: Sequence[Mapping[str, Any]], told: Sequence[Reading]) -> list[dict[str, str]]:
    rows = [("dial", [words.money(line["worth_usd"]) for line in lines])]
    rows.append(("cost of 1,000 requests", [_money(each.cost_usd) for each in told]))
    rows.append(("quality", [_percent(each.quality) for each in told]))
    rows.append(("against what is live: cost", [_change(each.cost_change, words.percent) for each in told]))
    rows.append(("against what is live: quality", [_change(each.quality_change, words.points) for each in told]))
    rows.append(("over a coin at that cost", [_change(each.over_mix, words.points) for each in told]))
    rows.append(("evidence, effective", [words.count(each.ess) for each in told]))
    return [{"what": what, "first": said[0], "second": said[1]} for what, said in rows]


def _shares(names: Sequence[str], told: Sequence[Reading]) -> Chart:
    endpoints = sorted({name for each in told for name in each.share})
    return Chart(
        title="Who answers",
        unit="share of the requests",
        x=endpoints,
        x_kind="category",
        kind="bar",
        form="percent",
        y_min=0.0,
        y_max=1.0,
        series=[
            Series(name=name, values=[each.share.get(endpoint, 0.0) for endpoint in endpoints], color=color)
            for name, each, color in zip(names, told, (1, 3), strict=True)
        ],
    )


def _money(figure: Figure | None) -> str:
    if figure is None:
        return "not identifiable"
    around = words.interval(figure.low * 1000, figure.high * 1000, words.money)
    return f"{words.money(figure.value * 1000)} ({around})"


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return "not identifiable"
    return f"{words.percent(figure.value)} ({words.interval(figure.low, figure.high)})"


def _change(figure: Figure | None, say: Callable[..., str]) -> str:
    if figure is None:
        return words.DASH

    def signed(value: float | None) -> str:
        return say(value) if say is words.points else say(value, signed=True)

    return f"{signed(figure.value)} ({signed(figure.low)} to {signed(figure.high)})"
