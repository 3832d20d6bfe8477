"""Two answers side by side, in an order that nobody knows, and the verdict on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui.element import Element

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.view import View

_VERDICTS = (("A", "A is better"), ("B", "B is better"), ("tie", "Tie"), ("both_bad", "Both are bad"))
_TOLD = {"A": "A is better", "B": "B is better", "tie": "a tie", "both_bad": "both are bad"}


def show(view: View, found: Mapping[str, Any]) -> None:
    """Draw what POST /admin/api/compare answered; cost and time give names away, so they come with the verdict."""
    heads: dict[str, Element] = {}
    with parts.grid(min_width="320px"):
        for each in found["answers"]:
            with parts.column():
                parts.heading(f"Answer {each['position']}", level=3)
                _answer(each)
                heads[each["position"]] = parts.text("\u00a0", "rg-dim")
    if any(each["error"] for each in found["answers"]):
        parts.text("One of them did not answer: there is nothing to compare.", "rg-warn", tag="p")
        return
    verdicts = parts.row()
    with verdicts:
        for verdict, said in _VERDICTS:
            parts.button(said, _pressed(view, found, verdict, verdicts, heads))


def _answer(each: Mapping[str, Any]) -> None:
    if each["error"]:
        parts.error("No answer", str(each["error"].get("message", "It refuses the request.")))
        return
    said = parts.text(each["text"] or "It calls a tool, or says nothing.", "rg-pre", tag="div")
    said._props.update({"tabindex": "0", "role": "region", "aria-label": f"Answer {each['position']}"})
    if each["finish_reason"] == "length":
        parts.text("cut at the limit of tokens", "rg-warn rg-small")


def _pressed(
    view: View, found: Mapping[str, Any], verdict: str, verdicts: Element, heads: Mapping[str, Element]
) -> Any:
    async def press() -> None:
        told = await view.act(
            lambda admin: admin.send("POST", f"/compare/{found['id']}/verdict", {"verdict": verdict}),
            done="Your verdict is in the ledger.",
        )
        if told is None or verdicts.is_deleted:
            return
        by_position = {each["position"]: each for each in found["answers"]}
        for position, head in heads.items():
            each = by_position[position]
            tokens = f", {words.count(each['tokens_output'])} tokens" if each["tokens_output"] is not None else ""
            head._text = (
                f"{told['endpoints'][position]}: {words.money(each['cost_usd'])}, "
                f"{words.duration_ms(each['latency_ms'])}{tokens}"
            )
            head.update()
        verdicts.clear()
        with verdicts:
            done = parts.text(f"Recorded: {_TOLD[told['verdict']]}.", "rg-good")
            done._props["role"] = "status"

    return press
