"""A request decided once more: under which policy, dial and rule, and the two choices side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient, Refused, Trouble
from router_gateway.dashboard.pages import request_why
from router_gateway.dashboard.tables import Column, table
from router_gateway.dashboard.view import View

_RULES = {"": "as it serves", "greedy": "greedy", "epsilon_greedy": "epsilon greedy", "inverse_gap": "inverse gap"}
_SIDES = (Column(name="what", title=""), Column(name="then", title="Then"), Column(name="now", title="Now"))


class Again:
    """The form and its result. `path` is the request's, in the admin API."""

    def __init__(self, view: View, path: str) -> None:
        self._view, self._path = view, path
        self._fields: dict[str, Any] = {}

    def build(self) -> None:
        """Fields once the names are known; the result when it is asked for."""
        self._view.region(self._known, self._form, height="96px")
        self._result = parts.column()
        self._result._props["aria-live"] = "polite"

    async def _known(self, admin: AdminClient) -> dict[str, str]:
        policies = await admin.data("/policies", fresh_s=10.0)
        candidates = await admin.data("/lifecycle/candidates", fresh_s=10.0)
        names = {"": "the same policy", **{row["name"]: f"{row['name']} ({row['serving']})" for row in policies}}
        return names | {row["name"]: f"candidate {row['name']}" for row in candidates if row["name"] not in names}

    def _form(self, names: dict[str, str]) -> Callable[[dict[str, str]], None]:
        with ui.element("div").classes("rg-form"):
            policy = ui.select(names, label="Policy", value="", validation=parts.unchecked).props(
                "outlined dense stack-label"
            )
            worth = ui.number("Worth of a perfect answer, USD", placeholder="as it was", validation=parts.unchecked)
            rule = ui.select(_RULES, label="Rule", value="", validation=parts.unchecked).props(
                "outlined dense stack-label"
            )
            guard = ui.number("Guard, z", placeholder="as it serves", validation=parts.unchecked)
            for field in (worth, guard):
                field.props("outlined dense stack-label")
        self._fields = {"policy": policy, "worth_usd": worth, "rule": rule, "guard": guard}
        with parts.row():
            parts.button("Decide again", self._decide, kind="primary")
            parts.text("calls nobody, writes nothing", "rg-dim")

        def update(newer: dict[str, str]) -> None:
            policy.set_options(newer)

        return update

    async def _decide(self) -> None:
        fields = self._fields
        for field in fields.values():
            field.error = None
        body = {name: field.value for name, field in fields.items() if field.value not in (None, "")}
        if "guard" in body:
            body["guard"] = {"z": body["guard"]}
        self._view.sessions.touch(self._view.session)
        try:
            found = await self._view.admin.send("POST", f"{self._path}/replay", body)
        except Refused as refused:
            self._refused(refused)
            return
        except Trouble as trouble:
            self._view.tell(trouble)
            return
        if self._result.is_deleted:
            return
        self._result.clear()
        with self._result:
            _show(found)

    def _refused(self, refused: Refused) -> None:
        field = self._fields.get((refused.param or "").partition(".")[0])
        if field is not None:
            field.error = refused.message
            return
        self._result.clear()
        with self._result:
            parts.error("It cannot be decided again", refused.message)


def _show(found: Mapping[str, Any]) -> None:
    now, then = found["now"], found["then"]
    parts.text(_sentence(found), "rg-lead", tag="p")
    mine = {"endpoint": now["endpoint"], **_expected(now)}
    made = table(_SIDES, label="Then and now")
    made.show(
        [
            {"what": "endpoint", "then": then["endpoint"], "now": mine["endpoint"]},
            {"what": "policy", "then": then["policy"], "now": now["policy"]},
            {"what": "dial", "then": words.money(then["worth_usd"]), "now": words.money(now["worth_usd"])},
            {"what": "quality expected", "then": words.percent(then["quality"]), "now": words.percent(mine["quality"])},
            {"what": "cost expected", "then": words.money(then["cost_usd"]), "now": words.money(mine["cost_usd"])},
            {
                "what": "chance of the choice",
                "then": words.percent(then["propensity"]),
                "now": words.percent(now["propensity"]),
            },
        ]
    )
    request_why.candidates(now)
    if scored := [each for each in now["candidates"] if each["quality"] is not None]:
        named = {then["endpoint"]: "chosen then"} | {now["endpoint"]: "chosen now"}
        request_why.trade(scored, named)
    parts.text(_rests_on(found["rests_on"]), "rg-dim rg-small", tag="p")


def _expected(now: Mapping[str, Any]) -> dict[str, Any]:
    chosen = next(each for each in now["candidates"] if each["endpoint"] == now["endpoint"])
    return {"quality": chosen["quality"], "cost_usd": chosen["cost_usd"]}


def _sentence(found: Mapping[str, Any]) -> str:
    now, then = found["now"]["endpoint"], found["then"]["endpoint"]
    if found["same_endpoint"]:
        return f"The choice stays with {now}."
    if found["expected"] is None:
        return f"{now} instead of {then}, which is not in the pool now."
    quality, cost = found["expected"]["quality"], found["expected"]["cost_usd"]
    return (
        f"{now} instead of {then}: quality {words.points(quality)}, cost {words.money(cost, signed=True)}, "
        "as this policy expects it."
    )


def _rests_on(rests: Mapping[str, Any]) -> str:
    vector = "the vector that the ledger kept" if rests["vector"] == "ledger" else "the stored text, embedded again"
    text = "" if rests["text"] else "; the text is not stored, and a policy that reads words sees none"
    return f"It rests on {vector}{text}. Earlier turns of a conversation are not kept."
