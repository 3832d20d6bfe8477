"""Budgets on a page: what is left of each, how its period burns down, and the forms that set and remove one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import Chart, Series, chart
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.dialogs import Fields, ask, show
from router_gateway.dashboard.tables import Column, Order, table
from router_gateway.dashboard.view import View

_COLUMNS = (
    Column(name="whose", title="Whose", sort=True),
    Column(name="period", title="Per", sort=True),
    Column(name="limit_usd", title="Limit", form="money", sort=True),
    Column(name="spent_usd", title="Spent", form="money", sort=True),
    Column(name="reserved_usd", title="Under way", form="money"),
    Column(name="remaining_ratio", title="Left", form="percent", sort=True),
    Column(name="state", title="State", form="pill"),
    Column(name="renews_at", title="Renews", form="instant"),
)
_PAST = (Column(name="at", title="Began", form="instant"), Column(name="spent_usd", title="Spent", form="money"))
_LOW, _SPENT = 0.2, 0.0
_COMMAND = "router-gateway budgets set 25 --per day"
_SCOPES = {"gateway": "the whole gateway", "team": "a team", "key": "a key"}
_PERIODS = {"hour": "an hour", "day": "a day", "month": "a month"}


def build(view: View, *, every_s: float) -> None:
    """The card: a table whose rows open the burn-down."""
    with parts.card("Budgets", hint="what may be spent; periods begin in UTC"):
        if view.role == "admin":
            with parts.row("rg-corner"):
                parts.button("Set a budget", partial(_set, view), kind="primary")

        async def fetch(admin: AdminClient) -> list[dict[str, Any]]:
            names = {key["id"]: f"{key['name']} ({key['prefix']}…)" for key in await admin.data("/keys", fresh_s=5.0)}
            return [_row(each, names) for each in await admin.data("/budgets")]

        view.region(fetch, partial(_draw, view), every_s=every_s, height="104px")


def _draw(view: View, rows: Sequence[Mapping[str, Any]]) -> Any:
    if not rows:
        parts.empty("No budgets", "Nothing bounds what may be spent. Set one here, or:", command=_COMMAND)
        return None
    made = table(
        _COLUMNS, label="Budgets", order=Order(by="remaining_ratio", descending=False), on_open=partial(_open, view)
    )
    made.show(rows)
    return made.show


def _row(budget: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    scope, subject, left = budget["scope"], budget["subject"], budget["remaining_ratio"]
    whose = {"gateway": "gateway", "tenant": f"team {subject}"}.get(scope, f"key {names.get(subject, subject)}")
    state = ("spent", "bad") if left <= _SPENT else ("low", "warn") if left < _LOW else ("fine", "good")
    return {**budget, "whose": whose, "state": state}


async def _open(view: View, row: Mapping[str, Any]) -> None:
    where = {"scope": row["scope"], "subject": row["subject"], "period": row["period"]}
    burnt = await view.act(lambda admin: admin.get("/budgets/history", where))
    if burnt is None:
        return
    title = f"{row['whose']}, per {row['period']}"
    actions = {"change": "Change the limit", "remove": "Remove…"} if view.role == "admin" else {}
    pressed = await show(view, title, partial(_burn_down, burnt), actions=actions, dangerous={"remove"})
    if pressed == "change":
        await _set(view, row)
    elif pressed == "remove":
        note = await parts.confirm(
            "Remove this budget?", f"{title}: nothing bounds this spend any more.", action="Remove", note=True
        )
        if note is not None:
            gone = {**where, "note": note or None}
            params = {name: value for name, value in gone.items() if value is not None}
            await view.act(lambda admin: admin.send("DELETE", "/budgets", params=params), done=f"Removed: {title}.")


def _burn_down(burnt: Mapping[str, Any]) -> None:
    left = burnt["limit_usd"] - burnt["spent_usd"] - burnt["reserved_usd"]
    with ui.element("div").classes("rg-tiles"):
        parts.tile("Counted", words.money(burnt["spent_usd"]), detail=f"of {words.money(burnt['limit_usd'])}")
        parts.tile("Left", words.money(max(left, 0.0)), detail=words.percent(burnt["remaining_ratio"]))
    steps = burnt["steps"]
    if len(steps) > 1:
        even = _even_pace(burnt)
        x = [burnt["period_start"], *(step["at"] for step in steps)]
        chart(
            Chart(
                title="Burn-down",
                unit="USD left if all of the period counted",
                x=x,
                series=[
                    Series(name="left", values=[burnt["limit_usd"], *(_left(burnt, step) for step in steps)]),
                    Series(name="an even pace", values=even, dashed=True),
                ],
                form="usd",
                about="What is left of the limit after each step of the period, beside an even pace.",
            ),
            height="220px",
        )
    else:
        why = "The ledger knows teams and not keys, so a key's spend has no course." if burnt["scope"] == "key" else ""
        parts.text(why or "The period has just begun.", "rg-dim", tag="p")
    parts.text(
        "A budget counts from when it was set; the chart has all that the ledger knows of.", "rg-dim rg-small", tag="p"
    )
    with parts.row("rg-dim"):
        parts.text("Renews")
        words.instant(burnt["renews_at"])
    past = burnt["periods"][1:8]
    if past:
        parts.heading("Earlier periods", level=3)
        rows = [{"at": each["at"], "spent_usd": each["spent_usd"]} for each in past]
        table(_PAST, label="Earlier periods").show(rows)


def _left(burnt: Mapping[str, Any], step: Mapping[str, Any]) -> float:
    return max(float(burnt["limit_usd"]) - float(step["spent_usd"]), 0.0)


def _even_pace(burnt: Mapping[str, Any]) -> list[float]:
    """What would be left at the beginning and after each step if the limit lasted exactly to the end."""
    start, end = (datetime.fromisoformat(burnt[name]) for name in ("period_start", "renews_at"))
    instants = [start, *(datetime.fromisoformat(step["at"]) for step in burnt["steps"])]
    return [float(burnt["limit_usd"]) * (1.0 - (at - start) / (end - start)) for at in instants]


async def _set(view: View, row: Mapping[str, Any] | None = None) -> None:
    async def send(admin: AdminClient, given: dict[str, Any]) -> Any:
        fixed = {} if row is None else {"scope": row["scope"], "subject": row["subject"] or "", "period": row["period"]}
        body = {**given, **fixed, "limit_usd": str(given["limit_usd"] or "").strip().removeprefix("$")}
        return await admin.send("PUT", "/budgets", body)

    title = "Set a budget" if row is None else f"{row['whose']}, per {row['period']}"
    await ask(view, title, partial(_fields, row), send, action="Save", done="Saved; it binds within seconds.")


def _fields(row: Mapping[str, Any] | None) -> Fields:
    limit = "" if row is None else f"{row['limit_usd']:g}"
    amount = {
        "limit_usd": ui.input("Limit, USD", value=limit, placeholder="25", validation=parts.unchecked).props(
            "outlined dense stack-label inputmode=decimal autofocus"
        ),
        "note": ui.input("Reason", placeholder="for the audit trail", validation=parts.unchecked).props(
            "outlined dense stack-label"
        ),
    }
    if row is not None:
        return amount
    return {
        "scope": ui.select(_SCOPES, label="Whose", value="team", validation=parts.unchecked).props(
            "outlined dense stack-label"
        ),
        "subject": ui.input("Team, or the key's first letters", validation=parts.unchecked).props(
            "outlined dense stack-label"
        ),
        "period": ui.select(_PERIODS, label="Per", value="month", validation=parts.unchecked).props(
            "outlined dense stack-label"
        ),
        **amount,
    }
