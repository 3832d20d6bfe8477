"""Totals by hour and endpoint, with a histogram of latencies: kept by the writer, read by the dashboard's first page.

Changed like the totals by day: in the transaction that inserts the rows, by rows that were not there before only. A
row here stands for any number of attempts, so that a chart of a month reads a few thousand rows, however busy it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from router_gateway.core.types import Floats, Ints
from router_gateway.ledger.tables import attempts, hourly_totals

SUMS = ("requests", "attempts", "errors", "answers", "tokens_prompt", "tokens_completion", "cost_nusd")
"""What is summed, by its column of `hourly_totals`."""

BUCKETS = 96
_PER_OCTAVE = 4
_LEAST_MS = 0.25
_EDGES_MS = _LEAST_MS * 2.0 ** (np.arange(BUCKETS + 1) / _PER_OCTAVE)
"""From a quarter of a millisecond to an hour, four buckets to a doubling: a percentile is right to 19 %."""

Counts = NDArray[np.int64]
Key = tuple[str, str]
"""Hour, endpoint."""

_OF_HOURS = (
    select(hourly_totals.c.hour, hourly_totals.c.endpoint, hourly_totals.c.latency)
    .where(hourly_totals.c.hour.in_(bindparam("hours", expanding=True)))
    .order_by(hourly_totals.c.hour, hourly_totals.c.endpoint)
    .with_for_update()  # gateways that share a database add one after another
)
_NOTHING: Mapping[str, Any] = {**dict.fromkeys(SUMS, 0), "latency": b""}
_ADDING = (
    update(hourly_totals)
    .where(hourly_totals.c.hour == bindparam("of_hour"), hourly_totals.c.endpoint == bindparam("of_endpoint"))
    .values({**{name: hourly_totals.c[name] + bindparam(f"more_{name}") for name in SUMS}, "latency": bindparam("now")})
)


class _Cell:
    """What new attempts add to one row."""

    __slots__ = ("latencies_ms", "sums")

    def __init__(self) -> None:
        self.sums = dict.fromkeys(SUMS, 0)
        self.latencies_ms: list[float] = []

    def add(self, row: Mapping[Any, Any]) -> None:
        sums = self.sums
        sums["attempts"] += 1
        sums["cost_nusd"] += row["cost_nusd"]
        if row["number"] == 1:
            sums["requests"] += 1
        if row["status"] != 200 or row["error"] is not None:
            sums["errors"] += 1
        if row["status"] == 200:
            sums["answers"] += 1
            self.latencies_ms.append(row["latency_ms"])
        if row["tokens_input"] is not None:
            sums["tokens_prompt"] += row["tokens_input"] + row["tokens_cached_input"] + row["tokens_cache_write"]
            sums["tokens_completion"] += row["tokens_output"] + row["tokens_reasoning"]


def book_hours(connection: Connection, tried: Sequence[Mapping[Any, Any]]) -> None:
    """Account for rows of `attempts` that this transaction has just added."""
    cells: dict[Key, _Cell] = {}
    for row in tried:
        key = hour_of(row["at"]), row["endpoint"]
        cell = cells.get(key)
        if cell is None:
            cell = cells[key] = _Cell()
        cell.add(row)
    if not cells:
        return
    keys = sorted(cells)
    known = _known(connection, keys)
    if missing := [key for key in keys if key not in known]:
        _begin(connection, missing)
        known = _known(connection, keys)
    connection.execute(
        _ADDING,
        [
            {
                "of_hour": hour,
                "of_endpoint": endpoint,
                "now": pack(unpack(known[hour, endpoint])[0] + counted(cells[hour, endpoint].latencies_ms)),
                **{f"more_{name}": count for name, count in cells[hour, endpoint].sums.items()},
            }
            for hour, endpoint in keys
        ],
    )


def _known(connection: Connection, keys: Sequence[Key]) -> dict[Key, bytes]:
    """The histograms of these hours, locked until the transaction ends."""
    hours = sorted({hour for hour, _ in keys})
    found = connection.execute(_OF_HOURS, {"hours": hours})
    return {(hour, endpoint): latency for hour, endpoint, latency in found}


def _begin(connection: Connection, keys: Sequence[Key]) -> None:
    """Rows that count nothing yet; another gateway may have begun them at this moment."""
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(hourly_totals)
    connection.execute(
        insert.on_conflict_do_nothing(), [{"hour": hour, "endpoint": endpoint, **_NOTHING} for hour, endpoint in keys]
    )


def hour_of(instant: datetime) -> str:
    """The hour of UTC as "2030-01-31T14"."""
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return utc.isoformat()[:13]


def counted(latencies_ms: Sequence[float]) -> Counts:
    """Their histogram, int64 (BUCKETS,)."""
    counts = np.zeros(BUCKETS, dtype=np.int64)
    for latency_ms in latencies_ms:
        counts[_bucket(latency_ms)] += 1
    return counts


def _bucket(latency_ms: float) -> int:
    """Of a latency; what is not a number, or beyond both ends, is in the last or the first."""
    if not latency_ms < _EDGES_MS[-1]:
        return BUCKETS - 1
    return math.floor(_PER_OCTAVE * math.log2(max(latency_ms, _LEAST_MS) / _LEAST_MS))


def pack(counts: Counts) -> bytes:
    """As the column has it; a count that leaves 32 bits stops there."""
    return np.trim_zeros(np.minimum(counts, 2**32 - 1).astype("<u4"), "b").tobytes()


def unpack(*blobs: bytes) -> Counts:
    """int64 (N, BUCKETS) from N values of the column."""
    whole = b"".join(blob.ljust(4 * BUCKETS, b"\0") for blob in blobs)
    return np.frombuffer(whole, dtype="<u4").reshape(-1, BUCKETS).astype(np.int64)


def percentiles_ms(counts: Ints, percent: float) -> Floats:
    """The latency that `percent` of the answers do not exceed, even within its bucket; NaN without any.

    counts : int64 (N, BUCKETS); returns float64 (N,)
    """
    reached = np.cumsum(counts, axis=1)
    wanted = reached[:, -1] * (percent / 100)
    bucket = (reached < wanted[:, None]).sum(axis=1).clip(max=BUCKETS - 1)
    row = np.arange(len(counts))
    own = counts[row, bucket]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 of 0 where nothing was counted
        within = (wanted - (reached[row, bucket] - own)) / own
    found: Floats = _EDGES_MS[bucket] * (_EDGES_MS[bucket + 1] / _EDGES_MS[bucket]) ** within
    return found


def cost_nusd(connection: Connection, since: datetime, until: datetime | None) -> int:
    """Nano-dollars of all attempts of `since` <= at < `until` (timezone-aware; None = open), exactly.

    Whole hours are read from the totals, what is left at both ends from the rows.
    """
    start = _next_hour(since)
    end = None if until is None else until.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if end is not None and start >= end:
        return _rows_nusd(connection, since, until)
    whole = select(func.sum(hourly_totals.c.cost_nusd)).where(hourly_totals.c.hour >= hour_of(start))
    if end is not None:
        whole = whole.where(hourly_totals.c.hour < hour_of(end))
    total = int(connection.execute(whole).scalar() or 0) + _rows_nusd(connection, since, start)
    return total if end is None else total + _rows_nusd(connection, end, until)


def _next_hour(instant: datetime) -> datetime:
    """The beginning of the first hour of UTC that does not begin before it."""
    later = instant.astimezone(UTC) + timedelta(hours=1, microseconds=-1)
    return later.replace(minute=0, second=0, microsecond=0)


def _rows_nusd(connection: Connection, start: datetime, end: datetime | None) -> int:
    if start == end:
        return 0
    rows = select(func.sum(attempts.c.cost_nusd)).where(attempts.c.at >= start)
    return int(connection.execute(rows if end is None else rows.where(attempts.c.at < end)).scalar() or 0)


def read_hours(connection: Connection, since: datetime, until: datetime) -> Sequence[Row[Any]]:
    """Rows (hour, endpoint, SUMS, latency) of the hours from `since`'s on, before that of `until` (timezone-aware)."""
    of = hourly_totals.c
    columns = [of.hour, of.endpoint, *(of[name] for name in SUMS), of.latency]
    rows = select(*columns).where(of.hour >= hour_of(since), of.hour < hour_of(until)).order_by(of.hour)
    return connection.execute(rows).all()
