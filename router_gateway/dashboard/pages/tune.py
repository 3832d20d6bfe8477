"""Tune: what another dial would bring, on own traffic and on recorded outcomes, and a draft made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element

from router_gateway.dashboard import parts, readings, words
from router_gateway.dashboard.charts import chart
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.dial import Dial
from router_gateway.dashboard.pages import tune_charts
from router_gateway.dashboard.pages.tune_draft import DraftForm
from router_gateway.dashboard.patience import estimate
from router_gateway.dashboard.readings import Reading
from router_gateway.dashboard.view import Region, View

_OTHERS_MAX = 3
_SINCE = {"7d": "last 7 days", "30d": "last 30 days", "90d": "last 90 days", "all": "all there is"}
_CHART_PX = "380px"


def build(view: View) -> None:
    """The dial over the curves, and beneath what to save of it."""
    Bench(view).build()


class Bench:
    """One open page. `listeners` are told when the dial moved or a curve came; nobody is asked then."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.live: Mapping[str, Any] = {}
        self.worth_usd = 0.01
        self.curves: dict[str, Mapping[str, Any]] = {}
        self.listeners: list[Callable[[], None]] = []
        self._since = "30d"
        self._beside: list[str] = []
        self._known: set[str] = set()
        self._dial: Dial | None = None
        self._drawn: list[Region[Any]] = []

    def build(self) -> None:
        """Draw the page."""
        view = self._view
        view.region(self._policies, self._bench, height="232px", classes="rg-card")
        with parts.card():
            view.region(self._others, self._choice, height="40px")
        with parts.grid(min_width="440px"):
            for on in ("traffic", "reference"):
                height = f"calc({_CHART_PX} + 110px)"
                self._drawn.append(view.region(self._curve(on), self._drawing(on), height=height, classes="rg-card"))
        with parts.grid(min_width="440px"):
            with parts.card("Draft a candidate", hint="nothing is served before you say so", classes="rg-draft"):
                DraftForm(view, self).build()
            with parts.column():
                with parts.card("At this dial"):
                    self._shares()
                with parts.card("Budgets"):
                    view.region(self._budgets, self._draw_budgets, every_s=30.0, height="120px")

    # the dial and what it says

    async def _policies(self, admin: AdminClient) -> Mapping[str, Any]:
        rows = await admin.data("/policies")
        return next(row for row in rows if row["default"])

    def _bench(self, live: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None]:
        self.live, self.worth_usd = live, live["worth_usd"]
        with ui.element("div").classes("rg-row rg-between"):
            parts.heading("What is a perfect answer worth?")
            parts.button("Back to the live dial", self._reset, kind="quiet")
        self._dial = Dial("worth_usd", self.worth_usd, on_move=self.moved)
        said = parts.text("", "rg-dial-said", tag="p")
        said._props["role"] = "status"
        coin = parts.text("", "rg-dim rg-dial-coin", tag="p")
        self.listeners.append(lambda: self._say(said, coin))
        self._ranged()
        self.tell()

        def update(newer: Mapping[str, Any]) -> None:
            self.live = newer
            self.tell()

        return update

    def moved(self, worth_usd: float) -> None:
        """The dial was moved."""
        self.worth_usd = worth_usd
        self.tell()

    def tell(self) -> None:
        """Everything that shows the dial shows it where it is."""
        for listener in self.listeners:
            listener()

    def reading(self, on: str) -> Reading | None:
        """The live line of a curve at the dial; None before it came."""
        found = self.curves.get(on)
        if found is None or not found["lines"]:
            return None
        return readings.read(found["lines"][0]["points"], self.worth_usd)

    def now(self, on: str) -> Reading | None:
        """The same at the dial that is live."""
        found = self.curves.get(on)
        if found is None or not found["lines"]:
            return None
        return readings.read(found["lines"][0]["points"], found["lines"][0]["worth_usd"])

    def ground(self) -> str:
        """Where the words come from: own traffic, or the reference where that cannot say."""
        own = self.reading("traffic")
        return "traffic" if "reference" not in self.curves or (own is not None and not own.refused) else "reference"

    def _say(self, said: Element, coin: Element) -> None:
        on = self.ground()
        reading = self.reading(on)
        if reading is None:
            refused = self.curves.get(on, {}).get("refused", "")
            _put(said, f"{refused[:1].upper()}{refused[1:]}." if refused else "The curve is being computed …")
            _put(coin, "")
            return
        line = self.curves[on]["lines"][0]
        _put(said, readings.change_in_words(reading, line["worth_usd"]))
        where = "" if on == "traffic" else "On the reference set, not on your traffic. "
        _put(coin, where + readings.coin_in_words(reading))

    def _reset(self) -> None:
        if self._dial is not None and self.live:
            self._dial.put(self.live["worth_usd"])
            self.moved(self.live["worth_usd"])

    def _ranged(self) -> None:
        """The dial moves over what was computed, of own traffic where that can be told."""
        known = [self.curves[on]["lines"] for on in ("traffic", "reference") if on in self.curves]
        lines: Sequence[Mapping[str, Any]] = next((each for each in known if each), ())
        stops = [point["worth_usd"] for line in lines[:1] for point in line["points"]]
        if self._dial is not None and len(stops) > 1:
            self._dial.range(stops[0], stops[-1], stops)

    # what is drawn beside the live policy

    async def _others(self, admin: AdminClient) -> dict[str, str]:
        policies, candidates = await admin.data("/policies"), await admin.data("/lifecycle/candidates")
        found = {f"policy:{row['name']}": f"{row['name']} as configured" for row in policies}
        gone = ("retired", "fitting", "failed", "live")
        return found | {
            f"candidate:{row['name']}": f"{row['name']} ({row['state'].replace('_', ' ')})"
            for row in candidates
            if row["state"] not in gone
        }

    def _choice(self, options: dict[str, str]) -> Callable[[dict[str, str]], None]:
        self._known = set(options)
        with parts.row("rg-between"):
            beside = ui.select(options, multiple=True, label="Draw beside what is live", value=[]).props(
                "outlined dense use-chips stack-label"
            )
            beside.classes("rg-beside").on_value_change(lambda event: self._compare(event.value))
            since = ui.select(_SINCE, label="Traffic of", value=self._since).props("outlined dense")
            since.on_value_change(lambda event: self._of(event.value))

        def update(newer: dict[str, str]) -> None:
            self._known = set(newer)
            beside.set_options(newer, value=[each for each in beside.value if each in newer])

        return update

    async def _compare(self, chosen: Sequence[str]) -> None:
        self._beside = [each for each in chosen if each in self._known][:_OTHERS_MAX]
        if len(chosen) > _OTHERS_MAX:
            parts.toast(f"At most {_OTHERS_MAX} beside what is live are drawn.", good=False)
        await self._again()

    async def _of(self, since: Any) -> None:
        self._since = since if since in _SINCE else self._since
        await self._again()

    async def _again(self) -> None:
        for region in self._drawn:
            await region.refresh()

    # the curves

    def _curve(self, on: str) -> Callable[[AdminClient], Any]:
        async def fetch(admin: AdminClient) -> dict[str, Any]:
            named: dict[str, list[str]] = {"policy": [], "candidate": []}
            for each in self._beside:
                kind, _, name = each.partition(":")
                named[kind].append(name)
            since = self._since if on == "traffic" else "30d"
            return await estimate(admin, "/curve", {"on": on, "since": since, **named})

        return fetch

    def _drawing(self, on: str) -> Callable[[dict[str, Any]], Callable[[dict[str, Any]], None]]:
        def draw(found: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
            box = parts.column()
            moving: list[Callable[[], None]] = []

            def show(newer: dict[str, Any]) -> None:
                self.curves[on] = newer
                box.clear()
                for old in moving:
                    self.listeners.remove(old)
                moving.clear()
                with box:
                    if newer["lines"]:
                        moving.append(self._chart(on, newer))
                        self.listeners.extend(moving)
                    else:
                        _nothing(on, newer["refused"])
                self._ranged()
                self.tell()

            show(found)
            return show

        return draw

    def _chart(self, on: str, found: Mapping[str, Any]) -> Callable[[], None]:
        nowhere = Reading(worth_usd=self.worth_usd)
        made = chart(tune_charts.curve_chart(found, self.reading(on) or nowhere), height=_CHART_PX)
        parts.text(_ground(found), "rg-dim rg-small", tag="p")
        if said := found["notes"]:
            parts.text("; ".join(said), "rg-dim rg-small", tag="p")
        return lambda: made.show(tune_charts.curve_chart(found, self.reading(on) or nowhere))

    def _shares(self) -> None:
        with parts.column("rg-at-dial"):
            tiles = ui.element("div").classes("rg-tiles rg-tiles-two")
            made = chart(tune_charts.share_chart({}, {}), height="220px")

        def show() -> None:
            on = self.ground()
            now, then = self.now(on), self.reading(on)
            if now is None or then is None:
                return
            made.show(tune_charts.share_chart(now.share, then.share))
            tiles.clear()
            with tiles:
                _tiles(then)

        self.listeners.append(show)

    # budgets

    async def _budgets(self, admin: AdminClient) -> dict[str, Any]:
        days = await admin.data("/reports/day", fresh_s=30.0)
        whole = days[-31:-1]
        per_day = sum(row["requests"] for row in whole) / len(whole) if whole else 0.0
        return {"budgets": await admin.data("/budgets"), "per_day": per_day}

    def _draw_budgets(self, found: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
        spent, box = parts.text("", tag="p"), parts.column()
        newest = {"found": found}

        def tell() -> None:
            reading, per_day = self.reading(self.ground()), newest["found"]["per_day"]
            if reading is None or reading.cost_usd is None or not per_day:
                _put(spent, "What a day would cost is told once there are days of traffic and a curve.")
                return
            cost = reading.cost_usd
            around = words.interval(cost.low * per_day, cost.high * per_day, words.money)
            day = words.money(cost.value * per_day)
            _put(spent, f"At {words.count(per_day)} requests a day this dial spends about {day} a day ({around}).")

        def show(newer: dict[str, Any]) -> None:
            newest["found"] = newer
            box.clear()
            with box:
                _budget_lines(newer["budgets"])
            tell()

        self.listeners.append(tell)
        show(found)
        return show


def _budget_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        parts.text("No budget bounds it.", "rg-dim", tag="p")
    for row in rows:
        whose = f"{row['scope']} {row['subject']}" if row["subject"] else row["scope"]
        left_usd = max(row["remaining_ratio"], 0.0) * row["limit_usd"]
        limit = words.money(row["limit_usd"])
        parts.text(f"{whose}: {words.money(left_usd)} of {limit} left this {row['period']}", tag="p")


def _tiles(then: Reading) -> None:
    cost, quality = then.cost_usd, then.quality
    if cost is None or quality is None:
        parts.tile("Quality", words.DASH, detail="not identifiable here")
        return
    around = words.interval(cost.low * 1000, cost.high * 1000, words.money)
    parts.tile("1,000 requests", words.money(cost.value * 1000), detail=around)
    parts.tile("Quality", words.percent(quality.value), detail=words.interval(quality.low, quality.high))
    if then.over_mix is not None:
        over = then.over_mix
        around = words.interval(over.low, over.high, words.points)
        parts.tile("Over a coin at that cost", words.points(over.value), detail=around)
    parts.tile(
        "Evidence",
        words.count(then.ess),
        detail="effective observations",
        hint="What the rated answers are worth for this dial; below 30 nothing is told",
    )


def _ground(found: Mapping[str, Any]) -> str:
    if found["on"] == "reference":
        return f"{words.count(found['asked'])} prompts, each asked of a policy that had not seen it."
    sessions = words.count(found["parts"])
    return f"{words.count(found['asked'])} rated draws of {sessions} sessions, by a policy fitted on the other half."


def _nothing(on: str, refused: str) -> None:
    if on == "reference":
        parts.empty("No reference set", f"{refused[:1].upper()}{refused[1:]}.")
        return
    parts.empty(
        "Your traffic cannot say yet",
        f"{refused[:1].upper()}{refused[1:]}. Let the gateway explore (rule) and post feedback; then look again.",
    )


def _put(made: Element, said: str) -> None:
    if made._text != said:
        made._text = said
        made.update()
