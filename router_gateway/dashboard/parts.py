"""Small things that every page is made of. Text is always text: nothing here takes HTML."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from nicegui import ui
from nicegui.element import Element

Tone = Literal["", "good", "bad", "warn", "accent"]
_NOTE_CHARS_MAX = 2_000


def text(said: object, classes: str = "", *, tag: str = "span") -> Element:
    """Text in an element of its own; whatever it holds is shown as it is."""
    made = ui.element(tag).classes(classes)
    made._text = str(said)
    return made


def heading(said: str, *, level: int = 2) -> Element:
    """A heading; the page's title is the only one of level 1."""
    return text(said, f"rg-h{level}", tag=f"h{level}")


@contextmanager
def card(title: str = "", *, hint: str = "", classes: str = "") -> Iterator[Element]:
    """A panel; `title` is its heading, `hint` a dim line beside it."""
    with ui.element("section").classes(f"rg-card {classes}") as made:
        if title:
            made._props["aria-label"] = title
            with ui.element("div").classes("rg-card-head"):
                heading(title)
                if hint:
                    text(hint, "rg-dim")
        yield made


def grid(*, min_width: str = "220px", classes: str = "") -> Element:
    """A box whose children stand side by side as far as there is room."""
    return ui.element("div").classes(f"rg-grid {classes}").style(f"--rg-min:{min_width}")


def row(classes: str = "") -> Element:
    """Side by side, as wide as each is."""
    return ui.element("div").classes(f"rg-row {classes}")


def column(classes: str = "") -> Element:
    """Beneath each other."""
    return ui.element("div").classes(f"rg-column {classes}")


def tile(label: str, value: str, *, detail: str = "", tone: Tone = "", hint: str = "") -> Element:
    """A figure with what it is and, beneath, its interval or what it is compared with. `hint` explains on hover."""
    with ui.element("div").classes("rg-tile") as made:
        text(label, "rg-tile-label")
        text(value, f"rg-tile-value {_tone(tone)}")
        text(detail or "\u00a0", "rg-tile-detail")
    if hint:
        made._props["title"] = hint
    return made


def pill(said: str, tone: Tone = "") -> Element:
    """A state in a word."""
    return text(said, f"rg-pill {_tone(tone)}")


def skeleton(height: str = "120px") -> Element:
    """Grey where data will stand."""
    made = ui.element("div").classes("rg-skeleton").style(f"height:{height}")
    made._props["aria-hidden"] = "true"
    return made


def empty(title: str, next_step: str, *, command: str = "", link: tuple[str, str] | None = None) -> Element:
    """Nothing is here yet: what it would be, and what to do next; a command to copy, or (words, path) of a page."""
    with ui.element("div").classes("rg-empty") as made:
        text(title, "rg-empty-title", tag="p")
        text(next_step, "rg-dim", tag="p")
        if command:
            text(command, "rg-code", tag="code")
        if link:
            anchor(link[0], link[1], classes="rg-button")
    return made


def error(title: str, message: str, *, again: Callable[[], Awaitable[None]] | None = None) -> Element:
    """What went wrong, in words, with a way to try again."""
    with ui.element("div").classes("rg-error") as made:
        made._props["role"] = "alert"
        text(title, "rg-error-title", tag="p")
        text(message, tag="p")
        if again is not None:
            button("Try again", again)
    return made


def anchor(said: str, path: str, *, classes: str = "rg-link", label: str = "") -> Element:
    """A link to a page of the dashboard: `path` begins with one slash, so no data can make it lead elsewhere."""
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        raise ValueError("a link inside the dashboard begins with one slash")
    made = text(said, classes, tag="a")
    made._props["href"] = path
    if label:
        made._props["aria-label"] = label
    return made


def button(
    said: str,
    press: Callable[..., Any],
    *,
    kind: Literal["", "primary", "danger", "quiet"] = "",
    label: str = "",
    disabled: bool = False,
) -> Element:
    """A button that runs `press`; a coroutine's end is waited for. `label` says more where `said` is short."""
    made = text(said, f"rg-button {f'rg-{kind}' if kind else ''}", tag="button")
    made._props["type"] = "button"
    if label:
        made._props["aria-label"] = label
    if disabled:
        made._props["disabled"] = True
    made.on("click", lambda _: press())
    return made


def segments(label: str, options: Mapping[str, str], chosen: str, choose: Callable[[str], Any]) -> Element:
    """One of a few: buttons in a row. `options` are values with their words; `choose` is called with the value."""
    buttons: dict[str, Element] = {}

    async def press(value: str) -> None:
        for each, made in buttons.items():
            made._props["aria-pressed"] = "true" if each == value else "false"
            made.update()
        found = choose(value)
        if isinstance(found, Awaitable):
            await found

    with ui.element("div").classes("rg-segments") as box:
        box._props.update({"role": "group", "aria-label": label})
        for value, said in options.items():
            made = buttons[value] = text(said, tag="button")
            made._props.update({"type": "button", "aria-pressed": "true" if value == chosen else "false"})
            made.on("click", partial(press, value))
    return box


def meter(share: float, label: str, *, mark: float | None = None, tone: Tone = "") -> Element:
    """A bar, filled as far as `share` (0 to 1); `mark` is a line across it, such as where an even pace would be."""
    with ui.element("div").classes(f"rg-meter {_tone(tone)}") as made:
        made._props.update(
            {
                "role": "meter",
                "aria-label": label,
                "aria-valuemin": "0",
                "aria-valuemax": "100",
                "aria-valuenow": f"{100 * min(max(share, 0.0), 1.0):.0f}",
            }
        )
        ui.element("div").classes("rg-meter-fill").style(f"width:{100 * min(max(share, 0.0), 1.0):.2f}%")
        if mark is not None:
            ui.element("div").classes("rg-meter-mark").style(f"left:{100 * min(max(mark, 0.0), 1.0):.2f}%")
    return made


def toast(message: str, *, good: bool) -> None:
    """Say something for a few seconds; read out by screen readers."""
    ui.notify(
        message,
        position="bottom-right",
        timeout=4_000 if good else 8_000,
        classes="rg-toast " + ("rg-toast-good" if good else "rg-toast-bad"),
        close_button="Close",
        textColor="rg",  # Quasar's own is white, and cannot be overruled
    )


def unchecked(said: Any) -> None:
    """The validation of a field of which the gateway says what is wrong: keeps room for that, so that nothing jumps."""


def definition(rows: list[tuple[str, object]]) -> Element:
    """Names and values beneath each other."""
    with ui.element("dl").classes("rg-dl") as made:
        for name, value in rows:
            text(name, tag="dt")
            text(value, tag="dd")
    return made


async def confirm(
    title: str,
    message: str,
    *,
    action: str,
    typed: str = "",
    note: bool = False,
    danger: bool = True,
) -> str | None:
    """Ask before something that cannot be undone by looking away. None: the person turned back.

    typed : what has to be typed first, such as the name of what is removed
    note : whether a reason is asked for; it is what is returned (else an empty string)
    """
    with ui.dialog().classes("rg-dialog") as dialog, ui.element("div").classes("rg-card rg-dialog-card") as box:
        box._props.update({"role": "alertdialog", "aria-label": title})
        heading(title)
        text(message, tag="p")
        word = ui.input(f"Type {typed} to confirm", validation=unchecked).props("outlined dense") if typed else None
        reason = (
            ui.input("Reason", placeholder="why, for the audit trail").props("outlined dense stack-label")
            if note
            else None
        )
        if reason is not None:
            reason._props["maxlength"] = _NOTE_CHARS_MAX

        def go() -> None:
            if word is not None and word.value != typed:
                word.error = "not the same"
                return
            dialog.submit(str(reason.value or "") if reason is not None else "")

        with row("rg-end"):
            button("Cancel", lambda: dialog.submit(None), kind="quiet")
            button(action, go, kind="danger" if danger else "primary")
    answer = await answer_of(dialog)
    return answer if isinstance(answer, str) else None


async def answer_of(dialog: ui.dialog) -> Any:
    """What a dialog was closed with, None where it was turned away from; then it is gone, or its whole tab is."""
    answer = await dialog
    if not dialog.is_deleted:
        dialog.delete()
    return answer


def _tone(tone: Tone) -> str:
    return f"rg-{tone}" if tone else ""
