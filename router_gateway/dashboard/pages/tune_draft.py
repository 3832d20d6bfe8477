"""The form of the page Tune that drafts a candidate: dial, rule, guard, and a policy's own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.client import AdminClient, Refused, Trouble
from router_gateway.dashboard.schema_form import SchemaForm
from router_gateway.dashboard.view import View

if TYPE_CHECKING:
    from router_gateway.dashboard.pages.tune import Bench

_AS_LIVE = "as it is"
_RULES: Mapping[str, Mapping[str, Any]] = {
    _AS_LIVE: {"properties": {}},
    "greedy": {"properties": {}},
    "epsilon_greedy": {
        "properties": {
            "epsilon": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "default": 0.05,
                "description": "share of random draws",
            }
        }
    },
    "inverse_gap": {
        "properties": {
            "gamma": {
                "type": "number",
                "minimum": 0,
                "default": 200.0,
                "description": "the higher, the less is explored",
            }
        }
    },
}
_RULE_WORDS = {
    _AS_LIVE: "as it is",
    "greedy": "greedy: explore nothing",
    "epsilon_greedy": "epsilon greedy: now and then any",
    "inverse_gap": "inverse gap: near misses oftener",
}
_DOUBT: Mapping[str, Any] = {
    "properties": {
        "z": {
            "type": "number", "minimum": 0, "maximum": 10,
            "description": "guard: standard deviations of evidence it takes to leave the default endpoint",
        },
        "novelty_stddev_max": {
            "type": "number", "exclusiveMinimum": 0,
            "description": "guard: doubt above which a request is too novel, and the default endpoint answers",
        },
        "optimism": {
            "type": "number", "minimum": 0, "maximum": 10,
            "description": "what a standard deviation of doubt is worth, in quality",
        },
    }
}  # fmt: skip
_LIVE_POLICY = "the live policy, as it learns"


class DraftForm:
    """Everything is checked as it is typed, and once more by the gateway, whose word is put to the field it blames."""

    def __init__(self, view: View, bench: Bench) -> None:
        self._view, self._bench = view, bench
        self._kinds: dict[str, Mapping[str, Any]] = {}
        self._params: SchemaForm | None = None
        self._kind: str | None = None

    def build(self) -> None:
        """Draw it; the policies to choose from come when they come."""
        with ui.element("div").classes("rg-form"):
            self._name = ui.input("Name", placeholder="thrifty", validation=_name_wrong).props(
                "outlined dense stack-label"
            )
            self._name.without_auto_validation()
            self._note = ui.input("Note", placeholder="why, for the audit trail").props(
                "outlined dense stack-label maxlength=2000"
            )
        self._dial = parts.text("", tag="p")
        self._bench.listeners.append(self._told)
        with ui.element("div").classes("rg-form"):
            self._rule = ui.select(_RULE_WORDS, label="Exploration", value=_AS_LIVE).props("outlined dense")
        rule_box = ui.element("div")
        self._rule.on_value_change(lambda event: self._choose_rule(rule_box, event.value))
        self._rule_form = self._drawn(rule_box, _RULES[_AS_LIVE])
        self._doubt = SchemaForm(_DOUBT)
        self._view.region(self._fetch_kinds, self._policy, height="56px")
        with parts.row("rg-end"):
            looks_on = self._view.role == "viewer"
            parts.button("Save as draft", self._save, kind="primary", disabled=looks_on)

    def _told(self) -> None:
        said = f"Dial: {words.money(self._bench.worth_usd)} for a perfect answer, as the slider stands."
        if self._dial._text != said:
            self._dial._text = said
            self._dial.update()

    def _choose_rule(self, box: Any, rule: str) -> None:
        self._rule_form = self._drawn(box, _RULES.get(rule, _RULES[_AS_LIVE]))

    @staticmethod
    def _drawn(box: Any, schema: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> SchemaForm | None:
        box.clear()
        if not schema.get("properties"):
            return None
        with box:
            return SchemaForm(schema, given)

    async def _fetch_kinds(self, admin: AdminClient) -> list[dict[str, Any]]:
        return await admin.data("/policies/kinds", fresh_s=300.0)

    def _policy(self, kinds: list[dict[str, Any]]) -> None:
        self._kinds = {row["name"]: row for row in kinds if row["error"] is None}
        options = {"": _LIVE_POLICY, **{name: f"{name}, fitted anew" for name in self._kinds}}
        with ui.element("div").classes("rg-form"):
            chosen = ui.select(options, label="Policy", value="").props("outlined dense")
        about = parts.text("", "rg-dim rg-small", tag="p")
        box = ui.element("div")

        def choose(name: str) -> None:
            self._kind = name if name in self._kinds else None
            kind = self._kinds.get(name)
            about._text = "" if kind is None else kind["summary"]
            about.update()
            live = self._bench.live
            given = live.get("params") if live.get("name") == name else None
            self._params = None if kind is None else self._drawn(box, kind["parameters"], given)
            if kind is None:
                box.clear()

        chosen.on_value_change(lambda event: choose(event.value))

    def _body(self) -> dict[str, Any] | None:
        """What is to be drafted; None while a field is wrong."""
        rule = {} if self._rule_form is None else self._rule_form.values()
        doubt, params = self._doubt.values(), {} if self._params is None else self._params.values()
        if not self._name.validate() or rule is None or doubt is None or params is None:
            return None
        changes: dict[str, Any] = {"worth_usd": self._bench.worth_usd}
        if self._rule.value != _AS_LIVE:
            changes["rule"] = {"name": self._rule.value, **rule}
        if guard := {name: doubt[name] for name in ("z", "novelty_stddev_max") if name in doubt}:
            changes["guard"] = guard
        if "optimism" in doubt:
            changes["optimism"] = doubt["optimism"]
        body = {"name": self._name.value.strip(), "changes": changes, "note": self._note.value or ""}
        return body if self._kind is None else {**body, "kind": self._kind, "params": params}

    async def _save(self) -> None:
        body = self._body()
        if body is None:
            parts.toast("Some fields are not right yet.", good=False)
            return
        self._view.sessions.touch(self._view.session)
        try:
            made = await self._view.admin.send("POST", "/lifecycle/candidates", body)
        except Refused as refused:
            if not self._blamed(refused):
                self._view.tell(refused)
            return
        except Trouble as trouble:
            self._view.tell(trouble)
            return
        state = "is being fitted" if made["state"] == "fitting" else "is a draft"
        parts.toast(f"{body['name']} {state}: Policies shows it, and you can draw it beside what is live.", good=True)
        self._name.value = ""
        self._name.error = None
        await self._view.refresh()

    def _blamed(self, refused: Refused) -> bool:
        """Put the gateway's words to the field that it blames."""
        param = refused.param or ""
        if param == "name":
            self._name.error = refused.message
            return True
        forms = (self._params,) if param.startswith("params.") else (self._doubt, self._rule_form)
        return any(form is not None and form.blame(param, refused.message) for form in forms)


def _name_wrong(said: str) -> str | None:
    name = (said or "").strip()
    good = name[:1].isalnum() and all(c.isalnum() or c in "._-" for c in name) and name.isascii() and len(name) <= 64
    return None if good else "letters, digits, '.', '_' and '-', at most 64"
