"""Playground: what would be decided for a prompt, without a call; two endpoints side by side, blind, for a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.validation_element import ValidationElement

from router_gateway.dashboard import parts
from router_gateway.dashboard.client import AdminClient, Refused, Trouble
from router_gateway.dashboard.pages import playground_answers as answers
from router_gateway.dashboard.pages.playground_decision import show_decision
from router_gateway.dashboard.view import View

_PROMPT_CHARS_MAX = 200_000
_CALL_S = 300.0
_TOKENS = 1_024


@dataclass(slots=True, kw_only=True)
class _Fields:
    """What a person set."""

    prompt: ui.textarea
    policy: ui.select
    worth: ui.number
    decided: Element = field(init=False)
    first: ui.select = field(init=False)
    second: ui.select = field(init=False)
    tokens: ui.number = field(init=False)
    compared: Element = field(init=False)


def build(view: View) -> None:
    """One prompt, and two things to do with it."""

    async def known(admin: AdminClient) -> tuple[list[str], list[str], str]:
        policies = await admin.data("/policies", fresh_s=10.0)
        pool = await admin.data("/endpoints", fresh_s=10.0)
        usual = next(each["name"] for each in policies if each["default"])
        return [each["name"] for each in policies], [each["name"] for each in pool], usual

    view.region(known, lambda found: _page(view, *found), height="560px")


def _page(view: View, policies: list[str], pool: list[str], usual: str) -> None:
    with parts.card("What is asked"):
        prompt = ui.textarea("Prompt", placeholder="What would people ask?", validation=parts.unchecked)
        prompt.props("outlined autogrow stack-label").style("width:100%")
        prompt._props["maxlength"] = _PROMPT_CHARS_MAX
        with ui.element("div").classes("rg-form"):
            policy = ui.select(policies, label="Policy", value=usual).props("outlined dense")
            worth = ui.number("Worth of a perfect answer, USD", placeholder="as configured", validation=parts.unchecked)
            worth.props("outlined dense stack-label")
        fields = _Fields(prompt=prompt, policy=policy, worth=worth)
        may, told = view.role != "viewer", "Decide, without calling anybody"
        with parts.row():
            parts.button("Decide", lambda: _decide(view, fields), kind="primary", label=told, disabled=not may)
            hint = "calls nobody, costs nothing, writes nothing" if may else "this takes an admin's key"
            parts.text(hint, "rg-dim")
    with parts.card("Decision"):
        fields.decided = parts.column()
        with fields.decided:
            parts.empty("Nothing decided yet", "Type a prompt and press Decide: who would answer, and why.")
    with parts.card("Side by side", hint="both are called and paid for; who is who is told after your verdict"):
        if len(pool) < 2:
            parts.empty("One endpoint alone", "Add another one to compare it with.", link=("Endpoints", "/endpoints"))
            return
        with ui.element("div").classes("rg-form"):
            fields.first = ui.select(pool, label="One endpoint", value=pool[0]).props("outlined dense")
            fields.second = ui.select(pool, label="Another endpoint", value=pool[-1], validation=parts.unchecked)
            fields.second.props("outlined dense")
            fields.tokens = ui.number("Tokens of an answer, at most", value=_TOKENS, min=1, max=16_384, precision=0)
            fields.tokens.props("outlined dense")
        with parts.row():
            ask = parts.button("Ask both", lambda: _compare(view, fields, ask), kind="primary", disabled=not may)
        fields.compared = parts.column()


async def _decide(view: View, fields: _Fields) -> None:
    body: dict[str, Any] = {"prompt": fields.prompt.value, "policy": fields.policy.value}
    if fields.worth.value is not None:
        body["worth_usd"] = fields.worth.value
    found = await _sent(view, fields, "/decide", body)
    if found is not None:
        fields.decided.clear()
        with fields.decided:
            show_decision(found)


async def _compare(view: View, fields: _Fields, pressed: Element) -> None:
    body = {
        "prompt": fields.prompt.value,
        "endpoints": [fields.first.value, fields.second.value],
        "max_tokens": int(fields.tokens.value or _TOKENS),
    }
    pressed._props["disabled"] = True
    fields.compared.clear()
    with fields.compared:
        parts.skeleton("180px")
    found = await _sent(view, fields, "/compare", body)
    del pressed._props["disabled"]
    if pressed.is_deleted:
        return
    fields.compared.clear()
    if found is not None:
        with fields.compared:
            answers.show(view, found)


async def _sent(view: View, fields: _Fields, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The answer, or None where the field to blame is marked, or the trouble told."""
    blamed: dict[str, ValidationElement[Any]] = {
        "prompt": fields.prompt,
        "messages": fields.prompt,
        "worth_usd": fields.worth,
    }
    for each in blamed.values():
        each.error = None
    if not str(body["prompt"] or "").strip():
        fields.prompt.error = "type a prompt first"
        return None
    view.sessions.touch(view.session)
    try:
        found: dict[str, Any] = await view.admin.send("POST", path, body, timeout_s=_CALL_S)
    except Refused as refused:
        if refused.param in blamed:
            blamed[refused.param].error = refused.message
        elif (refused.param or "").startswith("endpoints") and hasattr(fields, "second"):
            fields.second.error = refused.message
        else:
            view.tell(refused)
        return None
    except Trouble as trouble:
        view.tell(trouble)
        return None
    if hasattr(fields, "second"):
        fields.second.error = None
    return found
