"""`make dashboard-bench`: what an open dashboard costs the gateway, and how long its first page takes.

Load: rounds of requests to the gateway with the overview open in Chromium and refreshing, alternating with rounds
without, so that whatever else the machine does falls on both alike. First paint: Chromium's own paint timing of the
overview over a ledger of a million requests (ledger_plans_data.py). Writes docs/results/dashboard.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from dashboard_site import Served, browsing, served, settle, signed_in
from dashboard_world import World, make
from ledger_plans_data import fill

from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.keys import Keys

_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "dashboard.json"
_BODY = {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of Australia?"}]}
_WARM_UP_S = 3.0
_PAINTS = 7


@dataclass(slots=True, kw_only=True)
class Round:
    """One stretch of load."""

    open: bool
    seconds: float
    latency_ms: list[float] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latency_ms)

    @property
    def per_s(self) -> float:
        return len(self.latency_ms) / self.seconds


async def load(site: Served, seconds: float, clients: int, *, open_pages: bool) -> Round:
    """So many clients, each asking again as soon as it is answered."""
    found = Round(open=open_pages, seconds=seconds)
    headers = {"authorization": f"Bearer {site.world.user_key}"}
    async with aiohttp.ClientSession(site.gateway, headers=headers) as session:

        async def client(until_s: float, into: list[float]) -> None:
            while (began := time.perf_counter()) < until_s:
                async with session.post("/v1/chat/completions", json=_BODY) as answer:
                    await answer.read()
                    if answer.status != 200:
                        raise RuntimeError(f"the gateway answered {answer.status}")
                into.append((time.perf_counter() - began) * 1000)

        for stretch_s, into in ((_WARM_UP_S, []), (seconds, found.latency_ms)):
            until_s = time.perf_counter() + stretch_s
            await asyncio.gather(*(client(until_s, into) for _ in range(clients)))
    return found


@contextmanager
def page_open(site: Served) -> Iterator[None]:
    """The overview in a browser that goes on refreshing, in a thread of its own: Playwright keeps its own loop.

    The browser would stand on somebody's desk: here it gets what the machine has left.
    """
    ready, done = threading.Event(), threading.Event()

    def look() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # of this thread, and of what it starts
        with browsing() as browser:
            tab = signed_in(browser, site)
            settle(tab)
            ready.set()
            while not done.is_set():
                tab.wait_for_timeout(200)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        if not ready.wait(300):
            raise RuntimeError("the page did not fill in")
        yield
    finally:
        done.set()
        thread.join()


def under_load(site: Served, rounds: int, seconds: float, clients: int) -> dict[str, Any]:
    """Alternate, beginning with either in turn, and compare the medians of both kinds."""
    found: list[Round] = []
    for number in range(rounds):
        for open_pages in (False, True) if number % 2 == 0 else (True, False):
            if open_pages:
                with page_open(site):
                    found.append(asyncio.run(load(site, seconds, clients, open_pages=True)))
            else:
                found.append(asyncio.run(load(site, seconds, clients, open_pages=False)))
            last = found[-1]
            print(f"{'open' if last.open else 'closed':>6}: p50 {last.p50_ms:.2f} ms, {last.per_s:.1f} requests/s")

    def middle(name: str, open_pages: bool) -> float:
        return statistics.median([float(getattr(each, name)) for each in found if each.open is open_pages])

    return {
        "rounds": rounds,
        "seconds": seconds,
        "clients": clients,
        **{f"{name}_{word}": middle(name, shown) for name in ("p50_ms", "per_s") for word, shown in _WORDS},
        "p50_ratio": middle("p50_ms", True) / middle("p50_ms", False),
        "per_s_ratio": middle("per_s", True) / middle("per_s", False),
        "all": [{"open": r.open, "p50_ms": r.p50_ms, "per_s": r.per_s} for r in found],
    }


_WORDS = (("open", True), ("closed", False))


def first_paint(site: Served) -> dict[str, Any]:
    """Milliseconds from the click to the first paint with content, and until the figures stand, of a warm browser."""
    paints, figures = [], []
    with browsing() as browser:
        tab = signed_in(browser, site)
        for _ in range(_PAINTS):
            tab.goto(site.dashboard + "/")
            tab.wait_for_selector(".rg-tile-value", timeout=120_000)
            told = tab.evaluate(
                "() => [performance.getEntriesByName('first-contentful-paint')[0].startTime, performance.now()]"
            )
            paints.append(told[0])
            figures.append(told[1])
    return {
        "loads": _PAINTS,
        "first_contentful_paint_ms": statistics.median(paints),
        "first_contentful_paint_ms_max": max(paints),
        "figures_ms": statistics.median(figures),
    }


def big(world: World, requests: int, folder: Path) -> World:
    """A copy of the installation with a ledger of that many requests in place of its own."""
    shutil.copytree(world.directory, folder, dirs_exist_ok=True)
    for file in (folder / "state").glob("ledger.db*"):
        file.unlink()
    url = f"sqlite:///{folder}/state/ledger.db"
    migrate(url)
    engine = open_engine(url)
    fill(engine, requests)
    keys = Keys(engine)
    facts = {"admin_key": keys.create("dashboard", admin=True), "user_key": keys.create("app")}
    engine.dispose()
    (folder / "world.json").write_text(json.dumps({"requests": requests, **facts}))
    return World.read(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", type=Path, help="an installation that was made before, else one is made")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=1_000_000, help="in the ledger, for the first paint")
    parser.add_argument("--out", type=Path, default=_RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        world = World.read(given.world) if given.world else make(_new(made / "world"))
        with served(world) as site:
            loaded = under_load(site, given.rounds, given.seconds, given.clients)
        with served(big(world, given.requests, _new(made / "big"))) as site:
            painted = {"requests": given.requests, **first_paint(site)}
    found = {
        "command": "make dashboard-bench",
        "at": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "load": loaded,
        "first_paint": painted,
    }
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({**{k: v for k, v in loaded.items() if k != "all"}, **painted}, indent=1))
    return 0


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
