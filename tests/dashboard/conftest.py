"""One installation with weeks of traffic, its gateway and its dashboard, and a browser before it.

The ledger is made once a run and copied for every worker; gateway and dashboard live as long as the worker, a browser
as long as a module (Playwright keeps an event loop running, in which no asynchronous test could run).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.dashboard.site import CHROMIUM, DashboardProcess, Site, World, start_dashboard
from tests.dashboard.tab import Tab
from tests.e2e import process

_HERE = Path(__file__).parent
_BENCHMARKS = _HERE.parents[1] / "benchmarks"
_REQUESTS = 50_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure, what the page was like: a picture nobody can look at later would say less."""
    report = yield
    if report.when == "call" and report.failed:
        given = getattr(item, "funcargs", {})
        for name, tab in given.items():
            if isinstance(tab, Tab):
                report.sections.append((f"the page of `{name}`", tab.state()))
        if isinstance(site := given.get("site"), Site):
            said = f"{site.dashboard.errors()[-3_000:]}\n--- gateway\n{site.gateway.errors()[-3_000:]}"
            report.sections.append(("what the dashboard and the gateway wrote", said))
    return report


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> World:
    """This worker's copy of an installation whose ledger holds 50,000 simulated requests.

    ROUTER_GATEWAY_TEST_WORLD names a folder to keep it in, for whoever runs one test again and again.
    """
    own = tmp_path_factory.mktemp("world")
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    made = Path(os.environ.get("ROUTER_GATEWAY_TEST_WORLD", shared / "dashboard-world"))
    with (shared / "dashboard-world.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "world.json").exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            sys.path.insert(0, str(_BENCHMARKS))
            try:
                import dashboard_world
            finally:
                sys.path.remove(str(_BENCHMARKS))
            dashboard_world.make(made, _REQUESTS)
    shutil.copytree(made, own, dirs_exist_ok=True)
    return World.read(own)


@pytest.fixture(scope="session")
def site(world: World) -> Iterator[Site]:
    """The installation with `router-gateway serve` and `router-gateway dashboard` running on it."""
    gateway = process.start(world.directory, "--config", str(world.config))
    dashboard: DashboardProcess | None = None
    try:
        dashboard = start_dashboard(world.directory, gateway.base_url.removesuffix("/v1"))
        yield Site(world=world, gateway=gateway, dashboard=dashboard)
        assert "Traceback" not in dashboard.errors()
    finally:
        if dashboard is not None:
            dashboard.stop()
        code = gateway.stop()
    assert code == 0
    assert "Traceback" not in gateway.errors()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Debian's Chromium under Playwright."""
    if CHROMIUM is None:
        why = "no Chromium on this machine: apt-get install chromium"
        if os.environ.get("ROUTER_GATEWAY_TEST_BROWSER") == "required":
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def stranger(site: Site, browser: object) -> Iterator[Tab]:
    """A tab of somebody who has not signed in."""
    with Tab.open(site, browser) as tab:
        yield tab


@pytest.fixture
def tab(site: Site, browser: object) -> Iterator[Tab]:
    """An empty tab of somebody who has signed in with the admin key. What the console complains of fails the test."""
    with Tab.open(site, browser) as tab:
        tab.admit(site.world.admin_key)
        yield tab
