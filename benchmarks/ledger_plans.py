"""How the ledger's questions are answered with millions of rows: query plans and times, on SQLite and PostgreSQL.

`make ledger-plans ARGS='--requests 1000000 --postgres URL'`. The rows are inserted in bulk by SQL: 90 days, 6
endpoints, 40 tenants, feedback on every twentieth request, and totals as the writer keeps them. Each question is asked
as the gateway asks it; its statements are caught and explained.
Ten million requests need 10 GB (with `--vector-bytes 64`), and a quarter of an hour of one core to make.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import ledger_plans_data
from sqlalchemy import Connection, Engine, event, make_url, text

from router_gateway import __version__
from router_gateway.ledger import endpoint_rows, pace_reads, reads, retention
from router_gateway.ledger.aside import read_aside
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.days import read_days
from router_gateway.ledger.decided import read_decided
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.experiments import read_outcomes
from router_gateway.ledger.judged import read_graded
from router_gateway.ledger.lessons import Lessons
from router_gateway.ledger.newcomers import new_endpoints
from router_gateway.ledger.outcome_rows import Wanted as Exported
from router_gateway.ledger.outcome_rows import read_pages
from router_gateway.ledger.overview import read_overview
from router_gateway.ledger.reconcile import Models, reconcile
from router_gateway.ledger.reports import usage
from router_gateway.ledger.requests import Wanted, read_requests
from router_gateway.ledger.reservations import reserve, settle, sweep

_TIMES = 3
Question = Callable[[], Any]


def questions(engine: Engine, at: datetime) -> dict[str, Question]:
    """What budgets, dashboards and the learner ask, by name. `at` is the instant of the newest row."""
    day, month = at - timedelta(days=1), at - timedelta(days=30)
    some = ledger_plans_data.query_id(7)
    names = [f"endpoint-{i}" for i in range(6)]
    hours = [day + timedelta(hours=i) for i in range(25)]
    newest = Lessons(engine).newest()
    budget = Budgets(engine).set("gateway", "", "month", 10**15)

    def reserved() -> None:
        reserve(engine, [budget], some, 1, now=at, expires_at=at + timedelta(hours=1))
        settle(engine, some, 1)

    def swept() -> None:
        reserve(engine, [budget], UUID(int=5), 1, now=at, expires_at=at - timedelta(hours=1))
        sweep(engine, at)

    return {
        "budget: set aside and settle": reserved,
        "budget: sweep": swept,
        "budget: what is left": lambda: Budgets(engine).states(at),
        "spend since yesterday": lambda: reads.spend_nusd(engine, day, None),
        "spend since a month, one tenant": lambda: reads.spend_nusd(engine, month, "tenant-3"),
        "dashboard: by endpoint, last day": lambda: usage(engine, "endpoint", since=day),
        "dashboard: by endpoint, last 30 days": lambda: usage(engine, "endpoint", since=month),
        "dashboard: by day, last 30 days": lambda: usage(engine, "day", since=month),
        "dashboard: by tenant, last 30 days": lambda: usage(engine, "tenant", since=month),
        "dashboard: overview, last day by hour": lambda: read_overview(engine, day, at, "hour"),
        "dashboard: overview, 30 days by hour": lambda: read_overview(engine, month, at, "hour"),
        "dashboard: overview, 90 days by day": lambda: read_overview(engine, at - timedelta(days=90), at, "day"),
        "requests: newest": lambda: read_requests(engine, Wanted()),
        "requests: a later page": lambda: read_requests(
            engine, Wanted(until=at), before=ledger_plans_data.query_id(2_000)
        ),
        "requests: one tenant": lambda: read_requests(engine, Wanted(tenant="tenant-3", since=month)),
        "requests: by the beginning of an id": lambda: read_requests(engine, Wanted(text="0" * 29)),
        "requests: one session": lambda: read_requests(engine, Wanted(text="session-7")),
        "requests: words, which are nowhere": lambda: read_requests(engine, Wanted(text="no such words")),
        "requests: what hardly any is": lambda: read_requests(engine, Wanted(outcome="open", endpoint="endpoint-1")),
        "requests: dear and badly rated": lambda: read_requests(engine, Wanted(cost_nusd_min=1_000_000, rated="bad")),
        "requests: what else is known of one": lambda: read_aside(engine, some),
        "dashboard: endpoints of late": lambda: endpoint_rows.recent(engine, names, since=day, rows_max=1_000),
        "dashboard: how well answers were foretold": lambda: endpoint_rows.foretold(engine, rows_max=2_000),
        "pacing: spent in a day": lambda: pace_reads.spent_nusd(engine, day, at),
        "pacing: requests of a day, by hours": lambda: pace_reads.requests(engine, hours),
        "pacing: the newest decisions": lambda: pace_reads.newest_paid(engine, 256),
        "pacing: ratings since the last look": lambda: pace_reads.rated_past(engine, newest.feedback - 100, 1_000),
        "newcomers": lambda: new_endpoints(engine, [*names, "unheard-of"], outcomes_min=40, requests_max=200),
        "judges: pairs of score and truth": lambda: read_graded(engine, ("label", "verifier", "user"), rows_max=20_000),
        "audit: the newest rated decisions": lambda: read_decided(
            engine, since=month, decisions_max=4_000, rated_only=True
        ),
        "canary: its outcomes": lambda: read_outcomes(engine, "none", month, 1_000),
        "report: by endpoint, everything": lambda: usage(engine, "endpoint"),
        "forecast: days": lambda: read_days(engine, since=at - timedelta(days=60), until=at),
        "reconcile a month": lambda: reconcile(
            engine, {}, Models(by_endpoint={}), tolerance_nusd=0, first=month.date(), last=at.date()
        ),
        "one decision": lambda: reads.read_decision(engine, some),
        "a session's last endpoint": lambda: reads.last_answer(engine, "session-7"),
        "learner: newest watermark": Lessons(engine).newest,
        "export: ten pages": lambda: list(islice(read_pages(engine, Exported(since=day)), 10)),
        "prune: nothing to do": lambda: retention.prune(engine, at - timedelta(days=400), pause_s=0),
    }


@contextmanager
def caught(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """The statements that are executed meanwhile, with their parameters."""
    found: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if not many and not statement.startswith(("EXPLAIN", "PRAGMA", "BEGIN")):
            found.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", listen)


def explained(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """The plan's lines."""
    sqlite = connection.dialect.name == "sqlite"
    words = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN (FORMAT JSON) "
    rows = connection.exec_driver_sql(words + statement, parameters).all()
    if sqlite:
        return [str(row[3]) for row in rows]
    return [line for node in rows[0][0] for line in _lines(node["Plan"])]


def _lines(node: dict[str, Any]) -> Iterator[str]:
    of = [str(node[name]) for name in ("Index Name", "Relation Name") if name in node]
    yield " ".join([node["Node Type"], *of])
    for child in node.get("Plans", ()):
        yield from _lines(child)


_LARGE = ("decisions", "attempts", "feedback")


def scans(plan: list[str]) -> list[str]:
    """Lines that begin at one end of a large table or index, rather than at a place in it."""
    return [
        line
        for line in plan
        if (line.startswith("SCAN ") and line.split()[1] in _LARGE)
        or (line.startswith("Seq Scan") and line.split()[-1] in _LARGE)
    ]


def ask(engine: Engine, at: datetime, *, only: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Every question that begins like `only`: its best time, its statements' plans, and the scans among them."""
    found = {}
    for name, question in questions(engine, at).items():
        if not name.startswith(only):
            continue
        took = []
        with caught(engine) as statements:
            for _ in range(_TIMES):
                statements.clear()
                begun = time.perf_counter()
                question()
                took.append(time.perf_counter() - begun)
        with engine.connect() as connection:
            plans = {s: explained(connection, s, p) for s, p in statements}
        found[name] = {
            "first_ms": round(1e3 * took[0], 1),
            "best_ms": round(1e3 * min(took), 1),
            "scans": [line for plan in plans.values() for line in scans(plan)],
            "plans": [{"statement": " ".join(s.split())[:160], "plan": plan} for s, plan in plans.items()],
        }
        print(f"  {name}: {found[name]['first_ms']} ms, {found[name]['scans'] or 'no scan'}", file=sys.stderr)
    return found


@contextmanager
def postgres_database(url: str, *, keep: bool) -> Iterator[str]:
    """A database of its own on that server, dropped in the end unless kept; one that was kept is used again."""
    name = "router_gateway_plans"
    server = open_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        there = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}).scalar()
        if there and not keep:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        if not (there and keep):
            connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        if not keep:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@contextmanager
def sqlite_file(folder: Path | None, *, keep: bool) -> Iterator[str]:
    """A file of its own, removed in the end unless kept; one that was kept is used again."""
    if keep:
        yield f"sqlite:///{(folder or Path()).resolve()}/ledger_plans.db"
        return
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield f"sqlite:///{name}/ledger_plans.db"


def measured(url: str, requests: int, vector_bytes: int) -> dict[str, Any]:
    migrate(url)
    engine = open_engine(url)
    at = ledger_plans_data.newest(engine)
    if at is None:
        begun = time.monotonic()
        at = ledger_plans_data.fill(engine, requests, vector_bytes=vector_bytes)
        print(f"{engine.dialect.name}: {requests:,} requests in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    found = ask(engine, at)
    size = ledger_plans_data.bytes_of(engine)
    engine.dispose()
    return {"requests": requests, "vector_bytes": vector_bytes, "database_bytes": size, "questions": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--postgres", help="URL of a server on which a database may be made; default: SQLite alone.")
    parser.add_argument("--folder", type=Path, help="Where SQLite's file goes; default: the temporary folder.")
    parser.add_argument("--vector-bytes", type=int, default=640, help="Of a decision's embedding.")
    parser.add_argument("--only-postgres", action="store_true")
    parser.add_argument("--keep", action="store_true", help="Leave the ledgers, and ask those that were left again.")
    parser.add_argument("--out", type=Path, help="Results of other sizes that are there already are kept.")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    if not args.only_postgres:
        with sqlite_file(args.folder, keep=args.keep) as url:
            results["sqlite"] = measured(url, args.requests, args.vector_bytes)
    if args.postgres:
        with postgres_database(args.postgres, keep=args.keep) as url:
            results["postgresql"] = measured(url, args.requests, args.vector_bytes)
    if args.out is None:
        print(json.dumps(results, indent=1))
        return
    written = json.loads(args.out.read_text()) if args.out.exists() else {}
    written |= {"version": __version__, "python": platform.python_version(), "made": f"{datetime.now(UTC):%Y-%m-%d}"}
    for dialect, of in results.items():
        command = (
            f"make ledger-plans ARGS='--requests {args.requests} --vector-bytes {args.vector_bytes} --postgres URL'"
        )
        written.setdefault(dialect, {})[str(args.requests)] = {"command": command, **of}
    args.out.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
