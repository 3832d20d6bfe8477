"""The form that saves settings, and what takes one of them, or all of a row, back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts
from router_gateway.dashboard.client import AdminClient, Refused
from router_gateway.dashboard.dialogs import Fields, ask
from router_gateway.dashboard.view import View

WORDS = {
    "worth_usd": "What a perfect answer is worth; more buys better ones.",
    "optimism": "How much doubt speaks for an endpoint; above 0 explores.",
    "rule": "How values become chances.",
    "guard": "How much evidence it takes to leave the default endpoint.",
    "pacing_usd": "What pacing may spend in its period, in USD.",
}
"""The settings that can be saved, and what they are, in the order in which they are shown."""

_RULES = {
    "greedy": "greedy: always the best",
    "epsilon_greedy": "epsilon_greedy: now and then any",
    "inverse_gap": "inverse_gap: others by how close they come",
}
_OF_RULE = {"epsilon_greedy": "epsilon", "inverse_gap": "gamma"}
_NUMBERS = {
    "epsilon": ("0.05", "Of the rule: the share of requests that any endpoint may get."),
    "gamma": ("200", "Of the rule: how sharply gaps count."),
}
"""What a rule's number is when the rule is new here, and what it is."""


async def change(view: View) -> None:
    """Ask what to save, prefilled with what is in force before any candidate."""
    found = await view.act(lambda admin: admin.get("/settings", fresh_s=0.0))
    if found is None:
        return
    now, base = found["settings"], 0 if found["saved"] is None else found["saved"]["id"]

    async def send(admin: AdminClient, given: dict[str, Any]) -> Any:
        changes = changed(now, given)
        if not changes:
            raise Refused("Nothing is changed yet.")
        body = {"changes": changes, "note": given["note"] or "", "base": base}
        return await admin.send("POST", "/settings", body)

    await ask(
        view,
        "Change settings",
        partial(_fields, now),
        send,
        action="Save",
        about="In force within seconds, in every process, without a restart. It can be taken back.",
        done="Saved; in force within seconds.",
    )


async def lift(view: View, setting: str) -> None:
    """Have the configuration say it again."""
    note = await parts.confirm(
        f"Lift {setting}?",
        "The configuration's value is in force again.",
        action="Lift",
        note=True,
        danger=False,
    )
    if note is not None:
        body = {"changes": {setting: None}, "note": note}
        await view.act(lambda admin: admin.send("POST", "/settings", body), done=f"{setting} is as configured.")


async def go_back(view: View, row: Mapping[str, Any]) -> None:
    """Save the state of that row anew."""
    note = await parts.confirm(
        f"Go back to row {row['id']}?",
        "Everything that is saved becomes as it was from that row on. This is a new row: it can be taken back as well.",
        action="Go back",
        note=True,
        danger=False,
    )
    if note is not None:
        path = f"/settings/rollback/{row['id']}"
        await view.act(lambda admin: admin.send("POST", path, {"note": note}), done=f"As from row {row['id']} on.")


def changed(now: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from what is in force, as the API takes it; what is no number is left for the gateway to refuse."""
    wanted: dict[str, Any] = {name: _number(given[name]) for name in ("worth_usd", "optimism")}
    rule = {"name": given["rule"]}
    if given["rule"] in _OF_RULE:
        own = _OF_RULE[given["rule"]]
        rule[own] = _number(given[own])
    novelty = str(given["novelty_stddev_max"] or "").strip()
    wanted |= {"rule": rule, "guard": {"z": _number(given["z"]), "novelty_stddev_max": _number(novelty or None)}}
    known = {name: now[name] for name in wanted}
    if "pacing_usd" in given:
        wanted["pacing_usd"], known["pacing_usd"] = _number(given["pacing_usd"]), now["pacing"]["usd"]
    return {name: value for name, value in wanted.items() if value != known[name]}


def _fields(now: Mapping[str, Any]) -> Fields:
    rule, guard, pacing = now["rule"], now["guard"], now.get("pacing")
    fields: dict[str, Any] = {
        "worth_usd": _input("worth_usd, USD", now["worth_usd"], WORDS["worth_usd"]),
        "optimism": _input("optimism", now["optimism"], WORDS["optimism"]),
    }
    fields["rule"] = ui.select(_RULES, label="rule", value=rule["name"], validation=parts.unchecked).props(
        "outlined dense"
    )
    fields["rule"]._props["hint"] = WORDS["rule"]
    for own, (default, about) in _NUMBERS.items():
        fields[own] = _input(own, rule.get(own, default), about)
    fields["z"] = _input("guard: z", guard["z"], "Standard errors that a gain must exceed.")
    novelty = guard["novelty_stddev_max"]
    fields["novelty_stddev_max"] = _input("guard: novelty", novelty, "Doubt beyond which the default serves, if any.")
    if pacing is not None:
        fields["pacing_usd"] = _input("pacing_usd, USD", pacing["usd"], WORDS["pacing_usd"])
    fields["note"] = ui.input("Reason", validation=parts.unchecked).props("outlined dense stack-label")
    fields["note"]._props["hint"] = "For history and trail."

    def fits_rule() -> None:
        for own in _NUMBERS:
            fields[own].set_visibility(_OF_RULE.get(fields["rule"].value) == own)

    fields["rule"].on_value_change(fits_rule)
    fits_rule()
    return fields


def _input(label: str, value: Any, about: str) -> ui.input:
    shown = "" if value in (None, "") else f"{value:g}" if isinstance(value, float) else str(value)
    made = ui.input(label, value=shown, validation=parts.unchecked).props(
        "outlined dense stack-label inputmode=decimal"
    )
    made._props["hint"] = about
    return made


def _number(said: Any) -> Any:
    try:
        return None if said is None else float(str(said).strip())
    except ValueError:
        return said
