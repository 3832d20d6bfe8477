"""One request: why this endpoint, what came of it, how good it was, and what another policy or dial would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient, Refused
from router_gateway.dashboard.pages import request_why
from router_gateway.dashboard.pages.request_again import Again
from router_gateway.dashboard.pages.request_feedback import Rating
from router_gateway.dashboard.pages.requests import outcome
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_ATTEMPTS = (
    Column(name="number", title="Try", form="count"),
    Column(name="endpoint", title="Endpoint"),
    Column(name="result", title="Result", form="pill"),
    Column(name="first_byte_ms", title="First byte", form="ms"),
    Column(name="latency_ms", title="Took", form="ms"),
    Column(name="input", title="Tokens in", form="count"),
    Column(name="cached", title="Cached", form="count"),
    Column(name="output", title="Tokens out", form="count"),
    Column(name="cost_usd", title="Cost", form="money"),
    Column(name="counted", title="Counted by"),
    Column(name="error", title="Error"),
)


def build(view: View) -> None:
    """Everything about the request in the path, read once; ratings are read again when one is given."""
    path = f"/requests/{view.path.get('id', '')}"
    parts.anchor("← Requests", "/requests", label="Back to the list of requests")

    async def fetch(admin: AdminClient) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await admin.get(path)
        except Refused as refused:
            if refused.status in (400, 404):
                return None
            raise
        return found

    def draw(told: dict[str, Any] | None) -> None:
        if told is None:
            parts.empty(
                "No such request",
                "It may have been removed, or the address is cut off.",
                link=("All requests", "/requests"),
            )
            return
        _head(told)
        request_why.tiles(told)
        with parts.card("Why", hint="what was expected when it was decided"):
            request_why.why(told)
        scored = [each for each in told["candidates"] if each["quality"] is not None]
        with parts.grid(min_width="420px"):
            if scored:
                with parts.card():
                    request_why.trade(scored, {told["endpoint"]: "chosen"})
            with parts.card("The decision"):
                request_why.facts(told)
        if told["evidence"] is not None and told["evidence"]["neighbours"]:
            with parts.card("What it leaned on", hint="past requests that are near, and how they were rated"):
                request_why.evidence(told["evidence"])
        with parts.card("Attempts"):
            _attempts(told)
        with parts.card("Prompt"):
            _prompt(told)

    view.region(fetch, draw, height="900px")
    with parts.card("Ratings"):
        Rating(view, path).build()
    if view.role == "admin":
        with parts.card(
            "Decide again", hint="the same request and draw under another policy or dial; nobody is called"
        ):
            Again(view, path).build()


def _head(told: Mapping[str, Any]) -> None:
    with parts.row():
        said, tone = outcome({**told, "attempts": len(told["attempts"]), "status": _status(told)})
        parts.pill(said, tone)
        words.instant(told["at"])
        parts.text(told["id"], "rg-mono rg-break")
    with parts.row():
        parts.text(f"{told['tenant']} asked for {told['requested_model']}", "rg-dim rg-break")
        if told["session"]:
            parts.text("in", "rg-dim")
            path = f"/requests?{urlencode({'q': told['session']})}"
            parts.anchor(
                told["session"], path, classes="rg-link rg-break", label=f"Requests of session {told['session']}"
            )


def _status(told: Mapping[str, Any]) -> int | None:
    return told["attempts"][-1]["status"] if told["attempts"] else None


def _attempts(told: Mapping[str, Any]) -> None:
    if not told["attempts"]:
        parts.empty("Nobody was asked yet", "It is under way, or its process ended before an answer came.")
        return
    table(_ATTEMPTS, label="Attempts").show([_attempt(each) for each in told["attempts"]])


def _attempt(each: Mapping[str, Any]) -> dict[str, Any]:
    tokens = each["tokens"]
    good = each["status"] == 200 and each["error"] is None
    said = f"status {each['status']}" if each["status"] else "no status"
    return {
        **each,
        "result": ("answered", "good") if good else (said, "bad"),
        "input": None if tokens is None else tokens["input"] + tokens["cached_input"] + tokens["cache_write"],
        "cached": None if tokens is None else tokens["cached_input"],
        "output": None if tokens is None else tokens["output"] + tokens["reasoning"],
        "counted": "an estimate" if each["cost_estimated"] else None if tokens is None else "the upstream",
    }


def _prompt(told: Mapping[str, Any]) -> None:
    if told["text"]:
        parts.text(told["text"], "rg-pre", tag="pre")._props["tabindex"] = "0"
        return
    parts.text(
        "No text is shown: prompts are stored where ledger.store_text is on, and shown to those who may read them.",
        "rg-dim",
        tag="p",
    )
