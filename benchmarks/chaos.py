"""Break what the ledger stands on, under load, and count afterwards to the nano-dollar.

`make chaos`: requests through HTTP and a real gateway process, with a PostgreSQL cluster of its own and an upstream
that keeps its own books. The database is stopped as by a crash, the gateway killed (-9) again and again, the journal's
disk filled to the last byte. Then the ledger must agree with the upstream's books and with what the clients got; a call
whose process was killed before it could write the attempt is told apart, by its id. Ends with status 1 where a promise
is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from chaos_world import Disk, Gateway, Load, Upstream, cluster, disk, free_port, lacking, upstream, whole
from sqlalchemy import func, select, text

from router_gateway import __version__
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.connections import reading
from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.reservations import sweep
from router_gateway.ledger.tables import attempts, daily_totals, decisions, open_calls, reservations

_DISK_BYTES = 256 << 20
_SETTLE_S = 3.0
_BUCKET_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outage-s", type=float, default=60.0, help="How long the database is stopped.")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--between-s", type=float, default=4.0, help="Calm before each of these.")
    parser.add_argument("--full-s", type=float, default=15.0, help="How long the journal's disk is full.")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if why := lacking():
        sys.exit(f"chaos needs a PostgreSQL of its own: {why}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o711)  # the database's user passes through
        with (
            cluster(root / "database") as database,
            disk(root / "gateway" / "state" / "journal", _DISK_BYTES) as journal,
        ):
            result = asyncio.run(chaos(args, root / "gateway", database, journal))
    given = [f"--{name.replace('_', '-')} {value}" for name, value in vars(args).items() if name != "out"]
    result = {"command": f"make chaos ARGS='{' '.join(given)}'", **result}
    written = json.dumps(result, indent=1) + "\n"
    if args.out:
        args.out.write_text(written)
    print(written, end="")
    broken = [name for name, holds in result["promises"].items() if not holds]
    sys.exit(f"broken: {', '.join(broken)}" if broken else 0)


async def chaos(args: argparse.Namespace, folder: Path, database: Any, journal: Disk) -> dict[str, Any]:
    gateway = Gateway(folder=folder, port=free_port())
    async with upstream() as books:
        gateway.configure(database.url, books.url, disk_free_bytes_min=0)
        gateway.verb("migrate")
        keys = {name: gateway.verb("keys", "create", name, "--tenant", name) for name in ("free", "capped")}
        gateway.verb("budgets", "set", "1000", "--per", "month", "--tenant", "capped")
        await asyncio.to_thread(gateway.start)
        load = Load(url=gateway.url, keys=keys, clients=args.clients)
        phases: dict[str, tuple[float, float]] = {}
        async with load.running():
            await asyncio.sleep(args.between_s)
            begun_s = load.now_s()
            await asyncio.to_thread(database.stop)
            await asyncio.sleep(args.outage_s)
            await asyncio.to_thread(database.start)
            phases["database stopped"] = begun_s, load.now_s()
            for _ in range(args.kills):
                await asyncio.sleep(args.between_s)
                begun_s = load.now_s()
                await asyncio.to_thread(gateway.kill)
                await asyncio.to_thread(gateway.start)
                phases[f"killed {gateway.starts - 1}"] = begun_s, load.now_s()
            await asyncio.sleep(args.between_s)
            begun_s = load.now_s()
            with journal.full(gateway):
                await asyncio.sleep(args.full_s)
            phases["disk full"] = begun_s, load.now_s()
            await asyncio.sleep(args.between_s)
            lasted_s = load.now_s()
        await asyncio.sleep(_SETTLE_S)  # the budget keeper writes settlements beside the requests
        code = await asyncio.to_thread(gateway.stop)
        found = await asyncio.to_thread(count, database.url, books, load)
        left = sorted(path.name for path in journal.folder.iterdir())
        promises = judge(found, load, phases, lasted_s) | {
            "the gateway ended well, and its journal is empty": code == 0 and left == [],
            "no traceback": "Traceback" not in gateway.errors(),
        }
        return {
            "version": __version__,
            "python": platform.python_version(),
            "database": found.pop("database"),
            "disk": "a tmpfs filled to the last byte" if journal.mounted else "a bound on the size of files",
            "clients": args.clients,
            "seconds": round(lasted_s, 1),
            "kills": args.kills,
            "outage_s": args.outage_s,
            "phases": {name: seen(load, *times) for name, times in phases.items()},
            "counted": found,
            "promises": promises,
        }


def count(url: str, books: Upstream, load: Load) -> dict[str, Any]:
    """Both sides' books, after everything is over."""
    engine = open_engine(url)
    with reading(engine) as connection:
        rows = connection.execute(select(attempts)).mappings().all()
        tenants = {
            str(r.query_id): r.tenant for r in connection.execute(select(decisions.c.query_id, decisions.c.tenant))
        }
        open_ids = {str(query_id) for query_id in connection.execute(select(open_calls.c.query_id)).scalars()}
        totals_nusd = int(connection.execute(select(func.sum(daily_totals.c.cost_nusd))).scalar() or 0)
        server = connection.execute(text("SHOW server_version")).scalar()
    by_id = {str(row["query_id"]): row for row in rows}
    answered = {a.decision_id for a in load.answers if a.decision_id}
    cut_off = books.asked_nusd.keys() - by_id.keys()
    spent = Counter[str]()
    for query_id, row in by_id.items():
        spent[tenants[query_id]] += row["cost_nusd"]
    budget = _budget(engine)
    engine.dispose()
    return {
        "database": f"PostgreSQL {server}",
        "requests": len(load.answers),
        "answered whole": len(answered),
        "decisions": len(tenants),
        "attempts": len(rows),
        "asked upstream": len(books.asked_nusd),
        "asked upstream twice": books.twice,
        "upstream_nusd": sum(books.asked_nusd[i] for i in by_id.keys() & books.asked_nusd.keys()),
        "attempts_nusd": sum(row["cost_nusd"] for row in rows),
        "daily_totals_nusd": totals_nusd,
        "answered without an attempt": len(answered - by_id.keys()),
        "attempts that differ from the upstream": sum(
            row["cost_nusd"] != books.asked_nusd.get(query_id) for query_id, row in by_id.items()
        ),
        "attempts not asked upstream": len(by_id.keys() - books.asked_nusd.keys()),
        "calls with two attempts": len(rows) - len(by_id),
        "cut off: asked upstream, no attempt": len(cut_off),
        "cut off, in nano-dollars of the upstream": sum(books.asked_nusd[i] for i in cut_off),
        "cut off, and not among the open calls": len(cut_off - open_ids),
        "open calls": len(open_ids),
        "capped tenant": {"attempts_nusd": spent["capped"], **budget},
    }


def _budget(engine: Any) -> dict[str, int]:
    """The budget's sums: as they are, and once what killed gateways had set aside has expired."""
    now = datetime.now(UTC)
    (before,) = Budgets(engine).states(now)
    with reading(engine) as connection:
        still = select(func.count(reservations.c.query_id.distinct())).where(reservations.c.settled_nusd.is_(None))
        held = int(connection.execute(still).scalar_one())
        mine = select(reservations.c.query_id)
        expected = select(func.sum(open_calls.c.expected_nusd)).where(open_calls.c.query_id.in_(mine))
        expected_nusd = int(connection.execute(expected).scalar() or 0)
    while sweep(engine, now + timedelta(days=1)):
        pass
    (after,) = Budgets(engine).states(now)
    return {
        "spent_nusd": before.spent_nusd,
        "reserved_nusd": before.reserved_nusd,
        "reservations_open": held,
        "open_calls_expected_nusd": expected_nusd,
        "spent_after_expiry_nusd": after.spent_nusd,
        "reserved_after_expiry_nusd": after.reserved_nusd,
    }


def judge(
    found: dict[str, Any], load: Load, phases: dict[str, tuple[float, float]], lasted_s: float
) -> dict[str, bool]:
    """What is promised, and whether it held."""
    capped = found["capped tenant"]
    begun_s, ended_s = phases["database stopped"]
    full_s, room_s = phases["disk full"]
    refused = Counter(a.status for a in load.answers if full_s + 1 < a.at_s < room_s)
    return {
        "no settled row is lost: every answer that a client got whole has its attempt": (
            found["answered without an attempt"] == 0
        ),
        "no row is settled twice": found["calls with two attempts"] == 0 and found["asked upstream twice"] == 0,
        "attempts and the upstream agree to the nano-dollar, call by call": (
            found["attempts_nusd"] == found["upstream_nusd"]
            and found["attempts that differ from the upstream"] == 0
            and found["attempts not asked upstream"] == 0
        ),
        "every call that a kill cut off is among the open calls": found["cut off, and not among the open calls"] == 0,
        "daily totals are the sum of the attempts": found["daily_totals_nusd"] == found["attempts_nusd"],
        "the budget has every attempt once, and cut-off calls as expected": (
            capped["spent_after_expiry_nusd"] == capped["attempts_nusd"] + capped["open_calls_expected_nusd"]
            and capped["reserved_after_expiry_nusd"] == 0
        ),
        "requests kept flowing while the database was away": flows(load, "free", begun_s + 1, ended_s),
        "a full disk refused paid calls with 503": refused[503] > 0 and set(refused) <= {200, 503},
        "after everything both tenants are served": all(
            whole(load.answers, key, room_s + 1, lasted_s) for key in load.keys
        ),
    }


def flows(load: Load, key: str, since_s: float, until_s: float) -> bool:
    """Whether there was an answer in each five seconds."""
    starts = [since_s + _BUCKET_S * n for n in range(int((until_s - since_s) / _BUCKET_S))] or [since_s]
    return all(whole(load.answers, key, start, min(start + _BUCKET_S, until_s)) for start in starts)


def seen(load: Load, since_s: float, until_s: float) -> dict[str, Any]:
    """What clients saw in that time, by key and status; 0 is a broken connection."""
    within: Sequence[Any] = [a for a in load.answers if since_s <= a.at_s < until_s]
    statuses = {key: Counter(str(a.status) for a in within if a.key == key) for key in load.keys}
    return {"seconds": round(until_s - since_s, 1), **{key: dict(sorted(s.items())) for key, s in statuses.items()}}


if __name__ == "__main__":
    main()
