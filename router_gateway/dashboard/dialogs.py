"""A form in a dialog that stays open until the gateway took what was said, and says at the field what it did not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal, TypeVar

from nicegui import ui
from nicegui.elements.mixins.validation_element import ValidationElement
from nicegui.elements.mixins.value_element import ValueElement

from router_gateway.dashboard import parts
from router_gateway.dashboard.client import AdminClient, Refused, Trouble, sentence
from router_gateway.dashboard.view import View

T = TypeVar("T")
Fields = Mapping[str, "ValueElement[Any]"]
"""The inputs by the name that the API has for them."""


async def ask(
    view: View,
    title: str,
    fields: Callable[[], Fields],
    send: Callable[[AdminClient, dict[str, Any]], Awaitable[T]],
    *,
    action: str,
    about: str = "",
    done: str = "",
    kind: Literal["primary", "danger"] = "primary",
) -> T | None:
    """Show the form and send what is in it; None when the person turned back.

    fields : draws the inputs
    send : is given their values by name; what it raises is said at the field to blame, or beneath all of them
    """
    with (
        view.client.content,
        ui.dialog().classes("rg-dialog") as dialog,
        ui.element("div").classes("rg-card rg-dialog-card"),
    ):
        dialog._props["aria-label"] = title
        parts.heading(title)
        if about:
            parts.text(about, "rg-dim", tag="p")
        with ui.element("div").classes("rg-form"):
            inputs = fields()
        wrong = parts.text("", "rg-form-error", tag="p")
        wrong._props["role"] = "alert"

        async def go() -> None:
            if not all([each.validate() for each in inputs.values() if isinstance(each, ValidationElement)]):
                return
            try:
                found = await send(view.admin, {name: each.value for name, each in inputs.items()})
            except Refused as trouble:
                blame(inputs, wrong, trouble)
            except Trouble as trouble:
                view.tell(trouble)
            else:
                dialog.submit((found,))

        for each in inputs.values():
            if isinstance(each, ui.input):
                each.on("keydown.enter", go)
        with parts.row("rg-end"):
            parts.button("Cancel", lambda: dialog.submit(None), kind="quiet")
            parts.button(action, go, kind=kind)
    view.sessions.touch(view.session)
    answer = await parts.answer_of(dialog)
    if answer is None:
        return None
    if done:
        parts.toast(done, good=True)
    await view.refresh()
    found: T = answer[0]
    return found


def blame(inputs: Fields, wrong: Any, trouble: Refused) -> None:
    """Say what is wrong at the field that the gateway names, else in the line `wrong`."""
    names = (trouble.param or "").split(".")
    field = next((inputs[name] for name in reversed(names) if name in inputs), None)
    for each in inputs.values():
        if isinstance(each, ValidationElement):
            each.error = None
    if isinstance(field, ValidationElement):
        field.error = sentence(trouble.message.rpartition("`: ")[2])
    wrong._text = "" if isinstance(field, ValidationElement) else trouble.message
    wrong.update()


async def show(
    view: View,
    title: str,
    draw: Callable[[], object],
    *,
    actions: Mapping[str, str] | None = None,
    dangerous: Collection[str] = (),
) -> str:
    """Show something in a dialog; returns which of `actions` (name to words) was pressed, "" for none."""
    with (
        view.client.content,
        ui.dialog().classes("rg-dialog") as dialog,
        ui.element("div").classes("rg-card rg-dialog-card"),
    ):
        dialog._props["aria-label"] = title
        parts.heading(title)
        draw()
        with parts.row("rg-end"):
            for name, words in (actions or {}).items():
                parts.button(words, partial(dialog.submit, name), kind="danger" if name in dangerous else "")
            parts.button("Close", lambda: dialog.submit(""), kind="quiet")
    view.sessions.touch(view.session)
    answer = await parts.answer_of(dialog)
    return answer if isinstance(answer, str) else ""
