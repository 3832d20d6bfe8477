"""Ratings of one request: who said what, a word of one's own, and taking it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient, Refused
from router_gateway.dashboard.view import View

_SOURCES = {"label": "a label: taken for the truth", "user": "a user's word"}
_SAID = {"label": "label", "user": "user", "judge": "judge", "verifier": "check", "implicit": "behaviour"}
_NOTE_CHARS_MAX = 2_000


class Rating:
    """The ratings so far and the form. `path` is the request's, in the admin API."""

    def __init__(self, view: View, path: str) -> None:
        self._view, self._path = view, path

    def build(self) -> None:
        """What was said, and beneath it what can be said."""
        self._view.region(self._fetch, self._list, height="48px")
        if self._view.role != "admin":
            return
        with ui.element("div").classes("rg-form"):
            self._score = ui.number("Score, 0 to 1", placeholder="0.75", step=0.05, validation=parts.unchecked)
            self._score.props("outlined dense stack-label")
            self._source = ui.select(_SOURCES, label="As", value="label").props("outlined dense stack-label")
            self._note = ui.input("Note", placeholder="why, for whoever reads it later")
            self._note.props("outlined dense stack-label")
            self._note._props["maxlength"] = _NOTE_CHARS_MAX
        with parts.row():
            parts.button("Good", lambda: self._say({"verdict": "good"}), label="Rate the answer good")
            parts.button("Bad", lambda: self._say({"verdict": "bad"}), label="Rate the answer bad")
            parts.button("Give the score", self._say_score, kind="primary")

    async def _fetch(self, admin: AdminClient) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = (await admin.get(self._path))["feedback"]
        except Refused:
            return []
        return found

    def _list(self, said: Sequence[Mapping[str, Any]]) -> None:
        if not said:
            parts.text("Nobody has rated it yet. A rating teaches the policies.", "rg-dim", tag="p")
            return
        with ui.element("ul").classes("rg-said"):
            for each in said:
                with ui.element("li").classes("rg-row"):
                    self._one(each)

    def _one(self, each: Mapping[str, Any]) -> None:
        good = each["quality"] >= 0.5
        parts.pill(words.percent(each["quality"], digits=0), "good" if good else "bad")
        who = _SAID.get(each["source"], each["source"]) + (f" {each['judge']}" if each["judge"] else "")
        parts.text(who)
        words.instant(each["at"], style="ago")
        if each["note"]:
            parts.text(each["note"], "rg-break")
        if self._view.role == "admin":
            parts.button("Take back", lambda: self._take_back(each), kind="quiet", label=f"Take back this {who} rating")

    async def _say_score(self) -> None:
        if self._score.value is None:
            self._score.error = "a number from 0 to 1"
            return
        await self._say({"score": self._score.value})

    async def _say(self, said: dict[str, Any]) -> None:
        self._score.error = None
        body = {**said, "source": self._source.value}
        if note := str(self._note.value or "").strip():
            body["note"] = note

        async def work(admin: AdminClient) -> Any:
            return await admin.send("POST", f"{self._path}/feedback", body)

        if await self._view.act(work, done="Your rating is in the ledger.") is not None:
            self._note.set_value("")
            self._score.set_value(None)

    async def _take_back(self, each: Mapping[str, Any]) -> None:
        sure = await parts.confirm(
            "Take this rating back?",
            "It counts as never said; what was learned from it is learned anew.",
            action="Take back",
        )
        if sure is None:
            return

        async def work(admin: AdminClient) -> Any:
            return await admin.send("DELETE", f"{self._path}/feedback/{each['id']}")

        await self._view.act(work, done="The rating is taken back.")
