"""Totals by hour and endpoint with their latencies, from the rows that are there; what pruned days add up to is kept.

Written out like 0001: a migration must not change when the models do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SUMS = ("requests", "attempts", "errors", "answers", "tokens_prompt", "tokens_completion", "cost_nusd")
_BUCKETS = 96
_PAGE_ROWS = 10_000


def upgrade() -> None:
    table = op.create_table(
        "hourly_totals",
        sa.Column("hour", sa.String(13), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.Column("latency", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "endpoint", name="pk_hourly_totals"),
    )
    rows = _added_up()
    _add_gone(rows)
    found = [*rows.values()]
    for start in range(0, len(found), _PAGE_ROWS):
        op.bulk_insert(table, found[start : start + _PAGE_ROWS])


def downgrade() -> None:
    op.drop_table("hourly_totals")


def _added_up() -> dict[tuple[str, str], dict[str, Any]]:
    sqlite = op.get_bind().dialect.name == "sqlite"
    hour = (
        "substr(at, 1, 10) || 'T' || substr(at, 12, 2)"
        if sqlite
        else """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24')"""
    )
    sums = {
        "requests": "CASE WHEN number = 1 THEN 1 ELSE 0 END",
        "attempts": "1",
        "errors": "CASE WHEN status <> 200 OR error IS NOT NULL THEN 1 ELSE 0 END",
        "answers": "CASE WHEN status = 200 THEN 1 ELSE 0 END",
        "tokens_prompt": "COALESCE(tokens_input + tokens_cached_input + tokens_cache_write, 0)",
        "tokens_completion": "COALESCE(tokens_output + tokens_reasoning, 0)",
        "cost_nusd": "cost_nusd",
    }
    found = op.get_bind().execute(
        sa.text(
            f"SELECT {hour} AS hour, endpoint, {', '.join(f'SUM({sql}) AS {name}' for name, sql in sums.items())} "
            "FROM attempts GROUP BY 1, 2"
        )
    )
    latencies = _latencies(hour)
    empty = np.zeros(0, dtype="<u4")
    return {
        (row["hour"], row["endpoint"]): {
            "hour": row["hour"],
            "endpoint": row["endpoint"],
            **{name: int(row[name]) for name in _SUMS},
            "latency": np.trim_zeros(latencies.get((row["hour"], row["endpoint"]), empty), "b").tobytes(),
        }
        for row in found.mappings().all()
    }


def _latencies(hour: str) -> dict[tuple[str, str], np.ndarray]:
    """Answers by quarter of an octave, from a quarter of a millisecond on."""
    counts: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(_BUCKETS, dtype="<u4"))
    answers = sa.text(f"SELECT {hour}, endpoint, latency_ms FROM attempts WHERE status = 200")
    for key_hour, endpoint, latency_ms in op.get_bind().execute(answers.execution_options(yield_per=_PAGE_ROWS)):
        bucket = math.floor(4 * math.log2(max(latency_ms, 0.25) * 4))
        counts[key_hour, endpoint][min(bucket, _BUCKETS - 1)] += 1
    return counts


def _add_gone(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Of days whose rows were pruned or forgotten, in part or whole: the rest, at their first hour."""
    daily = {
        "requests": "SUM(requests)",
        "attempts": "SUM(attempts)",
        "errors": "SUM(errors)",
        "tokens_prompt": "SUM(tokens_input + tokens_cached_input + tokens_cache_write)",
        "tokens_completion": "SUM(tokens_output + tokens_reasoning)",
        "cost_nusd": "SUM(cost_nusd)",
    }
    there: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(daily, 0))
    for (hour, endpoint), row in rows.items():
        of = there[hour[:10], endpoint]
        for name in daily:
            of[name] += row[name]
    sums = ", ".join(f"{sql} AS {name}" for name, sql in daily.items())
    days = op.get_bind().execute(sa.text(f"SELECT day, endpoint, {sums} FROM daily_totals GROUP BY 1, 2"))
    for day in days.mappings().all():
        of = there[day["day"], day["endpoint"]]
        gone = {name: int(day[name]) - of[name] for name in daily}
        if not any(gone.values()):
            continue
        key = f"{day['day']}T00", day["endpoint"]
        empty = {"hour": key[0], "endpoint": key[1], **dict.fromkeys(_SUMS, 0), "latency": b""}
        row = rows.setdefault(key, empty)
        for name, number in gone.items():
            row[name] += number
        row["answers"] += max(gone["attempts"] - gone["errors"], 0)
