"""One candidate: where it stands, what may be done with it, what its test shows, and its trail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.pages import candidate_evidence, candidate_words
from router_gateway.dashboard.pages.candidate_words import Deed
from router_gateway.dashboard.pages.policies import trail_row
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_EVERY_S = 5.0
_TRAIL = (
    Column(name="at", title="When", form="instant"),
    Column(name="move", title="Move"),
    Column(name="author", title="By"),
    Column(name="reason", title="Reason"),
    Column(name="note", title="Note"),
)


def build(view: View) -> None:
    """What it is over what it shows."""
    CandidatePage(view, view.path["name"]).build()


class CandidatePage:
    """The page of the candidate `name`."""

    def __init__(self, view: View, name: str) -> None:
        self._view, self._name = view, name

    def build(self) -> None:
        """Draw it."""
        parts.anchor("All policies", "/policies")
        self._view.region(self._fetch, self._draw, every_s=_EVERY_S, height="300px")
        with parts.card("What its test shows", hint="bounds hold at every look", classes="rg-wide"):
            self._view.region(self._fetch_evidence, candidate_evidence.draw, every_s=_EVERY_S, height="200px")

    async def _fetch(self, admin: AdminClient) -> dict[str, Any]:
        found: dict[str, Any] = await admin.get(f"/lifecycle/candidates/{self._quoted()}")
        return found

    async def _fetch_evidence(self, admin: AdminClient) -> dict[str, Any]:
        found: dict[str, Any] = await admin.get(f"/lifecycle/candidates/{self._quoted()}/evidence", timeout_s=60.0)
        return found

    def _quoted(self) -> str:
        return quote(self._name, safe="")

    def _draw(self, one: dict[str, Any]) -> None:
        with parts.card():
            with parts.row("rg-between"):
                with parts.row():
                    parts.heading(one["name"])
                    parts.pill(*candidate_words.state_pill(one))
                with parts.row():
                    for deed in candidate_words.deeds(one["state"]).values():
                        self._button(one, deed)
            _way(one["state"])
            if one["failing"]:
                parts.error("It cannot serve here", one["failing"])
            parts.definition(_facts(one))
        with parts.card("Trail", classes="rg-wide"):
            made = table(_TRAIL, label=f"Trail of {one['name']}", height="320px")
            made.show([trail_row(row) for row in one["transitions"]])

    def _button(self, one: Mapping[str, Any], deed: Deed) -> None:
        bad, looks_on = deed.verb in ("rollback", "retire"), self._view.role == "viewer"
        first = not bad and deed is next(iter(candidate_words.deeds(one["state"]).values()))
        parts.button(
            deed.title,
            self._pressed(one, deed),
            kind="danger" if deed.verb == "rollback" else "primary" if first else "",
            disabled=looks_on,
        )

    def _pressed(self, one: Mapping[str, Any], deed: Deed) -> Callable[[], Any]:
        async def press() -> None:
            body: dict[str, Any] = {}
            if deed.title == "Make live now":
                body["to_live"] = True
            message = f"{deed.about} In the place of {one['policy']}."
            if deed.verb == "canary":
                share = await _asked_share(deed, message)
                if share is None:
                    return
                body |= share
            else:
                note = await parts.confirm(
                    f"{deed.title}: {one['name']}",
                    message,
                    action=deed.title,
                    note=True,
                    danger=deed.verb in ("rollback", "retire"),
                    typed=one["name"] if deed.title == "Make live now" else "",
                )
                if note is None:
                    return
                body["note"] = note
            path = f"/lifecycle/candidates/{self._quoted()}/{deed.verb}"
            await self._view.act(lambda admin: admin.send("POST", path, body), done=f"{one['name']}: done.")

        return press


async def _asked_share(deed: Deed, message: str) -> dict[str, Any] | None:
    """The share of the traffic and the reason; None: the person turned back. An empty share is the first configured."""
    with ui.dialog().classes("rg-dialog") as dialog, ui.element("div").classes("rg-card rg-dialog-card") as box:
        box._props.update({"role": "alertdialog", "aria-label": deed.title})
        parts.heading(deed.title)
        parts.text(message, tag="p")
        share = ui.input("Share of the traffic, %", validation=_share_wrong).props("outlined dense stack-label")
        share._props["inputmode"] = "decimal"
        parts.text("Empty: the first of lifecycle.shares.", "rg-dim rg-small", tag="p")
        reason = ui.input("Reason").props("outlined dense stack-label maxlength=2000")

        def go() -> None:
            if share.validate():
                dialog.submit({"share": (share.value or "").strip(), "note": reason.value or ""})

        with parts.row("rg-end"):
            parts.button("Cancel", lambda: dialog.submit(None), kind="quiet")
            parts.button(deed.title, go, kind="primary")
    answer = await parts.answer_of(dialog)
    if not isinstance(answer, dict):
        return None
    body: dict[str, Any] = {"note": answer["note"]}
    if answer["share"]:
        body["share"] = float(answer["share"]) / 100
    return body


def _share_wrong(said: str | None) -> str | None:
    if not (said or "").strip():
        return None
    try:
        return None if 0 < float(said or "") < 100 else "more than 0 and less than 100"
    except ValueError:
        return "a number, such as 5"


def _way(state: str) -> None:
    """The way it goes when all goes well, with its place on it."""
    with ui.element("ol").classes("rg-way") as made:
        made._props["aria-label"] = "Where it stands"
        for each in candidate_words.WAY:
            step = parts.text(each, "rg-way-step", tag="li")
            if each == state:
                step._props["aria-current"] = "step"


def _facts(one: Mapping[str, Any]) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [("in the place of", one["policy"]), ("made of", candidate_words.made_of(one))]
    if one["kind"] is not None:
        facts.append(("parameters", f"{one['kind']}: {json.dumps(one['params'])[:2_000]}"))
    if margins := one["margins"]:
        facts.append(("may be worse by", ", ".join(f"{name} {_margin(value)}" for name, value in margins.items())))
    facts.append(("drafted by", one["author"]))
    if one["note"]:
        facts.append(("note", one["note"]))
    return facts


def _margin(value: float | None) -> str:
    return "(not judged)" if value is None else words.number(value)
