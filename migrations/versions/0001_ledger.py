"""The ledger: decisions, attempts, feedback and the small registers beside them.

Written out rather than derived from `router_gateway.ledger.tables`: a migration must not change when
the models do. A test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)
_APPEND_ONLY = ("decisions", "attempts", "feedback")


def upgrade() -> None:
    _decisions()
    _attempts()
    _feedback()
    _registers()
    _keys()
    _forbid_changes()


def downgrade() -> None:
    for table in (
        "api_key_revocations",
        "api_keys",
        "settings",
        "snapshots",
        "comparisons",
        "feedback",
        "attempts",
        "decisions",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION router_gateway_append_only()")


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("session", sa.String()),
        sa.Column("requested_model", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("endpoints", sa.JSON(), nullable=False),
        sa.Column("quality", sa.JSON(), nullable=False),
        sa.Column("stddev", sa.JSON(), nullable=False),
        sa.Column("cost_usd", sa.JSON(), nullable=False),
        sa.Column("probability", sa.JSON(), nullable=False),
        sa.Column("eligible", sa.JSON(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("worth_usd", sa.Double(), nullable=False),
        sa.Column("embedding_space", sa.String(), nullable=False),
        sa.Column("embedding", sa.LargeBinary()),
        sa.Column("tokens_input", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("text", sa.String()),
        sa.PrimaryKeyConstraint("query_id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_at", "decisions", ["at"])
    op.create_index("ix_decisions_tenant_at", "decisions", ["tenant", "at"])
    op.create_index("ix_decisions_session_at", "decisions", ["session", "at"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("tokens_input", sa.BigInteger()),
        sa.Column("tokens_cached_input", sa.BigInteger()),
        sa.Column("tokens_cache_write", sa.BigInteger()),
        sa.Column("tokens_output", sa.BigInteger()),
        sa.Column("tokens_reasoning", sa.BigInteger()),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=False),
        sa.Column("cost_estimated", sa.Boolean(), nullable=False),
        sa.Column("first_byte_ms", sa.Double()),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("error", sa.String()),
        sa.PrimaryKeyConstraint("query_id", "number", name="pk_attempts"),
        sa.CheckConstraint("number >= 1", name=op.f("ck_attempts_number")),
    )
    op.create_index("ix_attempts_endpoint_at", "attempts", ["endpoint", "at"])
    op.create_index("ix_attempts_at", "attempts", ["at"])


def _feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("quality", sa.Double(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("turn", sa.Integer()),
        sa.Column("comment", sa.String()),
        sa.PrimaryKeyConstraint("seq", name="pk_feedback"),
        sa.UniqueConstraint("id", name="uq_feedback_id"),
        sa.CheckConstraint("quality >= 0 AND quality <= 1", name=op.f("ck_feedback_quality")),
    )
    op.create_index("ix_feedback_query_id", "feedback", ["query_id"])
    op.create_index("ix_feedback_at", "feedback", ["at"])


def _registers() -> None:
    op.create_table(
        "comparisons",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("better", sa.String(), nullable=False),
        sa.Column("worse", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_comparisons"),
        sa.UniqueConstraint("id", name="uq_comparisons_id"),
    )
    op.create_index("ix_comparisons_query_id", "comparisons", ["query_id"])
    op.create_table(
        "snapshots",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("embedding_space", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_snapshots"),
        sa.UniqueConstraint("name", "version", name="uq_snapshots_name_version"),
    )
    op.create_table(
        "settings",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_settings"),
    )
    op.create_index("ix_settings_key", "settings", ["key"])


def _keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("allows", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )
    op.create_table(
        "api_key_revocations",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_key_revocations"),
    )


def _forbid_changes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION router_gateway_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$"
        )
        for table in _APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION router_gateway_append_only()"
            )
        return
    for table in _APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
