"""The ledger's export: a card with what to ask for, and the route that hands the gateway's stream on."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from router_gateway.dashboard import parts
from router_gateway.dashboard.client import Trouble
from router_gateway.dashboard.view import View

PATH = "/export"
_ASKED = ("format", "since", "until", "text")
_KINDS = {"csv": "CSV", "jsonl": "JSON lines"}
_PASSED_ON = ("content-type", "content-disposition")


async def export(request: Request) -> Response:
    """The gateway's export to the person's own key, as it comes. Only pages of ours may ask for it."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return PlainTextResponse("another site may not ask this", 403)
    params = {name: value for name in _ASKED if (value := request.query_params.get(name))}
    try:
        answer = await request.state.session.admin.stream("/export", params)
    except Trouble as trouble:
        return PlainTextResponse(trouble.message, 400)
    headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
    return StreamingResponse(answer.aiter_bytes(), headers=headers, background=BackgroundTask(answer.aclose))


def card(view: View) -> None:
    """What to export; the browser fetches it, so that no page has to hold it."""
    with parts.card("Export the ledger", hint="one row for each decision and try; who exported is in the trail"):
        with ui.element("div").classes("rg-form"):
            fields: dict[str, Any] = {
                "format": ui.select(_KINDS, label="As", value="csv").props("outlined dense"),
                "since": ui.input("From (UTC)").props("outlined dense type=date stack-label"),
                "until": ui.input("Before (UTC)").props("outlined dense type=date stack-label"),
            }
            if view.role == "admin":
                fields["text"] = ui.switch("with prompts, where they are stored", value=False)

        def press() -> None:  # what was typed came before the press; a link would have been a moment behind
            said = {name: "true" if each.value is True else each.value for name, each in fields.items()}
            ui.download.from_url(f"{PATH}?{urlencode({name: value for name, value in said.items() if value})}")

        with parts.row("rg-end"):
            parts.button("Download", press, kind="primary")
