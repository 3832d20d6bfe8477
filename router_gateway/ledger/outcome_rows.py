"""The ledger as a table of outcomes: one row per decision and attempt, with what off-policy estimates need.

The columns are described in datasets/README.md. Rows are read a page at a time, so that a ledger of any length is
exported in bounded memory. What can name a person or open a door stays behind: tenants, keys, comments and upstream
errors; a session is a digest. Prompts leave only where the ledger stores them.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Select, or_, select

from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.core.money import nusd_to_usd
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import stands
from router_gateway.ledger.records import unpack
from router_gateway.ledger.tables import attempts, decisions, feedback

Row = dict[str, Any]

PAGE_DECISIONS = 400
"""Decisions in memory at a time; below SQLite's oldest bound on the parameters of a statement."""

COLUMNS = {
    "dataset": "text", "task": "text", "sample_id": "text", "prompt": "text", "model": "text", "score": "number",
    "cost_usd": "number", "input_tokens": "count", "output_tokens": "count", "latency_ms": "number",
    "decision_id": "text", "at": "text", "attempt": "count", "status": "count", "session": "text", "policy": "text",
    "rule": "text", "worth_usd": "number", "drawn": "text", "propensity": "number", "candidates": "texts",
    "probability": "numbers", "expected_cost_usd": "numbers", "request_tokens": "count", "space": "text",
    "vector": "numbers", "arm": "text", "experiment": "text", "arm_share": "number",
}  # fmt: skip
"""Columns of an export in their order, with their kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which decisions: `since` <= at < `until` (timezone-aware, None = open; `until` is at most now).

    policy : a name ("knn": all its versions) or a label ("knn@3"); tenant : one tenant's. None: everybody's
    """

    since: datetime | None = None
    until: datetime | None = None
    policy: str | None = None
    tenant: str | None = None


def read_pages(engine: Engine, wanted: Wanted) -> Iterator[list[Row]]:
    """The rows, oldest decision first, in pages: each has all attempts of its decisions."""
    until = min(wanted.until or datetime.now(UTC), datetime.now(UTC))
    after: tuple[datetime, Any] | None = None
    while True:
        with reading(engine) as connection:
            page = connection.execute(_page(wanted, until, after)).mappings().all()
            if not page:
                return
            ids = [decision["query_id"] for decision in page]
            tried, said = _by_decision(connection, attempts, ids), _by_decision(connection, feedback, ids)
        rows = [row for own in page for row in _rows(own, tried[own["query_id"]], said[own["query_id"]])]
        if rows:
            yield rows
        after = page[-1]["at"], page[-1]["query_id"]


def _page(wanted: Wanted, until: datetime, after: tuple[datetime, Any] | None) -> Select[Any]:
    conditions = [decisions.c.at < until]
    if wanted.policy is not None:
        versions = decisions.c.policy.startswith(f"{wanted.policy}@", autoescape=True)
        conditions.append(or_(decisions.c.policy == wanted.policy, versions))
    # judges' calls and second answers are the gateway's own: nobody's request was routed there
    tenant = wanted.tenant
    conditions.append(decisions.c.tenant != JUDGING_TENANT if tenant is None else decisions.c.tenant == tenant)
    if after is not None:  # where the last page ended: cheap at any depth, unlike an offset
        at, query_id = after
        conditions += [decisions.c.at >= at, or_(decisions.c.at > at, decisions.c.query_id > query_id)]
    elif wanted.since is not None:  # never both: SQLite would begin at the first of two bounds
        conditions.append(decisions.c.at >= wanted.since)
    ordered = select(decisions).where(*conditions).order_by(decisions.c.at, decisions.c.query_id)
    return ordered.limit(PAGE_DECISIONS)


def _by_decision(connection: Any, table: Any, ids: Sequence[Any]) -> Mapping[Any, list[Mapping[Any, Any]]]:
    order = table.c.number if table is attempts else table.c.seq
    found: dict[Any, list[Mapping[Any, Any]]] = defaultdict(list)
    rows = select(table).where(table.c.query_id.in_(ids)).order_by(order)
    if table is feedback:
        rows = rows.where(stands(feedback.c.id))
    for row in connection.execute(rows).mappings():
        found[row["query_id"]].append(row)
    return found


def _rows(decision: Mapping[Any, Any], tried: Sequence[Any], said: Sequence[Any]) -> Iterator[Row]:
    answering = max((a["number"] for a in tried if a["status"] == 200), default=None)
    latest = {(said_by["source"], said_by["turn"]): said_by["quality"] for said_by in said}  # a second word corrects
    quality = sum(latest.values()) / len(latest) if latest else None
    eligible = [i for i, can in enumerate(decision["eligible"]) if can]
    common = {
        "dataset": "ledger",
        "task": decision["requested_model"],
        "sample_id": str(decision["query_id"]),
        "prompt": decision["text"],
        "decision_id": str(decision["query_id"]),
        "at": decision["at"].isoformat(),
        "session": pseudonym(decision["session"]),
        "policy": decision["policy"],
        "rule": decision["rule"],
        "worth_usd": decision["worth_usd"],
        "arm": decision["candidate"],
        "experiment": decision["experiment"],
        "arm_share": decision["arm_share"],
        "drawn": decision["endpoint"],
        "candidates": [decision["endpoints"][i] for i in eligible],
        "probability": _numbers(decision["probability"], eligible),
        "expected_cost_usd": _numbers(decision["cost_usd"], eligible),
        "request_tokens": decision["tokens_input"],
        "space": decision["embedding_space"],
        "vector": None if decision["embedding"] is None else unpack(decision["embedding"]).tolist(),
    }
    for attempt in tried:
        own = {
            "model": attempt["endpoint"],
            "score": quality if attempt["number"] == answering else None,
            "cost_usd": nusd_to_usd(attempt["cost_nusd"]),
            "input_tokens": _total(attempt, "tokens_input", "tokens_cached_input", "tokens_cache_write"),
            "output_tokens": _total(attempt, "tokens_output", "tokens_reasoning"),
            "latency_ms": attempt["latency_ms"],
            "attempt": attempt["number"],
            "status": attempt["status"],
            "propensity": decision["propensity"] if attempt["endpoint"] == decision["endpoint"] else 0.0,
        }
        yield {name: (own if name in own else common)[name] for name in COLUMNS}


def _total(attempt: Mapping[Any, Any], *names: str) -> int | None:
    return None if attempt["tokens_input"] is None else sum(attempt[name] for name in names)


def _numbers(values: Sequence[Any], columns: Sequence[int]) -> list[float | None]:
    """Of the candidates; a decision that was not scored has none. What is not finite (kept as text) is unknown."""
    numbers = [float(values[i]) for i in columns] if values else []
    return [number if math.isfinite(number) else None for number in numbers]


def pseudonym(session: str | None) -> str | None:
    """A digest of a session's name; None stays None."""
    return None if session is None else hashlib.blake2b(session.encode(), digest_size=12, person=b"export").hexdigest()
