"""The part of an endpoint's page where it is onboarded: begin, watch the interval narrow, stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import Chart, Series, chart
from router_gateway.dashboard.client import AdminClient, Refused, Trouble
from router_gateway.dashboard.pages.endpoints import STATES, UNDER_WAY, mean_of
from router_gateway.dashboard.schema_form import SchemaForm
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_EVERY_S = 1.5
_HEIGHT = "330px"
_WISH: Mapping[str, Any] = {
    "properties": {
        "probes": {
            "type": "integer", "minimum": 1, "maximum": 1000, "default": 40,
            "description": "prompts whose answers can be checked",
        },
        "budget_usd": {
            "type": "number", "exclusiveMinimum": 0, "maximum": 1000, "default": 1.0,
            "description": "what all answers may cost together",
        },
        "max_tokens": {
            "type": "integer", "minimum": 1, "maximum": 200000, "default": 2048,
            "description": "of an answer; more for models that think",
        },
    }
}  # fmt: skip
_STANDINGS = (
    Column(name="endpoint", title="Endpoint"),
    Column(name="right", title="Probes right"),
    Column(name="mean", title="Mean quality (95 %)"),
    Column(name="expected", title="The policy expects", form="number"),
    Column(name="doubt", title="± doubt", form="number"),
    Column(name="usd", title="A probe", form="money"),
)


def onboarding(view: View, name: str) -> None:
    """The card on the page of the endpoint `name`."""

    async def newest(admin: AdminClient) -> dict[str, Any] | None:
        rows = await admin.data("/onboardings", fresh_s=1.0)
        own = next((row for row in rows if row["endpoint"] == name), None)
        found: dict[str, Any] | None = (
            None if own is None else await admin.get(f"/onboardings/{own['id']}", fresh_s=1.0)
        )
        return found

    with parts.card("Onboarding", hint="it answers probes that can be checked; its estimate narrows with every four"):
        with parts.grid(min_width="340px"):
            left = parts.column()
            view.region(newest, lambda found: _watched(view, found), every_s=_EVERY_S, height=_HEIGHT)
        with left:
            form = SchemaForm(_WISH)
            with parts.row():
                parts.button("Onboard with probes", lambda: begin(), kind="primary", disabled=view.role == "viewer")
        view.region(newest, _standings, every_s=_EVERY_S, height="90px")

    async def begin() -> None:
        values = form.values()
        if values is None:
            return
        budget = values.get("budget_usd", 1.0)
        sure = await parts.confirm(
            f"Onboard {name}?",
            f"It is asked {values.get('probes', 40)} probes, for at most {words.money(budget)} in all. "
            "The answers are graded, written to the ledger, and the policies learn from them.",
            action="Ask the probes",
            danger=False,
        )
        if sure is None:
            return
        try:
            await view.admin.send("POST", "/onboardings", {"endpoint": name, **values})
        except Refused as refused:
            if not form.blame(refused.param, refused.message):
                view.tell(refused)
            return
        except Trouble as trouble:
            view.tell(trouble)
            return
        parts.toast("The probes are on their way.", good=True)
        await view.refresh()


def _watched(view: View, found: dict[str, Any] | None) -> Callable[[dict[str, Any] | None], None] | None:
    if found is None:
        parts.empty("Never onboarded", "Ask it a few dozen probes, and the policies know its place in a minute.")
        return None
    with parts.row():
        state = parts.pill(found["state"])
        told = parts.text("", "rg-dim")
        told._props["role"] = "status"
        halt = parts.button("Stop", lambda: stop(), kind="danger", label="Stop the onboarding")
        halt._props["disabled"] = view.role == "viewer"
    narrowing = chart(_narrowing(found), height="260px")
    current = {"id": found["id"], "state": found["state"]}

    def show(found: dict[str, Any] | None) -> None:
        if found is None:
            return
        if current["state"] in UNDER_WAY and found["state"] not in UNDER_WAY:
            ui.timer(0.1, view.refresh, once=True)  # the rest of the page has something new to say
        current.update(id=found["id"], state=found["state"])
        tone = STATES.get(found["state"], "warn")
        state._text = found["state"]
        state.classes(replace=f"rg-pill {f'rg-{tone}' if tone else ''}")
        state.update()
        told._text = _progress(found)
        told.update()
        halt.set_visibility(found["state"] == "running")
        narrowing.show(_narrowing(found))

    async def stop() -> None:
        await view.act(lambda admin: admin.send("DELETE", f"/onboardings/{current['id']}"), done="It stops.")

    show(found)
    return show


def _standings(found: dict[str, Any] | None) -> Callable[[dict[str, Any] | None], None]:
    made = table(_STANDINGS, label="Where everybody stands", none="Where everybody stands is told when it is done.")

    def show(found: dict[str, Any] | None) -> None:
        made.show([_standing(row) for row in (found or {}).get("standings", ())])

    show(found)
    return show


def _progress(found: Mapping[str, Any]) -> str:
    said = [f"{found['answered']} of {found['probes']} answers, {words.money(found['spent_usd'])} spent"]
    if found["interval"] is not None:
        said.append(f"mean quality {mean_of(found['interval'])}")
    for what in ("undecided", "failed", "cut"):
        if found[what]:
            said.append(f"{found[what]} {what}")
    if found["taught"]:
        own = next((row for row in found["standings"] if row["endpoint"] == found["endpoint"]), None)
        if own is not None and own["expected"] is None:
            said.append("the policy does not know it yet: older answers are learned first")
        said.append("policies: " + ", ".join(f"{name} {outcome}" for name, outcome in found["taught"].items()))
    if found["why"]:
        said.append(found["why"])
    return "; ".join(said)


def _narrowing(found: Mapping[str, Any]) -> Chart:
    last = {each["answered"]: each for each in found["steps"] if each["interval"] is not None}
    steps = list(last.values())
    return Chart(
        title="What is known of its quality",
        unit="mean quality, 95 % interval",
        x=[str(each["answered"]) for each in steps],
        x_kind="category",
        x_title="answers graded",
        series=[
            Series(
                name="of the probes (95 %)",
                values=[each["interval"]["mean"] for each in steps],
                low=[each["interval"]["low"] for each in steps],
                high=[each["interval"]["high"] for each in steps],
            ),
            Series(name="the policy expects", values=[each["expected"] for each in steps], dashed=True, color=2),
        ],
        y_min=0,
        y_max=1,
        about="The band is the interval of the mean quality; it narrows as answers come.",
    )


def _standing(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "endpoint": row["endpoint"],
        "right": f"{row['right']:g} of {row['asked']}" if row["asked"] else words.DASH,
        "mean": mean_of(row["interval"]),
        "expected": row["expected"],
        "doubt": row["doubt"],
        "usd": row["usd"],
    }
