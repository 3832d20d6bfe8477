"""Is routing worth it here? One sentence with its interval, from an audit of the ledger, and the figures behind it.

An audit takes seconds of a process of the gateway's, so it is kept for ten minutes, with its age beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient, Trouble
from router_gateway.dashboard.view import View

_FRESH_S = 600.0
_TIMEOUT_S = 310.0  # the gateway ends an audit by itself after 300
_AGAIN_S = 20.0
_TONES: dict[str, parts.Tone] = {"worth it": "good", "harmful": "bad", "not shown": "warn"}

Found = tuple[datetime, Mapping[str, Any]]


def verdict(view: View) -> None:
    """Put the verdict on the page; it comes when the audit is done."""
    with parts.card("Is routing worth it here?", hint="an audit of the last 30 days, from your own ratings"):
        region = view.region(_audit, lambda found: _draw(found, again), every_s=_AGAIN_S, height="170px", slow=True)

        async def again() -> None:
            view.admin.forget_kept("/audit")
            parts.toast("A new audit is under way; it takes a little.", good=True)
            await region.refresh()


async def _audit(admin: AdminClient) -> Found:
    try:
        return await admin.kept("/audit", fresh_s=_FRESH_S, timeout_s=_TIMEOUT_S)
    except Trouble as trouble:
        raise type(trouble)(f"There is no verdict: {trouble.message}") from None


def _draw(found: Found, again: Any) -> None:
    at, audit = found
    with ui.element("div").classes("rg-verdict"):
        parts.text(audit["sentence"], "rg-lead", tag="p")
        parts.pill(audit["verdict"], _TONES.get(audit["verdict"], ""))
    with parts.row("rg-between"):
        parts.text(audit["recommendation"], "rg-dim")
        with parts.row("rg-small rg-dim"):
            parts.text("audited")
            words.instant(at, style="ago")
            parts.button("Look again", again, kind="quiet").classes("rg-small-button")
    gains = audit.get("gains")
    if gains is None:
        return
    best = gains["best_single"]
    logged: Mapping[str, Any] = next((row for row in audit["rows"] if row["name"] == "as logged"), {})
    with ui.element("div").classes("rg-tiles"):
        _saved(best, gains["saving_over_best_single"])
        _gain(f"Quality against {best} alone", gains["quality_over_best_single"], words.points, judged=True)
        _gain("Quality against random at equal cost", gains["quality_at_equal_cost"], words.points, judged=True)
        if logged.get("quality"):
            _gain("Quality as it was served", logged["quality"], words.percent)


def _saved(best: str, saving: Mapping[str, float]) -> None:
    """What is saved against the best single endpoint, or paid beyond it: quality may be worth that."""
    if saving["value"] >= 0:
        _gain(f"Saved against {best} alone", saving, words.percent, judged=saving["low"] > 0)
    else:
        more = {"value": -saving["value"], "low": -saving["high"], "high": -saving["low"]}
        _gain(f"Spent beyond {best} alone", more, words.percent)


def _gain(
    label: str, estimate: Mapping[str, float], say: Callable[[float | None], str], *, judged: bool = False
) -> None:
    """A figure with its 95 % interval; green or red only where it is `judged` and its sign is beyond doubt."""
    low, high = estimate["low"], estimate["high"]
    tone: parts.Tone = "" if not judged else "good" if low > 0 else "bad" if high < 0 else ""
    parts.tile(label, say(estimate["value"]), detail=words.interval(low, high, say), tone=tone, hint="95 % interval")
