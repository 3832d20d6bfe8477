"""A browser's tab as the tests drive it, and what must hold of every page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from router_gateway.dashboard.client import FRESH_S
from tests.dashboard.site import Site

WAIT_MS, SLOW_MS = 60_000, 280_000
expect.set_options(timeout=WAIT_MS)  # its own five seconds are little for a busy machine
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
_MARK = "__pwned"  # of benchmarks/dashboard_world.py
_BORING = ("Password forms should have", "[DOM]")

_ALIVE = f"""() => {{
  const found = [];
  if (window.{_MARK} !== undefined) found.push(`a script of the data ran: ${{window.{_MARK}}}`);
  for (const e of document.querySelectorAll("iframe, object, embed, base, img[src='x'], [srcdoc]"))
    found.push(e.outerHTML.slice(0, 200));
  for (const e of document.querySelectorAll("*"))
    for (const a of e.attributes)
      if (/^on/i.test(a.name) || /^\\s*javascript:/i.test(a.value))
        found.push(`${{e.tagName}} ${{a.name}}=${{a.value}}`);
  for (const e of document.querySelectorAll("script"))
    if (e.textContent.includes("{_MARK}")) found.push(`script ${{e.textContent.slice(0, 80)}}`);
  return found;
}}"""


_TOLD = """() => {
  window.__told = [];
  const look = () => {
    for (const e of document.querySelectorAll(".q-notification__message, .rg-form-error, .q-field__messages")) {
      const said = e.textContent.trim();
      if (said && e.__told !== said) window.__told.push(e.__told = said);
    }
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
}"""
"""Keeps what toasts and fields said: they have long gone when a test gives up."""


class Tab:
    """`page` is Playwright's. `complaints` collects what a page must never cause."""

    def __init__(self, site: Site, context: BrowserContext, page: Page) -> None:
        self.site, self.context, self.page = site, context, page
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("dialog", self._asked)
        page.on("request", self._fetched)

    @classmethod
    @contextmanager
    def open(
        cls,
        site: Site,
        browser: Any,
        *,
        theme: Literal["light", "dark"] = "light",
        size: dict[str, int] | None = None,
    ) -> Iterator[Tab]:
        """A tab with cookies of its own. At the end nothing may have been complained of."""
        assert isinstance(browser, Browser)
        context = browser.new_context(
            viewport=size or DESKTOP,
            color_scheme=theme,
            reduced_motion="reduce",  # nobody watches, and every frame is drawn by the processor
            timezone_id="Europe/Berlin",
            locale="en-GB",
        )
        context.add_init_script(f"({_TOLD})()")
        tab = cls(site, context, context.new_page())
        try:
            yield tab
        finally:
            context.close()
        assert tab.complaints == []

    def admit(self, key: str) -> None:
        """As the form does, without drawing it and the overview that it leads to."""
        answer = httpx.post(
            self.site.url + "/login", data={"key": key}, headers={"origin": self.site.url}, trust_env=False, timeout=60
        )
        assert answer.status_code == 303, answer.text
        [(name, value)] = answer.cookies.items()
        self.context.add_cookies(
            [{"name": name, "value": value, "url": self.site.url, "httpOnly": True, "sameSite": "Lax"}]
        )

    def sign_in(self, key: str) -> None:
        """Through the form."""
        self.page.goto(self.site.url + "/login")
        self.page.get_by_label("Admin or viewer key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_selector("#main")

    def goto(self, path: str, *, slow: bool = False, later: bool = False) -> Page:
        """A page, with everything on it filled in; of what may take long (an audit), only with `slow`.

        later : once the dashboard has forgotten what it was told before, such as by the page of another test
        """
        if later:
            self.page.wait_for_timeout(1_000 * FRESH_S + 100)
        self.page.goto(self.site.url + path)
        self.settle(slow=slow)
        return self.page

    def settle(self, *, slow: bool = False) -> None:
        """Wait until no region waits for its first data."""
        self.page.wait_for_selector("#main")
        busy = "[aria-busy=true]" + ("" if slow else ":not([data-rg-slow])")
        timeout_ms = SLOW_MS if slow else WAIT_MS
        self.page.wait_for_function(f"() => !document.querySelector('{busy}')", timeout=timeout_ms, polling=50)

    def theme(self, theme: Literal["light", "dark"]) -> None:
        self.page.emulate_media(color_scheme=theme)

    def assert_inert(self, *shown: str) -> None:
        """No data became markup or script; and `shown`, of the corpus, stands there as text."""
        assert self.page.evaluate(_ALIVE) == []
        text = self.page.locator("body").inner_text()
        for each in shown:
            assert each in text, f"not shown as it is: {each}"

    def assert_accessible(self) -> None:
        """axe-core finds no serious or critical violation, in either theme."""
        for theme in ("light", "dark"):
            self.page.emulate_media(color_scheme=theme)
            found = Axe().run(self.page).response["violations"]
            bad = [each for each in found if each["impact"] in ("serious", "critical")]
            told = [f"{each['id']}: {node['html'][:200]} {node['any']}" for each in bad for node in each["nodes"][:3]]
            assert not bad, f"{theme}: " + "\n".join(told)
        self.page.emulate_media(color_scheme="light")

    def assert_fits(self) -> None:
        """Nothing sticks out sideways, on a desk or a phone."""
        for size in (DESKTOP, PHONE, {"width": 1280, "height": 800}):
            self.page.set_viewport_size(size)
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size["width"], f"{wide} px wide at {size['width']}"
        self.page.set_viewport_size(DESKTOP)

    def state(self) -> str:
        """Where it is, what stands there and what was told since it was opened, for whoever reads of a failure."""
        try:
            told = self.page.evaluate("window.__told")
            typed = self.page.evaluate("Array.from(document.querySelectorAll('input, textarea'), e => e.value)")
            text = self.page.locator("body").inner_text(timeout=5_000)
        except Exception as error:  # the browser is gone: then that is the news
            return f"{self.page.url}: {error}"
        return "\n".join(
            [
                self.page.url,
                f"told: {told}",
                f"typed: {typed}",
                f"complaints: {self.complaints}",
                "--- page",
                text[:6_000],
            ]
        )

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(word in message.text for word in _BORING):
            self.complaints.append(f"console: {message.text}")

    def _asked(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _fetched(self, request: Request) -> None:
        if not request.url.startswith((self.site.url, self.site.url.replace("http", "ws"), "data:", "blob:")):
            self.complaints.append(f"asked for {request.url}")
