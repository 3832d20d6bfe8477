"""Requests: search them, narrow them down, and go through them page by page, newest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.pages.requests_filters import Choices, Filters
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_EVERY_S = 15.0
_LIMIT = 50

_COLUMNS = (
    Column(name="at", title="When", form="instant", path="path"),
    Column(name="said", title="Prompt"),
    Column(name="outcome", title="Outcome", form="pill"),
    Column(name="endpoint", title="Endpoint"),
    Column(name="reason", title="Why"),
    Column(name="cost_usd", title="Cost", form="money"),
    Column(name="latency_ms", title="Took", form="ms"),
    Column(name="tokens", title="Tokens"),
    Column(name="quality", title="Rated", form="percent"),
    Column(name="tenant", title="Tenant"),
)
_REASONS = {
    "scored": "best value",
    "explored": "explored",
    "held:tool_state": "held by a tool loop",
    "gate:modality": "alone able",
    "guard:low_evidence": "too little evidence",
    "fallback:context": "alone long enough",
    "fallback:error": "routing failed",
    "pinned": "named by the client",
    "bypass": "nothing to route on",
}


def build(view: View) -> None:
    """Filters over a table; what is asked for stands in the address when the page is opened by a link."""
    List(view).build()


class List:
    """The list as one person looks at it: `before` are the places where the pages so far began."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._filters = Filters(view.query, self._changed)
        self._before: list[str | None] = [None]

    def build(self) -> None:
        """Filters, table, and the way to older ones."""

        async def known(admin: AdminClient) -> Choices:
            pool = await admin.data("/endpoints", fresh_s=10.0)
            policies = await admin.data("/policies", fresh_s=10.0)
            return Choices([row["name"] for row in pool], [row["name"] for row in policies])

        self._view.region(known, self._filters.draw, height="150px", classes="rg-card")
        self._region = self._view.region(self._fetch, self._draw, every_s=_EVERY_S, height="640px")

    async def _fetch(self, admin: AdminClient) -> dict[str, Any]:
        asked = {**self._filters.params(), "limit": _LIMIT, "before": self._before[-1]}
        found: dict[str, Any] = await admin.get("/requests", asked)
        return found

    async def _changed(self) -> None:
        self._before = [None]
        await self._region.refresh()

    def _draw(self, found: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None] | None:
        if not found["data"] and len(self._before) == 1 and found["next_before"] is None:
            self._nothing()
            return None
        with ui.element("div").classes("rg-lines"):
            made = table(_COLUMNS, label="Requests", none="None of those that were looked at.")
        with parts.row("rg-between"):
            told = parts.row("rg-dim")
            told._props["role"] = "status"
            with parts.row():
                newer = parts.button("Newer", self._newer)
                older = parts.button("Older", lambda: self._older(latest["next_before"]))
        latest: dict[str, Any] = {}

        def show(now: Mapping[str, Any]) -> None:
            latest.update(now)
            made.show([row_of(each) for each in now["data"]])
            told.clear()
            with told:
                parts.text(self._told(now))
                if now["looked_at"] > len(now["data"]) + 1 and now["looked_back_to"]:
                    parts.text("back to")
                    words.instant(now["looked_back_to"])
                if len(now["data"]) < _LIMIT and now["next_before"] is not None:
                    parts.text("Press Older to look further.")
            _able(newer, able=len(self._before) > 1)
            _able(older, able=now["next_before"] is not None)

        show(found)
        return show

    def _nothing(self) -> None:
        if self._filters.params():
            parts.empty("No request is like that", "Widen the time, or lift a filter.")
            return
        parts.empty(
            "No requests yet",
            "Send one through the gateway; it stands here a moment later.",
            link=("Try the playground", "/playground"),
        )

    def _told(self, now: Mapping[str, Any]) -> str:
        count = len(now["data"])
        said = f"Page {len(self._before)}, {count} request{'' if count == 1 else 's'}"
        if now["looked_at"] > count + 1:
            said += f" of {words.count(now['looked_at'])} that were looked at"
        return said

    async def _older(self, before: str | None) -> None:
        if before is not None:
            self._before.append(before)
            await self._region.refresh()

    async def _newer(self) -> None:
        if len(self._before) > 1:
            self._before.pop()
            await self._region.refresh()


def reason(each: Mapping[str, Any]) -> str:
    """Why it went there, in a few words."""
    said = str(each["reason"])
    return _REASONS.get(said, said)


def row_of(each: Mapping[str, Any]) -> dict[str, Any]:
    """A request as the table tells it."""
    answered = each["answered_by"]
    moved = answered is not None and answered != each["endpoint"]
    return {
        **each,
        "path": f"/requests/{each['id']}",
        "outcome": outcome(each),
        "endpoint": f"{each['endpoint']} → {answered}" if moved else each["endpoint"],
        "reason": reason(each),
        "tokens": f"{words.count(each['tokens_input'])} → {words.count(each['tokens_completion'])}",
        "said": _short(each["text"]) if each["text"] else each["session"] and f"session {_short(each['session'])}",
    }


def outcome(each: Mapping[str, Any]) -> tuple[str, parts.Tone]:
    """What came of a request, in a word and a tone."""
    if not each["attempts"]:
        return "no answer yet", "warn"
    if each["answered_by"] is None:
        return (f"failed {each['status']}" if each["status"] else "failed"), "bad"
    return ("answered", "good") if each["attempts"] == 1 else ("after a retry", "warn")


def _short(said: str) -> str:
    line = " ".join(said.split())
    return line if len(line) <= 90 else f"{line[:89]}…"


def _able(button: Any, *, able: bool) -> None:
    if able:
        button._props.pop("disabled", None)
    else:
        button._props["disabled"] = True
    button.update()
