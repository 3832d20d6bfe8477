"""Totals by day and calls without an outcome: what the rows add up to, in whatever order and how often they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from alembic import command
from sqlalchemy import Engine, insert, select, text

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Usage
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.engine import alembic_config, open_engine
from router_gateway.ledger.records import attempt_record, decision_record
from router_gateway.ledger.reports import sums, usage
from router_gateway.ledger.tables import attempts, daily_totals, decisions, open_calls
from router_gateway.ledger.totals import SUMS, Span, span
from tests.ledger.inserting import Kept
from tests.ledger.inserting import insert as insert_records
from tests.ledger.test_ledger import a_decision, a_query

MIDNIGHT = datetime(2030, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Dice:
    def __init__(self, seed: int) -> None:
        self._draws = np.random.default_rng(seed)

    def below(self, end: int) -> int:
        return int(self._draws.integers(end))

    def choice(self, values: Any) -> Any:
        return values[self.below(len(values))]


def rows_of_call(random: Dice, at: datetime) -> tuple[Kept, list[Kept]]:
    """A decision, and its attempts: none, one or two."""
    query = a_query(tenant=random.choice(["acme", "bob"]))
    decision = a_decision(query, at=at, endpoint="a")
    record = decision_record(
        query, decision, requested_model="auto", embedding=None, store_text=False, expected_nusd=random.below(1000)
    )
    tried = []
    for number in range(1, random.below(3) + 1):
        attempt = Attempt(
            query_id=query.id,
            number=number,
            at=at + timedelta(seconds=number),
            endpoint=random.choice("abc"),
            status=random.choice([200, 200, 503]),
            usage=random.choice([None, Usage(tokens_input=3, tokens_cached_input=2, tokens_output=5)]),
            cost_nusd=random.below(2**40),
            cost_estimated=random.below(3) == 0,
            provider_cost_nusd=random.choice([None, 7]),
            latency_ms=1.0,
            error=random.choice([None, "gone"]),
        )
        tried.append(Kept(attempt_record(attempt)))
    return Kept(record), tried


def traffic(seed: int, calls: int = 60) -> list[tuple[Kept, list[Kept]]]:
    random = Dice(seed)
    return [rows_of_call(random, MIDNIGHT + (random.below(96) - 48) * HOUR) for _ in range(calls)]


def write(engine: Engine, decided: list[Kept], tried: list[Kept]) -> None:
    with writing(engine) as connection:
        insert_records(connection, *(row.record for row in decided + tried))


def added_up(calls: list[tuple[Kept, list[Kept]]]) -> dict[tuple[str, str, str], dict[str, int]]:
    """What the totals must be, from the rows themselves."""
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for decided, tried in calls:
        for row in tried:
            key = (row["at"].date().isoformat(), row["endpoint"], decided["tenant"])
            of = found.setdefault(key, Counter(dict.fromkeys(SUMS, 0)))
            of["requests"] += row["number"] == 1
            of["attempts"] += 1
            of["errors"] += row["status"] != 200 or row["error"] is not None
            of["estimated_attempts"] += row["cost_estimated"]
            of["provider_attempts"] += row["provider_cost_nusd"] is not None
            of["cost_nusd"] += row["cost_nusd"]
            of["estimated_nusd"] += row["cost_nusd"] * row["cost_estimated"]
            of["provider_cost_nusd"] += row["provider_cost_nusd"] or 0
            for name in ("input", "cached_input", "cache_write", "output", "reasoning"):
                of[f"tokens_{name}"] += row[f"tokens_{name}"] or 0
    return {key: dict(of) for key, of in found.items()}


def in_database(engine: Engine) -> dict[tuple[str, str, str], dict[str, int]]:
    with reading(engine) as connection:
        rows = connection.execute(select(daily_totals)).mappings().all()
    found = {(r["day"], r["endpoint"], r["tenant"]): {name: r[name] for name in SUMS} for r in rows}
    return {key: of for key, of in found.items() if any(of.values())}


def open_ids(engine: Engine) -> set[Any]:
    with reading(engine) as connection:
        return set(connection.execute(select(open_calls.c.query_id)).scalars())


@pytest.mark.parametrize("order", ["as they come", "attempts first", "one by one", "all at once"])
def test_totals_are_what_the_rows_add_up_to_in_any_order_and_said_twice(engine: Engine, order: str) -> None:
    calls = traffic(seed=1)
    decided, tried = [d for d, _ in calls], [row for _, rows in calls for row in rows]
    for _ in range(2):  # the second time is a replay
        match order:
            case "as they come":
                for start in range(0, len(decided), 20):
                    write(engine, decided[start : start + 20], [])
                for start in range(0, len(tried), 15):
                    write(engine, [], tried[start : start + 15])
            case "attempts first":
                write(engine, [], tried)
                write(engine, decided, [])
            case "one by one":
                for each, rows in calls[:20]:
                    for row in reversed(rows):
                        write(engine, [], [row])
                    write(engine, [each], [])
                calls = calls[:20]
            case _:
                write(engine, decided + decided[:5], tried + tried[:5])
    assert in_database(engine) == added_up(calls)
    assert open_ids(engine) == {d["query_id"] for d, rows in calls if not rows}


def test_of_two_attempts_one_may_come_before_the_decision_and_one_with_it(engine: Engine) -> None:
    decided, tried = next((d, rows) for d, rows in traffic(seed=6) if len(rows) == 2)
    write(engine, [], tried[:1])
    write(engine, [decided], tried[1:])
    assert in_database(engine) == added_up([(decided, tried)])
    assert open_ids(engine) == set()


def test_a_call_is_open_until_its_first_attempt_and_priced_as_expected_meanwhile(engine: Engine) -> None:
    decided, tried = next((d, rows) for d, rows in traffic(seed=2) if len(rows) == 2)
    write(engine, [decided], [])
    (row,) = usage(engine, "tenant")
    assert (row.undispatched, row.undispatched_nusd) == (1, decided["expected_nusd"])
    assert (row.attempts, row.cost_nusd) == (0, 0), "never mixed with what is known"
    write(engine, [], tried[:1])
    write(engine, [], tried[1:])
    (row,) = usage(engine, "tenant")
    assert (row.undispatched, row.undispatched_nusd) == (0, 0)
    assert row.cost_nusd == sum(each["cost_nusd"] for each in tried)


def test_any_stretch_of_time_is_counted_to_the_nano_dollar(engine: Engine) -> None:
    calls = traffic(seed=3, calls=150)
    write(engine, [d for d, _ in calls], [row for _, rows in calls for row in rows])
    tenants = {d["query_id"]: d["tenant"] for d, _ in calls}
    rows = [row for _, tried in calls for row in tried]
    moments = [None, *(MIDNIGHT + hours * HOUR + timedelta(seconds=1) for hours in (-50, -47, -24, -5, 0, 24, 47))]
    moments += [MIDNIGHT, MIDNIGHT - 24 * HOUR]
    for since in moments:
        for until in moments:
            expected: Counter[str] = Counter()
            for row in rows:
                if (since is None or row["at"] >= since) and (until is None or row["at"] < until):
                    expected[tenants[row["query_id"]]] += row["cost_nusd"]
            found = {name: of["cost_nusd"] for name, of in sums(engine, "tenant", since=since, until=until).items()}
            assert {name: cost for name, cost in found.items() if cost} == dict(expected), (since, until)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, Span((None, None), ())),
        (MIDNIGHT, None, Span(("2030-03-02", None), ())),
        (MIDNIGHT + HOUR, None, Span(("2030-03-03", None), ((MIDNIGHT + HOUR, MIDNIGHT + 24 * HOUR),))),
        (None, MIDNIGHT + HOUR, Span((None, "2030-03-02"), ((MIDNIGHT, MIDNIGHT + HOUR),))),
        (MIDNIGHT, MIDNIGHT + HOUR, Span(None, ((MIDNIGHT, MIDNIGHT + HOUR),))),
        (MIDNIGHT - HOUR, MIDNIGHT + HOUR, Span(None, ((MIDNIGHT - HOUR, MIDNIGHT + HOUR),))),
        (MIDNIGHT, MIDNIGHT + 24 * HOUR, Span(("2030-03-02", "2030-03-03"), ())),
        (MIDNIGHT + HOUR, MIDNIGHT, Span(None, ((MIDNIGHT + HOUR, MIDNIGHT),))),
    ],
)
def test_whole_days_and_what_is_left_at_the_ends(since: datetime, until: datetime, expected: Span) -> None:
    assert span(since, until) == expected


@pytest.fixture
def older_engine(empty_database_url: str) -> Iterator[Engine]:
    """A database as the version before left it."""
    engine = open_engine(empty_database_url)
    command.upgrade(alembic_config(engine), "0006")
    yield engine
    engine.dispose()


def test_what_is_there_already_is_added_up_by_the_migration(older_engine: Engine) -> None:
    calls = traffic(seed=4)
    with writing(older_engine) as connection:
        for decided, tried in calls:
            old = {name: value for name, value in decided.items() if value is not None and name != "expected_nusd"}
            connection.execute(insert(decisions).values(old))
            for row in tried:
                connection.execute(insert(attempts).values(row))
        nobody = next(rows for _, rows in calls if rows)[0] | {"query_id": uuid7(), "cost_nusd": 5}
        connection.execute(insert(attempts).values(nobody))
    command.upgrade(alembic_config(older_engine), "head")
    found = in_database(older_engine)
    unknown = {key: of for key, of in found.items() if key[2] == "unknown"}
    assert [of["cost_nusd"] for of in unknown.values()] == [5]
    assert {key: of for key, of in found.items() if key not in unknown} == added_up(calls)
    assert open_ids(older_engine) == {d["query_id"] for d, rows in calls if not rows}


@pytest.mark.parametrize("statement", ["UPDATE attempts SET cost_nusd = 0", "DELETE FROM attempts"])
def test_rows_still_cannot_be_changed_in_passing(engine: Engine, statement: str) -> None:
    calls = traffic(seed=5, calls=5)
    write(engine, [d for d, _ in calls], [row for _, rows in calls for row in rows])
    with engine.connect() as connection, pytest.raises(Exception, match="append-only"):
        connection.execute(text(statement))
