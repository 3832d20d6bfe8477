"""Totals by day, calls without an outcome, and a door through the append-only triggers for retention.

Written out like 0001: a migration must not change when the models do.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("decisions", "attempts", "feedback")
_COUNTS = ("requests", "attempts", "errors", "estimated_attempts", "provider_attempts")
_TOKENS = ("tokens_input", "tokens_cached_input", "tokens_cache_write", "tokens_output", "tokens_reasoning")
_MONEY = ("cost_nusd", "estimated_nusd", "provider_cost_nusd")


def upgrade() -> None:
    op.add_column("decisions", sa.Column("expected_nusd", sa.BigInteger()))
    op.create_table(
        "daily_totals",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in (*_COUNTS, *_TOKENS, *_MONEY)),
        sa.PrimaryKeyConstraint("day", "endpoint", "tenant", name="pk_daily_totals"),
    )
    op.create_table(
        "open_calls",
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("expected_nusd", sa.BigInteger()),
        sa.PrimaryKeyConstraint("query_id", name="pk_open_calls"),
    )
    op.create_index("ix_open_calls_at", "open_calls", ["at"])
    op.create_table(
        "retention",
        sa.Column("job", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job", name="pk_retention"),
    )
    _add_up()
    _allow(retention=True)


def downgrade() -> None:
    _allow(retention=False)
    op.drop_table("retention")
    op.drop_table("open_calls")
    op.drop_table("daily_totals")
    op.drop_column("decisions", "expected_nusd")


def _add_up() -> None:
    """What is there already."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    day = "substr(a.at, 1, 10)" if sqlite else "to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    sums = {
        "requests": "CASE WHEN a.number = 1 THEN 1 ELSE 0 END",
        "attempts": "1",
        "errors": "CASE WHEN a.status <> 200 OR a.error IS NOT NULL THEN 1 ELSE 0 END",
        "estimated_attempts": "CASE WHEN a.cost_estimated THEN 1 ELSE 0 END",
        "provider_attempts": "CASE WHEN a.provider_cost_nusd IS NULL THEN 0 ELSE 1 END",
        **{name: f"COALESCE(a.{name}, 0)" for name in _TOKENS},
        "cost_nusd": "a.cost_nusd",
        "estimated_nusd": "CASE WHEN a.cost_estimated THEN a.cost_nusd ELSE 0 END",
        "provider_cost_nusd": "COALESCE(a.provider_cost_nusd, 0)",
    }
    op.execute(
        f"INSERT INTO daily_totals (day, endpoint, tenant, {', '.join(sums)}) "
        f"SELECT {day}, a.endpoint, COALESCE(d.tenant, 'unknown'), {', '.join(f'SUM({s})' for s in sums.values())} "
        f"FROM attempts a LEFT JOIN decisions d ON d.query_id = a.query_id GROUP BY 1, 2, 3"
    )
    op.execute(
        "INSERT INTO open_calls (query_id, at, endpoint, tenant) "
        "SELECT query_id, at, endpoint, tenant FROM decisions d "
        "WHERE NOT EXISTS (SELECT 1 FROM attempts a WHERE a.query_id = d.query_id)"
    )


def _allow(*, retention: bool) -> None:
    """Let the transaction that has a row in `retention` change rows; nobody else ever sees that row."""
    if op.get_bind().dialect.name == "postgresql":
        door = "IF TG_OP <> 'TRUNCATE' AND EXISTS (SELECT 1 FROM retention) THEN RETURN NULL; END IF; "
        op.execute(
            "CREATE OR REPLACE FUNCTION router_gateway_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {door if retention else ''}"
            "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$"
        )
        return
    door = "WHEN NOT EXISTS (SELECT 1 FROM retention) " if retention else ""
    for table in _APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            op.execute(f"DROP TRIGGER {table}_no_{change.lower()}")
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} {door}"
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
