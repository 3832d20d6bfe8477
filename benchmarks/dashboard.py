"""`make dashboard-bench`: what an open dashboard costs the gateway, and how long its first page takes.

Load: many short rounds of requests to the gateway with the overview open in Chromium and refreshing, alternating with
rounds in which browser and dashboard are stopped (SIGSTOP), so that whatever else the machine does falls on both alike.
What fell due meanwhile is asked for as soon as they go on. The gateway has a core, and what it does for the dashboard
it does there; the dashboard, the browser, upstream and load share another, as in `make bench`.

First paint: Chromium's own paint timing of the overview over a ledger of a million requests (ledger_plans_data.py).
Writes docs/results/dashboard.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from dashboard_site import Served, browsing, served, settle, signed_in
from dashboard_world import World, make
from ledger_plans_data import fill
from performance.intervals import paired_ratio
from performance.load import run
from performance.machine import Cores, family, pinned, two_cores
from performance.server import upstream
from performance.texts import texts
from performance.wire import write_requests

from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.keys import Keys

_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "dashboard.json"
_TEXTS = 4_000
_CONNECTIONS = 16
_WARM_UP_S = 0.3
_PAINTS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one stretch said: one connection for the median, sixteen for the throughput."""

    open: bool
    p50_ms: float
    per_s: float


class Load:
    """The load generator of `make bench` on a core of its own, in front of the gateway's."""

    def __init__(self, site: Served, cores: Cores, folder: Path) -> None:
        self._port, self._cores = int(site.gateway.rsplit(":", 1)[1]), cores
        headers = {"Authorization": f"Bearer {site.world.user_key}"}
        wanted = texts(_TEXTS, tokens=100, seed=2)
        self._file = write_requests(
            folder / "requests", wanted, port=self._port, model="auto", headers=headers, stream=False
        )

    def round(self, seconds: float, *, open_pages: bool) -> Round:
        """One stretch. Raises BenchmarkError for an answer that is not good."""
        found = [
            run(
                self._file,
                port=self._port,
                connections=connections,
                cores=self._cores,
                seconds=seconds,
                warmup_s=_WARM_UP_S,
            )
            for connections in (1, _CONNECTIONS)
        ]
        return Round(open=open_pages, p50_ms=found[0].p50_us / 1e3, per_s=found[1].rps)


@contextmanager
def page_open(site: Served, cores: Cores) -> Iterator[Callable[[bool], None]]:
    """The overview in a browser that goes on refreshing, in a thread of its own: Playwright keeps its own loop.

    Yields what stops browser and dashboard (False) and lets them go on (True). The browser would stand on somebody's
    desk: here it gets what the machine has left.
    """
    ready, done = threading.Event(), threading.Event()
    others = set(family(os.getpid()))

    def look() -> None:
        # of this thread, and of what it starts
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        with pinned(cores.others), browsing() as browser:
            tab = signed_in(browser, site)
            settle(tab)
            ready.set()
            while not done.is_set():
                tab.wait_for_timeout(200)

    def show(seen: bool) -> None:
        for pid in [*family(site.process.pid)[1:], *(set(family(os.getpid())) - others)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT if seen else signal.SIGSTOP)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        if not ready.wait(300):
            raise RuntimeError("the page did not fill in")
        yield show
    finally:
        show(True)
        done.set()
        thread.join()


def under_load(site: Served, cores: Cores, folder: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Alternate, beginning with either in turn, and compare both kinds."""
    found: list[Round] = []
    load = Load(site, cores, folder)
    load.round(seconds, open_pages=False)  # what is done once is done
    with page_open(site, cores) as show:
        for number in range(rounds):
            for open_pages in (False, True) if number % 2 == 0 else (True, False):
                show(open_pages)
                found.append(load.round(seconds, open_pages=open_pages))
                last = found[-1]
                print(f"{'open' if last.open else 'closed':>6}: p50 {last.p50_ms:.3f} ms, {last.per_s:.0f} requests/s")

    def middle(name: str, open_pages: bool) -> float:
        return statistics.median([float(getattr(each, name)) for each in found if each.open is open_pages])

    def values(name: str) -> list[list[float]]:
        return [[float(getattr(each, name)) for each in found if each.open is shown] for shown in (True, False)]

    return {
        "rounds": rounds,
        "seconds": seconds,
        "cores": cores.said,
        **{f"{name}_{word}": middle(name, shown) for name in ("p50_ms", "per_s") for word, shown in _WORDS},
        "p50_ratio": paired_ratio(*values("p50_ms")),
        "per_s_ratio": paired_ratio(*values("per_s")),
        "per_s_ratio_of_means": ratio_of_means(*values("per_s")),
        "all": [{"open": r.open, "p50_ms": r.p50_ms, "per_s": r.per_s} for r in found],
    }


def without_load(site: Served, cores: Cores, *, seconds: float) -> dict[str, float]:
    """Share of a core that the gateway's own process takes while nobody asks it anything but the open page.

    Says what an open page can take from a gateway that is busy, and needs no quiet machine.
    """
    with page_open(site, cores) as show:
        found = {}
        for word, shown in _WORDS:
            show(shown)
            before, began = own_cpu_s(site.process.pid), time.monotonic()
            time.sleep(seconds)
            found[f"{word}_share"] = (own_cpu_s(site.process.pid) - before) / (time.monotonic() - began)
    return {"seconds": seconds, **found}


def own_cpu_s(pid: int) -> float:
    """Processor time of one process without its children, all threads that live."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


_WORDS = (("open", True), ("closed", False))


def ratio_of_means(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Of paired rounds, with a 95 % bootstrap interval over pairs: a refresh falls into few rounds, and counts here."""
    pairs = np.stack([ours, theirs])
    drawn = pairs[:, np.random.default_rng(0).integers(0, pairs.shape[1], (2_000, pairs.shape[1]))].sum(axis=2)
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    return {"ratio": float(pairs[0].sum() / pairs[1].sum()), "low": float(low), "high": float(high)}


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


def before(world: World, port: int, folder: Path) -> World:
    """A copy of the installation whose endpoints are the stub at that port."""
    shutil.copytree(world.directory, folder, dirs_exist_ok=True)
    settings = yaml.safe_load((folder / "gateway.yaml").read_text())
    for endpoint in settings["endpoints"]:
        endpoint["base_url"] = f"http://127.0.0.1:{port}/v1"
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
    engine = open_engine(f"sqlite:///{folder}/state/ledger.db")
    budgets = Budgets(engine)
    for state in budgets.states(datetime.now(UTC)):  # they are sized for a few calls
        budgets.remove(state.budget.scope, state.budget.subject, state.budget.period)
    engine.dispose()
    return World.read(folder)


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
    parser.add_argument("--rounds", type=int, default=50, help="pairs of a round open and a round closed")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run of the load generator")
    parser.add_argument("--quiet", type=float, default=120.0, help="seconds without load, open and stopped")
    parser.add_argument("--requests", type=int, default=1_000_000, help="in the ledger, for the first paint")
    parser.add_argument("--out", type=Path, default=_RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        world = World.read(given.world) if given.world else make(_new(made / "world"))
        cores = two_cores()
        with upstream(cores) as port, pinned(cores.proxy), served(before(world, port, _new(made / "load"))) as site:
            for pid in family(site.process.pid)[1:]:
                os.sched_setaffinity(pid, {cores.others} if cores.others is not None else os.sched_getaffinity(0))
            quiet = without_load(site, cores, seconds=given.quiet)
            loaded = under_load(site, cores, made, rounds=given.rounds, seconds=given.seconds)
        with served(big(world, given.requests, _new(made / "big"))) as site:
            painted = {"requests": given.requests, **first_paint(site)}
    found = {
        "command": "make dashboard-bench",
        "at": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "without_load": quiet,
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
