"""What stands around every page: navigation, the gateway's state, theme, and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts
from router_gateway.dashboard.client import AdminClient, GatewayAway
from router_gateway.dashboard.pages import PAGES, Page
from router_gateway.dashboard.view import View

_STATUS_S = 5.0


@contextmanager
def frame(view: View, page: Page) -> Iterator[None]:
    """The frame with `page` marked in it; what is drawn inside the block is the page's content."""
    skip = parts.text("Skip to content", "rg-skip", tag="a")
    skip._props["href"] = "#main"
    with ui.element("div").classes("rg-shell"):
        _navigation(page)
        with ui.element("div").classes("rg-side"):
            _top(view, page)
            with ui.element("main").classes("rg-main") as main:
                main._props.update({"id": "main", "tabindex": "-1"})
                yield
    _shortcuts()


def _navigation(page: Page) -> None:
    with ui.element("nav").classes("rg-nav") as nav:
        nav._props.update({"id": "rg-nav", "aria-label": "Pages"})
        with ui.element("div").classes("rg-brand"):
            mark = ui.element("img")
            mark._props.update({"src": "/assets/icon.svg", "alt": "", "width": "24", "height": "24"})
            parts.text("Router Gateway")
        for each in PAGES:
            if each.shortcut is None:
                continue
            with ui.element("a").classes("rg-nav-item") as item:
                item._props.update({"href": each.path, "data-rg-key": each.shortcut})
                if each.path == page.path or each.name == page.under:
                    item._props["aria-current"] = "page"
                ui.icon(each.icon).classes("rg-nav-icon")
                parts.text(each.title, "rg-nav-title")
                hint = parts.text(f"g {each.shortcut}", "rg-key", tag="kbd")
                hint._props["aria-hidden"] = "true"


def _top(view: View, page: Page) -> None:
    with ui.element("header").classes("rg-top"):
        menu = ui.element("button").classes("rg-icon-button rg-menu")
        menu._props.update(
            {"type": "button", "aria-label": "Pages", "aria-controls": "rg-nav", "aria-expanded": "false"}
        )
        with menu:
            ui.icon("menu")
        parts.text(page.title, "rg-h1", tag="h1")
        parts.text("", "rg-spacer")
        _status(view)
        theme = ui.element("button").classes("rg-icon-button rg-theme")
        theme._props.update({"type": "button", "aria-label": "Theme: automatic", "title": "Theme: automatic"})
        with theme:
            for name, icon in (("auto", "brightness_auto"), ("dark", "dark_mode"), ("light", "light_mode")):
                ui.icon(icon).classes(f"rg-theme-{name}")
        with ui.element("form").classes("rg-out") as out:
            out._props.update({"method": "post", "action": "/logout"})
            parts.text(view.session.name, "rg-who")
            leave = ui.element("button").classes("rg-icon-button")
            leave._props.update({"type": "submit", "aria-label": "Sign out", "title": "Sign out"})
            with leave:
                ui.icon("logout")


def _status(view: View) -> None:
    async def fetch(admin: AdminClient) -> str:
        try:
            await admin.get("/health/readiness", timeout_s=3.0, fresh_s=3.0)
        except GatewayAway:
            return "away"
        return "ready"

    def draw(state: str) -> Any:
        with ui.element("span").classes("rg-status") as made:
            made._props["role"] = "status"
            pill = parts.pill("")

        def show(state: str) -> None:
            good = state == "ready"
            pill._text = "gateway ready" if good else "gateway away"
            pill.classes(replace=f"rg-pill {'rg-good' if good else 'rg-bad'}")
            pill.update()

        show(state)
        return show

    view.region(fetch, draw, every_s=_STATUS_S, height="24px", classes="rg-status-box")


def _shortcuts() -> None:
    """The list that `?` opens."""
    keys = [(f"g {page.shortcut}", page.title) for page in PAGES if page.shortcut]
    keys += [("/", "search on this page"), ("?", "this list"), ("Esc", "close")]
    with ui.element("dialog").classes("rg-card rg-shortcuts") as box:
        box._props.update({"id": "rg-shortcuts", "aria-label": "Keyboard shortcuts"})
        parts.heading("Keyboard")
        with ui.element("dl").classes("rg-dl"):
            for key, meaning in keys:
                parts.text(key, "rg-key", tag="dt")
                parts.text(meaning, tag="dd")
