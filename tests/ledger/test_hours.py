"""Totals by hour: what the rows add up to, in whatever order and how often they come, latencies included."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from alembic import command
from sqlalchemy import Engine, func, insert, select

from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.engine import alembic_config, open_engine
from router_gateway.ledger.hours import BUCKETS, SUMS, cost_nusd, counted, pack, percentiles_ms, unpack
from router_gateway.ledger.tables import attempts, daily_totals, decisions, hourly_totals
from tests.ledger.inserting import Kept
from tests.ledger.test_totals import MIDNIGHT, traffic, write

Cells = dict[tuple[str, str], dict[str, Any]]


def added_up(calls: list[tuple[Kept, list[Kept]]]) -> Cells:
    """What the totals must be, from the rows themselves."""
    found: dict[tuple[str, str], Counter[str]] = {}
    latencies: dict[tuple[str, str], list[float]] = {}
    for _, tried in calls:
        for row in tried:
            key = (row["at"].isoformat()[:13], row["endpoint"])
            of = found.setdefault(key, Counter(dict.fromkeys(SUMS, 0)))
            of["requests"] += row["number"] == 1
            of["attempts"] += 1
            of["errors"] += row["status"] != 200 or row["error"] is not None
            of["answers"] += row["status"] == 200
            of["cost_nusd"] += row["cost_nusd"]
            of["tokens_prompt"] += sum(row[f"tokens_{kind}"] or 0 for kind in ("input", "cached_input", "cache_write"))
            of["tokens_completion"] += sum(row[f"tokens_{kind}"] or 0 for kind in ("output", "reasoning"))
            latencies.setdefault(key, []).extend([row["latency_ms"]] * (row["status"] == 200))
    return {key: {**of, "latency": pack(counted(latencies[key]))} for key, of in found.items()}


def in_database(engine: Engine) -> Cells:
    with reading(engine) as connection:
        rows = connection.execute(select(hourly_totals)).mappings().all()
    return {(r["hour"], r["endpoint"]): {name: r[name] for name in (*SUMS, "latency")} for r in rows}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_hours_are_what_the_rows_add_up_to_in_any_order_and_said_twice(engine: Engine, batch: int) -> None:
    calls = traffic(seed=1, calls=20 if batch == 1 else 60)
    decided, tried = [d for d, _ in calls], [row for _, rows in calls for row in rows]
    for _ in range(2):  # the second time is a replay
        for start in range(0, len(tried), batch):
            write(engine, [], tried[start : start + batch][::-1])
        write(engine, decided, tried[:3])
    assert in_database(engine) == added_up(calls)


def test_gateways_that_write_at_once_lose_nothing(engine: Engine) -> None:
    halves = [traffic(seed=7), traffic(seed=8)]
    together = threading.Barrier(2)

    def work(calls: list[tuple[Kept, list[Kept]]]) -> None:
        together.wait(timeout=10)
        for _, rows in calls:
            write(engine, [], rows)

    threads = [threading.Thread(target=work, args=(calls,)) for calls in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert in_database(engine) == added_up(halves[0] + halves[1])


@pytest.fixture
def older_engine(empty_database_url: str) -> Iterator[Engine]:
    """A database as the version before left it."""
    engine = open_engine(empty_database_url)
    command.upgrade(alembic_config(engine), "0010")
    yield engine
    engine.dispose()


def test_the_migration_adds_up_what_is_there_and_keeps_what_is_gone(older_engine: Engine) -> None:
    calls = traffic(seed=4)
    gone = {column.name: 0 for column in daily_totals.columns} | {"endpoint": "a", "tenant": "acme", "cost_nusd": 5}
    gone |= {"requests": 2, "attempts": 3, "errors": 1, "tokens_input": 7, "tokens_reasoning": 9}
    with writing(older_engine) as connection:
        for decided, tried in calls:
            old = {name: value for name, value in decided.items() if value is not None}
            connection.execute(insert(decisions).values(old))
            for row in tried:
                connection.execute(insert(attempts).values(row))
        days = connection.execute(
            select(attempts.c.at, attempts.c.endpoint, attempts.c.cost_nusd).order_by(attempts.c.at)
        ).all()
        long_ago = {**gone, "day": "2029-01-01"}
        connection.execute(insert(daily_totals).values(long_ago))
        first_day = days[0].at.date().isoformat()
        spent = sum(row.cost_nusd for row in days if row.at.date().isoformat() == first_day and row.endpoint == "a")
        partly = {**gone, "day": first_day, "cost_nusd": spent + 11}
        # the other sums of that day are what its rows add up to
        of_day = [of for (hour, name), of in added_up(calls).items() if hour[:10] == first_day and name == "a"]
        partly |= {name: sum(of[name] for of in of_day) for name in ("requests", "attempts", "errors")}
        partly |= {"tokens_input": sum(of["tokens_prompt"] for of in of_day)}
        partly |= {"tokens_output": sum(of["tokens_completion"] for of in of_day), "tokens_reasoning": 0}
        connection.execute(insert(daily_totals).values(partly))
    command.upgrade(alembic_config(older_engine), "head")
    found = in_database(older_engine)
    kept = {"requests": 2, "attempts": 3, "errors": 1, "answers": 2, "tokens_prompt": 7, "tokens_completion": 9}
    assert found.pop(("2029-01-01T00", "a")) == {**kept, "cost_nusd": 5, "latency": b""}
    expected = added_up(calls)
    rest = expected.setdefault((f"{first_day}T00", "a"), {**dict.fromkeys(SUMS, 0), "latency": b""})
    rest["cost_nusd"] += 11
    daily_less = {key: of for key, of in found.items() if key in expected}
    assert daily_less == expected


def test_hours_of_a_day_add_up_to_the_day(engine: Engine) -> None:
    calls = traffic(seed=3, calls=100)
    write(engine, [d for d, _ in calls], [row for _, rows in calls for row in rows])
    with reading(engine) as connection:
        of_days = select(daily_totals.c.day, func.sum(daily_totals.c.cost_nusd), func.sum(daily_totals.c.errors))
        day = func.substr(hourly_totals.c.hour, 1, 10).label("day")
        of_hours = select(day, func.sum(hourly_totals.c.cost_nusd), func.sum(hourly_totals.c.errors))
        days = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(of_days.group_by(daily_totals.c.day))}
        hours = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(of_hours.group_by(day))}
    assert days == hours
    assert MIDNIGHT.date().isoformat() in days


def test_the_cost_of_any_time_is_that_of_its_rows(engine: Engine) -> None:
    calls = traffic(seed=8, calls=200)
    tries = [attempt for _, own in calls for attempt in own]
    write(engine, [decision for decision, _ in calls], tries)
    rng = np.random.default_rng(8)
    instants = [MIDNIGHT + timedelta(minutes=float(m)) for m in rng.uniform(-30 * 60, 30 * 60, 30)]
    instants += [MIDNIGHT, MIDNIGHT + timedelta(hours=1), *(row["at"] for row in tries[:3])]
    with reading(engine) as connection:
        for since in instants:
            for until in (*instants, None):
                mine = [row for row in tries if since <= row["at"] and (until is None or row["at"] < until)]
                assert cost_nusd(connection, since, until) == sum(row["cost_nusd"] for row in mine), (since, until)


def test_a_percentile_is_within_a_bucket_of_the_true_one() -> None:
    latencies_ms = np.random.default_rng(0).lognormal(mean=6.0, sigma=1.2, size=20_000)
    counts = counted(latencies_ms.tolist())
    for percent in (5, 50, 95, 99):
        (found,) = percentiles_ms(counts[None], percent)
        assert found == pytest.approx(float(np.percentile(latencies_ms, percent)), rel=0.04), percent
    both = percentiles_ms(np.stack([counted([]), counts]), 50)
    assert np.isnan(both[0])
    assert both[1] == percentiles_ms(counts[None], 50)[0]


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, 0.1, 1e9, float("inf"), float("nan")])
def test_a_latency_beyond_the_buckets_is_counted_at_their_end(latency_ms: float) -> None:
    counts = counted([latency_ms])
    assert counts.sum() == counts[0] + counts[-1] == 1
    assert (unpack(pack(counts))[0] == counts).all()
    assert len(counts) == BUCKETS
