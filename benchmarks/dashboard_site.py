"""The installation of dashboard_world.py, served: `router-gateway serve --dashboard`, and a browser before it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboard_world import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAM = Path(sys.executable).with_name("router-gateway")
CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where both answer, and the gateway's process."""

    world: World
    gateway: str
    dashboard: str
    process: subprocess.Popen[str]


@contextmanager
def served(world: World) -> Iterator[Served]:
    """Gateway and dashboard on free ports for as long as the block lasts."""
    process = subprocess.Popen(
        [PROGRAM, "serve", "--dashboard", "--config", "gateway.yaml"],
        cwd=world.directory,
        env={**os.environ, "ROUTER_GATEWAY__DASHBOARD__PORT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        found = [re.search(pattern, said) for pattern in (r"is ready: (http://\S+)/v1", r"Dashboard: (http://\S+)")]
        gateway, dashboard = (match.group(1) if match else "" for match in found)
        if not gateway or not dashboard:
            raise RuntimeError(f"it did not start: {said[-500:]}")
        yield Served(world=world, gateway=gateway, dashboard=dashboard, process=process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise RuntimeError("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def signed_in(browser: Browser, site: Served, **options: Any) -> Page:
    """A tab of an admin; `options` are of the browser's context."""
    page = browser.new_context(**options).new_page()
    page.goto(site.dashboard + "/login", timeout=60_000)
    page.get_by_label("Admin or viewer key").fill(site.world.admin_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#main", timeout=60_000)
    return page


def settle(page: Page, *, timeout_s: float = 240.0) -> None:
    """Wait until everything on the page has filled in and is drawn."""
    page.wait_for_selector("#main")
    page.wait_for_function("() => !document.querySelector('[aria-busy=true]')", timeout=timeout_s * 1000)
    page.wait_for_timeout(700)
