"""What a page is given: who looks, the gateway, and regions that fill in, refresh and say what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from nicegui import ui
from nicegui.client import Client
from nicegui.element import Element

from router_gateway.dashboard import parts
from router_gateway.dashboard.client import AdminClient, GatewayAway, NotAllowed, Refused, SignedOut, Trouble
from router_gateway.dashboard.session import Session, Sessions

log = logging.getLogger(__name__)

T = TypeVar("T")
Draw: TypeAlias = "Callable[[T], Callable[[T], object] | None]"
"""Draws data that came. It may return a function that takes newer data in place; else a change draws all anew."""


@dataclass(slots=True, kw_only=True)
class View:
    """One open page in one browser tab.

    path, query : the page's own parameters
    visible : whether the tab is in front
    """

    session: Session
    sessions: Sessions
    client: Client
    path: Mapping[str, str]
    query: Mapping[str, str]
    visible: bool = True
    regions: list[Region[Any]] = field(default_factory=list)

    @property
    def admin(self) -> AdminClient:
        """The gateway, asked with this person's key. Raises SignedOut."""
        if not self.sessions.is_live(self.session):
            raise SignedOut("The session is over: sign in again.")
        return self.session.admin

    @property
    def role(self) -> str:
        return self.session.role

    def region(
        self,
        fetch: Callable[[AdminClient], Awaitable[T]],
        draw: Draw[T],
        *,
        every_s: float | None = None,
        height: str = "120px",
        classes: str = "",
        slow: bool = False,
    ) -> Region[T]:
        """A part of the page that fills in once the page stands, and again every `every_s` while the tab is in front.

        `height` is kept for it from the start, so that nothing jumps. `slow` tells whoever waits for the page (tests
        do) that this part may take many seconds.
        """
        made = Region(view=self, fetch=fetch, draw=draw, height=height, classes=classes)
        if slow:
            made.box.props("data-rg-slow")
        self.regions.append(made)
        if every_s is None:
            ui.timer(0.0, made.refresh, once=True)
        else:
            ui.timer(every_s, made.tick)
        return made

    async def act(self, work: Callable[[AdminClient], Awaitable[T]], *, done: str = "") -> T | None:
        """Do what a person asked for: `done` is said when it worked, the trouble when it did not (None is returned).

        Every region of the page looks again afterwards.
        """
        self.sessions.touch(self.session)
        try:
            found = await work(self.admin)
        except Trouble as trouble:
            self.tell(trouble)
            return None
        if done:
            parts.toast(done, good=True)
        await self.refresh()
        return found

    def tell(self, trouble: Trouble) -> None:
        """Say what went wrong; a session that is over leads to the sign-in."""
        if isinstance(trouble, SignedOut):
            self.leave()
        else:
            parts.toast(trouble.message, good=False)

    def leave(self) -> None:
        """On to the sign-in. The session ends, if its key did: it would lead straight back."""
        self.session.ended = True
        self.client.open("/login")

    async def refresh(self) -> None:
        """Every region looks again."""
        for region in list(self.regions):
            await region.refresh()

    def seen(self, visible: bool) -> None:
        """The tab came to the front, or went."""
        self.visible = visible


class Region(Generic[T]):
    """See View.region. `again` is for pages whose question changed: the old answer stays until the new one came."""

    def __init__(
        self,
        *,
        view: View,
        fetch: Callable[[AdminClient], Awaitable[T]],
        draw: Draw[T],
        height: str,
        classes: str,
    ) -> None:
        self._view, self._fetch, self._draw = view, fetch, draw
        self._shown: T | None = None
        self._update: Callable[[T], object] | None = None
        self._drawn = self._busy = self._again = False
        self.box: Element = ui.element("div").classes(f"rg-region {classes}").style(f"min-height:{height}")
        self.box.props("aria-busy=true")
        with self.box:
            parts.skeleton(height)

    async def tick(self) -> None:
        """Refresh, if somebody looks."""
        if self._view.visible or not self._drawn:
            await self.refresh()

    async def refresh(self) -> None:
        """Ask and draw; while an answer is under way, once more after it."""
        if self._busy:
            self._again = True
            return
        self._busy = True
        try:
            while True:
                self._again = False
                await self._once()
                if not self._again:
                    return
        finally:
            self._busy = False

    async def _once(self) -> None:
        try:
            found = await self._fetch(self._view.admin)
        except SignedOut:
            self._view.leave()
            return
        except Trouble as trouble:
            if not self._drawn or not isinstance(trouble, GatewayAway):
                self._put(partial(self._trouble, trouble))
                self._drawn = False
            return
        if self.box.is_deleted:
            return
        if not self._drawn:
            self._put(partial(self._first, found))
        elif found != self._shown:
            if self._update is not None:
                with self.box:
                    self._update(found)
            else:
                self._put(partial(self._first, found))
        self._shown, self._drawn = found, True

    def _first(self, found: T) -> None:
        self._update = self._draw(found)

    def _put(self, draw: Callable[[], object]) -> None:
        if self.box.is_deleted:
            return
        self.box.clear()
        self.box.props(remove="aria-busy")
        with self.box:
            draw()

    def _trouble(self, trouble: Trouble) -> None:
        what = "Not allowed" if isinstance(trouble, NotAllowed) else "The gateway is away"
        parts.error(what if not isinstance(trouble, Refused) else "Refused", trouble.message, again=self.refresh)
