"""Policies: what serves, the candidates and where they stand, two of them side by side, and who moved what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from router_gateway.dashboard import parts
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.pages import candidate_words
from router_gateway.dashboard.pages.policies_compared import Comparison
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_EVERY_S = 5.0
_TRAIL_ROWS = 200

_SERVING = (
    Column(name="name", title="Policy"),
    Column(name="serving", title="Served by", form="mono"),
    Column(name="candidate", title="Candidate", path="path"),
    Column(name="worth_usd", title="Dial", form="money"),
    Column(name="rule", title="Exploration"),
    Column(name="guard", title="Guard"),
)
_CANDIDATES = (
    Column(name="name", title="Candidate", path="path", sort=True),
    Column(name="state", title="State", form="pill"),
    Column(name="policy", title="In the place of", sort=True),
    Column(name="made_of", title="Made of"),
    Column(name="since", title="Since", form="ago", sort=True),
    Column(name="note", title="Note"),
)
_TRAIL = (
    Column(name="at", title="When", form="instant"),
    Column(name="candidate", title="Candidate", path="path"),
    Column(name="move", title="Move"),
    Column(name="author", title="By"),
    Column(name="reason", title="Reason"),
    Column(name="note", title="Note"),
)


def build(view: View) -> None:
    """Tables that keep themselves up to date; a row leads to the candidate."""
    with parts.card("Serving now", classes="rg-wide"):
        view.region(_serving, _draw_serving, every_s=_EVERY_S, height="160px")
    with parts.card("Candidates", hint="draft, shadow, canary, live, retired", classes="rg-wide"):
        view.region(_candidates, _draw_candidates, every_s=_EVERY_S, height="160px")
    with parts.card("Compare two", hint="on your own traffic"):
        Comparison(view).build()
    with parts.card("Who moved what", hint="never changed, newest first", classes="rg-wide"):
        view.region(_trail, _draw_trail, every_s=_EVERY_S, height="160px")


async def _serving(admin: AdminClient) -> list[dict[str, Any]]:
    return await admin.data("/policies")


def _draw_serving(rows: Sequence[Mapping[str, Any]]) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    made = table(_SERVING, label="Policies that serve")

    def show(newer: Sequence[Mapping[str, Any]]) -> None:
        made.show(
            [
                {
                    **row,
                    "name": f"{row['name']} (default)" if row["default"] else row["name"],
                    "candidate": row["candidate"] or "as configured",
                    "path": f"/policies/{row['candidate']}" if row["candidate"] else "",
                    "rule": row["rule"].replace("_", " "),
                    "guard": candidate_words.guard(row["guard"]),
                }
                for row in newer
            ]
        )

    show(rows)
    return show


async def _candidates(admin: AdminClient) -> list[dict[str, Any]]:
    return await admin.data("/lifecycle/candidates")


def _draw_candidates(
    rows: Sequence[Mapping[str, Any]],
) -> Callable[[Sequence[Mapping[str, Any]]], None] | None:
    if not rows:
        parts.empty("No candidates yet", "Draft one from a dial you like.", link=("Go to Tune", "/tune"))
        return None
    made = table(_CANDIDATES, label="Candidates", height="420px")

    def show(newer: Sequence[Mapping[str, Any]]) -> None:
        made.show(
            [
                {
                    **row,
                    "path": f"/policies/{row['name']}",
                    "state": candidate_words.state_pill(row),
                    "made_of": candidate_words.made_of(row),
                }
                for row in newer
            ]
        )

    show(rows)
    return show


async def _trail(admin: AdminClient) -> list[dict[str, Any]]:
    return await admin.data("/lifecycle/transitions", {"limit": _TRAIL_ROWS})


def _draw_trail(rows: Sequence[Mapping[str, Any]]) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    made = table(_TRAIL, label="Audit trail", none="Nobody has moved a candidate yet.", height="420px")

    def show(newer: Sequence[Mapping[str, Any]]) -> None:
        made.show([trail_row(row) for row in newer])

    show(rows)
    return show


def trail_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the trail as tables show it."""
    return {
        **row,
        "path": f"/policies/{row['candidate']}",
        "move": candidate_words.move(row),
        "reason": row["reason"].replace("_", " "),
    }
