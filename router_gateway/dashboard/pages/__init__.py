"""The pages, in the order of the navigation. A page is a module of this package and one line in PAGES.

The module has a function `build(view)`, documented, that draws the page's content: what needs no data at once, the rest
in regions (`view.region`), which fill in when the page stands. docs/dashboard.md says it at length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from router_gateway.dashboard.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page.

    path : "/name", or "/name/{parameter}" for one that is reached from another
    title, icon : icon is a name of Google's Material Icons, which come with NiceGUI
    shortcut : the letter after g; None: not in the navigation
    name : of the module in this package
    under : the name of the page that is marked in the navigation meanwhile
    """

    path: str
    title: str
    icon: str
    shortcut: str | None
    name: str
    under: str = ""

    def build(self) -> Callable[[View], None]:
        """The function that draws it."""
        return cast("Callable[[View], None]", import_module(f"{__name__}.{self.name}").build)


PAGES: tuple[Page, ...] = (
    Page(path="/", title="Overview", icon="space_dashboard", shortcut="o", name="overview"),
    Page(path="/tune", title="Tune", icon="tune", shortcut="t", name="tune"),
    Page(path="/policies", title="Policies", icon="alt_route", shortcut="p", name="policies"),
    Page(
        path="/policies/{name}", title="Candidate", icon="alt_route", shortcut=None, name="candidate", under="policies"
    ),
    Page(path="/requests", title="Requests", icon="list_alt", shortcut="r", name="requests"),
    Page(path="/requests/{id}", title="Request", icon="list_alt", shortcut=None, name="request", under="requests"),
    Page(path="/endpoints", title="Endpoints", icon="dns", shortcut="e", name="endpoints"),
    Page(path="/endpoints/{name}", title="Endpoint", icon="dns", shortcut=None, name="endpoint", under="endpoints"),
    Page(path="/playground", title="Playground", icon="science", shortcut="y", name="playground"),
    Page(path="/access", title="Access", icon="key", shortcut="a", name="access"),
    Page(path="/settings", title="Settings", icon="settings", shortcut="s", name="settings"),
)
