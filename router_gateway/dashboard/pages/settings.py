"""Settings: what is in force and because of whom, saved and taken back; the ledger's export; the trail of changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, settings_form, words
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.dialogs import show
from router_gateway.dashboard.exporting import card as export_card
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_EVERY_S = 15.0
_ROWS = 100
_ROWS_MAX = 1_000
_REASONS = {
    "default": ("default", ""),
    "preset": ("preset", ""),
    "file": ("configuration file", ""),
    "environment": ("environment", ""),
    "saved": ("saved here", "accent"),
    "candidate": ("live candidate", "warn"),
}
_IN_FORCE = (
    Column(name="setting", title="Setting"),
    Column(name="said", title="In force", form="mono"),
    Column(name="policies", title="For"),
    Column(name="because_pill", title="Because of", form="pill"),
)
_HISTORY = (
    Column(name="at", title="When", form="instant"),
    Column(name="author", title="Who"),
    Column(name="said", title="Changed", form="mono"),
    Column(name="note", title="Why"),
)
_TRAIL = (
    Column(name="at", title="When", form="instant"),
    Column(name="author", title="Who"),
    Column(name="action", title="What", form="mono"),
    Column(name="subject", title="Which"),
    Column(name="note", title="Why"),
)


def build(view: View) -> None:
    """What is in force over its history, then export and trail, then the whole configuration."""
    with parts.card("In force", hint="default < preset < file < environment < saved here < live candidate"):
        if view.role == "admin":
            with parts.row("rg-corner"):
                parts.button("Change settings", partial(settings_form.change, view), kind="primary")
        view.region(_settings, partial(_in_force, view), every_s=_EVERY_S, height="220px")
    with parts.card("History", hint="a row is never changed; going back is a new row"):
        view.region(_history, partial(_past, view), every_s=_EVERY_S, height="120px")
    export_card(view)
    with parts.card("Trail", hint="whatever was changed over the admin API, and every export"):
        _trail(view)
    with parts.card("Configuration", hint="secrets are masked"):
        view.region(_settings, _whole, height="24px")


async def _settings(admin: AdminClient) -> dict[str, Any]:
    found: dict[str, Any] = await admin.get("/settings")
    return found


async def _history(admin: AdminClient) -> list[dict[str, Any]]:
    rows = await admin.data("/settings/history", {"limit": _ROWS})
    return [{**row, "said": told(row["changes"])} for row in rows]


def told(changes: Mapping[str, Any]) -> str:
    """Changes on one line."""
    return " · ".join(f"{name}: {_value(value)}" for name, value in changes.items()) or "nothing"


def _value(value: Any, none: str = "as configured") -> str:
    if isinstance(value, dict):
        return " ".join(str(v) if k == "name" else f"{k}={_value(v, none='none')}" for k, v in value.items())
    return none if value is None else value if isinstance(value, str) else json.dumps(value)


def _in_force(view: View, found: Mapping[str, Any]) -> Any:
    opens = partial(_open_setting, view) if view.role == "admin" else None
    made = table(_IN_FORCE, label="Settings in force", on_open=opens)
    line = parts.row("rg-dim rg-small")

    def draw(newer: Mapping[str, Any]) -> None:
        made.show(_rows(newer))
        line.clear()
        with line:
            saved = newer["saved"]
            who = "Nothing is saved: all is as configured." if saved is None else f"Last saved by {saved['author']}"
            parts.text(who)
            if saved is not None:
                words.instant(saved["at"], style="ago")

    draw(found)
    return draw


def _rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a setting, or several where policies differ."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    names: dict[str, str | None] = {policy: each["candidate"] for policy, each in found["in_force"].items()}
    for policy, each in found["in_force"].items():
        for setting, known in each["settings"].items():
            if known["value"] is None:
                continue  # there is no such thing here to be set
            said = _value(known["value"])
            rows.setdefault((setting, said, known["because"]), []).append(policy)
    made = []
    for (setting, said, because), policies in rows.items():
        reason, tone = _REASONS.get(because, (because, ""))
        candidate = names.get(policies[0]) if because == "candidate" else None
        every = len(policies) == len(names)
        made.append(
            {
                "setting": setting,
                "said": said,
                "policies": "all policies" if every else ", ".join(policies),
                "because": because,
                "because_pill": (f"{reason} {candidate}" if candidate else reason, tone),
            }
        )
    return sorted(made, key=lambda row: list(settings_form.WORDS).index(row["setting"]))


async def _open_setting(view: View, row: Mapping[str, Any]) -> None:
    saved = row["because"] == "saved"

    def draw() -> None:
        parts.text(settings_form.WORDS.get(row["setting"], ""), tag="p")
        parts.definition([("In force", row["said"]), ("For", row["policies"]), ("Because of", row["because_pill"][0])])

    actions = {"change": "Change", **({"lift": "Back to the configuration…"} if saved else {})}
    pressed = await show(view, str(row["setting"]), draw, actions=actions)
    if pressed == "change":
        await settings_form.change(view)
    elif pressed == "lift":
        await settings_form.lift(view, str(row["setting"]))


def _past(view: View, rows: Sequence[Mapping[str, Any]]) -> Any:
    if not rows:
        parts.empty("Nothing was saved yet", "A change is listed here with who, when and why; it can be taken back.")
        return None
    made = table(_HISTORY, label="History of settings", on_open=partial(_open_past, view), height="360px")
    made.show(rows)
    return made.show


async def _open_past(view: View, row: Mapping[str, Any]) -> None:
    def draw() -> None:
        about: list[tuple[str, object]] = [
            ("By", row["author"]),
            ("Why", row["note"] or "–"),
            ("Changed", row["said"]),
            ("All saved from then on", told(row["state"])),
        ]
        if row["restores"] is not None:
            about.append(("Brought back", f"row {row['restores']}"))
        parts.definition(about)

    actions = {"back": "Go back to this…"} if view.role == "admin" else {}
    if await show(view, f"Row {row['id']}", draw, actions=actions) == "back":
        await settings_form.go_back(view, row)


def _trail(view: View) -> None:
    rows_wanted = [_ROWS]

    async def fetch(admin: AdminClient) -> list[dict[str, Any]]:
        return await admin.data("/events", {"limit": rows_wanted[0]})

    def draw(rows: Sequence[Mapping[str, Any]]) -> Any:
        if not rows:
            parts.empty("Nothing was changed yet", "Keys, budgets, settings, candidates: a change leaves a line here.")
            return None
        made = table(_TRAIL, label="Trail", on_open=partial(_open_event, view), height="420px")

        async def older() -> None:
            rows_wanted[0] = min(rows_wanted[0] * 2, _ROWS_MAX)
            await region.refresh()

        with parts.row("rg-end") as foot:
            parts.button("Show older", older, kind="quiet")

        def show_rows(newer: Sequence[Mapping[str, Any]]) -> None:
            made.show(newer)
            foot.set_visibility(len(newer) >= rows_wanted[0] < _ROWS_MAX)

        show_rows(rows)
        return show_rows

    region = view.region(fetch, draw, every_s=_EVERY_S, height="120px")


async def _open_event(view: View, row: Mapping[str, Any]) -> None:
    def draw() -> None:
        parts.definition([("By", row["author"]), ("Which", row["subject"] or "–"), ("Why", row["note"] or "–")])
        words.instant(row["at"])
        if row["detail"]:
            parts.text(json.dumps(row["detail"], indent=2, ensure_ascii=False), "rg-code rg-pre", tag="pre")

    await show(view, str(row["action"]), draw)


def _whole(found: Mapping[str, Any]) -> None:
    with ui.element("details"):
        parts.text("Show all of it", "rg-link", tag="summary")
        box = parts.text(json.dumps(found["settings"], indent=2, ensure_ascii=False), "rg-code rg-pre", tag="pre")
        box._props.update({"tabindex": "0", "aria-label": "The configuration as JSON"})
