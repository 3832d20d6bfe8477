"""An installation's directory and the processes on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.process import PROGRAM, GatewayProcess
from tests.loopback import http

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
_START_S_MAX = 120.0


@dataclass(frozen=True, kw_only=True)
class World:
    """What benchmarks/dashboard_world.py made."""

    directory: Path
    requests: int
    admin_key: str
    user_key: str

    @property
    def config(self) -> Path:
        return self.directory / "gateway.yaml"

    @classmethod
    def read(cls, directory: Path) -> World:
        return cls(directory=directory, **json.loads((directory / "world.json").read_text()))


@dataclass(kw_only=True)
class DashboardProcess:
    """`router-gateway dashboard`, answering at `url`."""

    process: subprocess.Popen[str]
    stderr: Path
    url: str

    def errors(self) -> str:
        return self.stderr.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(5)


def start_dashboard(
    directory: Path, gateway: str, *arguments: str, port: int = 0, given: Mapping[str, str] | None = None
) -> DashboardProcess:
    """The dashboard of the gateway at that base URL, on a free port unless one is named, once it says where it is.

    arguments, given : more of its command line and its environment
    """
    stderr = directory / f"dashboard{port or ''}.stderr"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= dict(given or {})
    with stderr.open("w") as errors:
        started = subprocess.Popen(
            [PROGRAM, "dashboard", "--gateway", gateway, "--port", str(port), *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    deadline = threading.Timer(_START_S_MAX, started.kill)
    deadline.start()
    try:
        assert started.stdout is not None
        with started.stdout:
            url = ""
            for line in started.stdout:
                if found := re.search(r"Dashboard: (http://\S+)", line):
                    url = found.group(1)
                if line.startswith("Ctrl-C"):
                    return DashboardProcess(process=started, stderr=stderr, url=url)
    finally:
        deadline.cancel()
    started.wait()
    raise AssertionError(f"the dashboard did not start: {stderr.read_text()[-3000:]}")


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running gateway, its dashboard, and its database."""

    world: World
    gateway: GatewayProcess
    dashboard: DashboardProcess

    @property
    def url(self) -> str:
        return self.dashboard.url

    def api(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, timeout_s: float = 30
    ) -> httpx.Response:
        """The admin API with the admin's key: what a page did, `GET /admin/api{path}` says."""
        return http.request(
            method,
            self.gateway.base_url.removesuffix("/v1") + "/admin/api" + path,
            json=body,
            headers={"authorization": f"Bearer {key or self.world.admin_key}"},
            timeout=timeout_s,
        )

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the ledger's database holds."""
        connection = sqlite3.connect(f"file:{self.world.directory}/state/ledger.db?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()
