"""The ledger's questions enter every large table by an index: on a small ledger of the benchmark's own making."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from sqlalchemy import make_url

from router_gateway.ledger.engine import migrate, open_engine
from tests.databases import postgres_database
from tests.ledger.conftest import postgres_server  # noqa: F401 - a fixture

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BOUNDED = {
    "report: by endpoint, everything",
    "prune: nothing to do",
    "requests: newest",
    "requests: words, which are nowhere",
    "requests: what hardly any is",
    "requests: dear and badly rated",
    "pacing: the newest decisions",
    "dashboard: how well answers were foretold",
}
"""These begin at the newest, or the oldest, end of an index, and stop at their limit."""
BY_ROWID = "SCAN feedback"
"""The table itself is in the order of `seq`, so its newest end is at hand without an index."""


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("ledger_plans")


def test_no_budget_and_no_dashboard_reads_a_whole_table(plans, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    migrate(url)
    engine = open_engine(url)
    at = plans.ledger_plans_data.fill(engine, 3_000)
    asked = plans.ask(engine, at)
    engine.dispose()
    assert sum(name.startswith(("budget", "dashboard", "spend")) for name in asked) >= 9
    assert all(of["plans"] for of in asked.values()), "the statements were caught"
    assert {name: of["scans"] for name, of in asked.items() if of["scans"] and name not in BOUNDED} == {}
    unindexed = [
        line
        for name in BOUNDED
        for line in asked[name]["scans"]
        if "USING INDEX" not in line and "USING COVERING INDEX" not in line and line != BY_ROWID
    ]
    assert unindexed == []


@pytest.mark.postgres
def test_postgresql_finds_requests_by_an_index(plans, postgres_server: str) -> None:  # noqa: F811
    with postgres_database(postgres_server) as database:
        # of so few rows a scan would be cheaper: where one remains, no index leads
        url = make_url(database.migrated()).update_query_dict({"options": "-c enable_seqscan=off"})
        engine = open_engine(url.render_as_string(hide_password=False))
        at = plans.ledger_plans_data.fill(engine, 5_000)
        asked = plans.ask(engine, at, only=("requests", "dashboard: overview"))
        engine.dispose()
    assert len(asked) >= 10
    assert {name: of["scans"] for name, of in asked.items() if of["scans"]} == {}


def test_a_scan_is_noticed(plans) -> None:
    assert plans.scans(["SCAN attempts", "SEARCH decisions USING INDEX ix (at>?)", "Seq Scan feedback"]) == [
        "SCAN attempts",
        "Seq Scan feedback",
    ]
