"""`make screenshots`: every page of the dashboard, light and dark, on a desk and a phone, to docs/images/dashboard/.

The installation is made for it (dashboard_world.py), so the pictures hold nothing of anybody.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
from dashboard_site import Served, browsing, served, settle, signed_in
from dashboard_world import World, make
from PIL import Image
from playwright.sync_api import Page as Tab
from playwright.sync_api import ViewportSize

from router_gateway.dashboard.pages import PAGES, Page

_FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images" / "dashboard"
_SIZES: dict[str, ViewportSize] = {"desk": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_BYTES_MAX = 150_000
_COLORS = (256, 128, 64, 32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", help="names of pages; default: all of them, and the sign-in")
    parser.add_argument("--world", type=Path, help="an installation that was made before, else one is made")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--to", type=Path, default=_FOLDER)
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        world = World.read(given.world) if given.world else make(Path(folder), given.requests)
        with served(world) as site, browsing() as browser:
            options: dict[str, Any] = {"viewport": _SIZES["desk"], "locale": "en-GB", "timezone_id": "Europe/Berlin"}
            if not given.pages or "sign-in" in given.pages:
                stranger = browser.new_context(**options).new_page()
                stranger.goto(site.dashboard + "/login")
                _take(stranger, "sign-in", given.to)
            _draft(site)
            tab = signed_in(browser, site, **options)
            for name, path in _paths(tab, site.dashboard, given.pages):
                tab.goto(site.dashboard + path)
                settle(tab)
                _take(tab, name, given.to)
    return 0


def _draft(site: Served) -> None:
    """A candidate to look at."""
    body = {"name": "cheaper", "changes": {"worth_usd": 0.005}, "note": "is a quarter of the dial enough?"}
    answer = httpx.post(
        site.gateway + "/admin/api/lifecycle/candidates",
        json=body,
        headers={"authorization": f"Bearer {site.world.admin_key}"},
        timeout=60,
    )
    if answer.status_code not in (200, 409):
        raise RuntimeError(answer.text)


def _take(tab: Tab, name: str, to: Path) -> None:
    """What stands there, in both themes and sizes."""
    for size, viewport in _SIZES.items():
        tab.set_viewport_size(viewport)
        for theme in _THEMES:
            tab.emulate_media(color_scheme=theme)
            tab.mouse.move(0, 0)
            tab.wait_for_timeout(500)
            _save(tab.screenshot(), to / f"{name}-{theme}-{size}.png")
    tab.set_viewport_size(_SIZES["desk"])


def _paths(tab: Tab, url: str, wanted: list[str]) -> Iterator[tuple[str, str]]:
    """Name and path of the pages; of one with a parameter, the first that its parent links to."""
    for page in PAGES:
        if wanted and page.name not in wanted:
            continue
        path = page.path if "{" not in page.path else _example(tab, url, page)
        if path is not None:
            yield page.name, path


def _example(tab: Tab, url: str, page: Page) -> str | None:
    parent = next((each for each in PAGES if each.name == page.under), None)
    if parent is None:
        return None
    tab.goto(url + parent.path)
    settle(tab)
    link = tab.locator(f'main a[href^="{page.path.partition("{")[0]}"]').first
    return link.get_attribute("href") if link.count() else None


def _save(png: bytes, path: Path) -> None:
    """As a picture of few colours: it is small, and nobody sees the difference."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colors in _COLORS:
        small = io.BytesIO()
        picture.quantize(colors, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        if small.tell() <= _BYTES_MAX:
            break
    path.write_bytes(small.getvalue())
    print(f"{path.name}: {small.tell() // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
