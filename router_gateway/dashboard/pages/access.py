"""Access: keys, teams and budgets; what was spent of them, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from nicegui import ui

from router_gateway.dashboard import budget_cards, parts, words
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.dialogs import Fields, ask, show
from router_gateway.dashboard.tables import Column, Order, table
from router_gateway.dashboard.view import View

Found: TypeAlias = "tuple[list[dict[str, Any]], int]"
"""Keys that are shown, and how many there are."""

_EVERY_S = 15.0
_KEYS_SHOWN = 200
_TONES = {"admin": "accent", "viewer": "", "user": ""}
_KEY_COLUMNS = (
    Column(name="name", title="Name", sort=True),
    Column(name="prefix", title="Key", form="mono"),
    Column(name="tenant", title="Team", sort=True),
    Column(name="role_pill", title="Role", form="pill", sort=True),
    Column(name="may_use", title="May use"),
    Column(name="created_at", title="Made", form="ago", sort=True),
    Column(name="expires_at", title="Ends", form="instant", sort=True),
)
_TEAM_COLUMNS = (
    Column(name="name", title="Team", sort=True),
    Column(name="spent_usd", title="Spent this month", form="money", sort=True),
    Column(name="requests", title="Requests", form="count", sort=True),
    Column(name="keys", title="Keys", form="count", sort=True),
    Column(name="left", title="Least left of a budget", form="percent", sort=True),
)


def build(view: View) -> None:
    """Keys over teams over budgets; a row opens what can be done with it."""
    with parts.card("Keys", hint="who may use the gateway, and as what"):
        if view.role == "admin":
            with parts.row("rg-corner"):
                parts.button("New key", lambda: _new_key(view), kind="primary")

        search = ui.input("Search", placeholder="name, team or key").props("outlined dense stack-label clearable")
        search._props["data-rg-search"] = True

        async def keys(admin: AdminClient) -> Found:
            said = str(search.value or "").strip().lower()
            rows = [_key_row(each) for each in await admin.data("/keys")]
            found = [row for row in rows if said in f"{row['name']} {row['tenant']} {row['prefix']}".lower()]
            return found[-_KEYS_SHOWN:], len(found)

        region = view.region(keys, lambda found: _keys(view, found), every_s=_EVERY_S, height="220px")
        search.on_value_change(region.refresh)
    budget_cards.build(view, every_s=_EVERY_S)
    with parts.card("Teams", hint="tenants by their spend since the first of the month (UTC)"):

        async def teams(admin: AdminClient) -> list[dict[str, Any]]:
            return [_team_row(each) for each in await admin.data("/teams", fresh_s=5.0)]

        view.region(teams, _teams, every_s=_EVERY_S, height="130px")


def _keys(view: View, found: Found) -> Any:
    opens = (lambda row: _open_key(view, row)) if view.role == "admin" else None
    made = table(
        _KEY_COLUMNS,
        label="Keys",
        none="No key is like that.",
        order=Order(by="created_at"),
        on_open=opens,
        height="420px",
    )
    more = parts.text("", "rg-dim rg-small", tag="p")

    def draw(newer: Found) -> None:
        rows, number = newer
        made.show(rows)
        more._text = f"The newest {len(rows)} of {number}: search to see others." if number > len(rows) else ""
        more.update()

    draw(found)
    return draw


def _teams(rows: Sequence[Mapping[str, Any]]) -> Any:
    made = table(_TEAM_COLUMNS, label="Teams", none="No team has spent anything yet.", order=Order(by="spent_usd"))
    made.show(rows)
    return made.show


def _key_row(key: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **key,
        "prefix": f"{key['prefix']}…",
        "role_pill": (key["role"], _TONES.get(key["role"], "")),
        "may_use": ", ".join(key["allows"]) or "everything",
    }


def _team_row(team: Mapping[str, Any]) -> dict[str, Any]:
    left = [budget["remaining_ratio"] for budget in team["budgets"]]
    return {**team, "left": min(left, default=None)}


async def _new_key(view: View) -> None:
    async def send(admin: AdminClient, given: dict[str, Any]) -> dict[str, Any]:
        days = given.pop("expires_at")
        allows = [each.strip() for each in str(given.pop("allows") or "").split(",") if each.strip()]
        body = {**given, "tenant": given["tenant"] or "default", "allows": allows}
        if days:
            body["expires_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        made: dict[str, Any] = await admin.send("POST", "/keys", body)
        return made

    made = await ask(
        view,
        "New key",
        _key_fields,
        send,
        action="Make the key",
        about="The key is shown once, after this. The gateway keeps its hash alone.",
    )
    if made is not None:
        await show(view, "Copy this key now", lambda: _secret(made))


def _key_fields() -> Fields:
    roles = {"user": "user: ordinary requests", "viewer": "viewer: reads these pages too", "admin": "admin: everything"}
    ends = {0: "never", 1: "in a day", 7: "in a week", 30: "in 30 days", 90: "in 90 days", 365: "in a year"}
    return {
        "name": ui.input("Name", placeholder="whose or what for", validation=_given).props(
            "outlined dense stack-label autofocus"
        ),
        "tenant": ui.input("Team", value="default", validation=parts.unchecked).props("outlined dense stack-label"),
        "role": ui.select(roles, label="Role", value="user", validation=parts.unchecked).props(
            "outlined dense stack-label"
        ),
        "expires_at": ui.select(ends, label="Ends", value=0, validation=parts.unchecked).props(
            "outlined dense stack-label"
        ),
        "allows": ui.input(
            "May use", placeholder="everything; or globs: small, gpt-*", validation=parts.unchecked
        ).props("outlined dense stack-label"),
        "note": ui.input("Reason", placeholder="for the audit trail", validation=parts.unchecked).props(
            "outlined dense stack-label"
        ),
    }


def _given(said: str) -> str | None:
    return None if said and said.strip() else "has to be given"


def _secret(made: Mapping[str, Any]) -> None:
    parts.text(f"It belongs to team {made['tenant']} and will not be shown again.", "rg-dim", tag="p")
    secret = str(made["secret"])
    parts.text(secret, "rg-code rg-secret", tag="code")
    with parts.row():
        parts.button("Copy", lambda: _copy(secret))


def _copy(secret: str) -> None:
    ui.clipboard.write(secret)
    parts.toast("Copied.", good=True)


async def _open_key(view: View, key: Mapping[str, Any]) -> None:
    about: list[tuple[str, object]] = [
        ("Key", key["prefix"]),
        ("Team", key["tenant"]),
        ("Role", key["role"]),
        ("May use", key["may_use"]),
    ]

    def draw() -> None:
        parts.definition(about)
        with parts.row("rg-dim"):
            parts.text("Made")
            words.instant(key["created_at"])
            if key["expires_at"]:
                parts.text("· ends")
                words.instant(key["expires_at"])

    if await show(view, str(key["name"]), draw, actions={"revoke": "Revoke…"}, dangerous={"revoke"}) != "revoke":
        return
    note = await parts.confirm(
        "Revoke this key?",
        f"{key['name']} ({key['prefix']}) stops working within seconds, everywhere, for good.",
        action="Revoke",
        note=True,
    )
    if note is not None:
        params = {"note": note} if note else None
        await view.act(
            lambda admin: admin.send("DELETE", f"/keys/{key['id']}", params=params), done=f"Revoked {key['prefix']}."
        )
