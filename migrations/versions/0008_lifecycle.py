"""Candidates, their transitions and shadow decisions; which candidate decided, and in whose experiment a row counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OF_A_DECISION = ("candidate", "experiment", "arm_share", "arm_unit")
_IN_AN_EXPERIMENT = sa.text("experiment IS NOT NULL")


def upgrade() -> None:
    for name in _OF_A_DECISION:
        op.add_column("decisions", sa.Column(name, sa.Double() if name == "arm_share" else sa.String()))
    op.create_index(
        "ix_decisions_experiment",
        "decisions",
        ["experiment", "at"],
        sqlite_where=_IN_AN_EXPERIMENT,
        postgresql_where=_IN_AN_EXPERIMENT,
    )
    op.create_table(
        "candidates",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("snapshot", sa.String()),
        sa.Column("base", sa.String()),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("margins", sa.JSON(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_candidates"),
    )
    op.create_table(
        "lifecycle_transitions",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("share", sa.Double()),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("evidence", sa.JSON()),
        sa.PrimaryKeyConstraint("seq", name="pk_lifecycle_transitions"),
        sa.UniqueConstraint("policy", "number", name="uq_lifecycle_transitions_policy_number"),
    )
    op.create_index("ix_lifecycle_transitions_candidate", "lifecycle_transitions", ["candidate"])
    op.create_table(
        "shadow_decisions",
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String()),
        sa.Column("propensity", sa.Double()),
        sa.Column("quality", sa.Double()),
        sa.Column("cost_usd", sa.Double()),
        sa.Column("probability_of_served", sa.Double()),
        sa.Column("served", sa.String(), nullable=False),
        sa.Column("served_quality", sa.Double()),
        sa.Column("served_cost_usd", sa.Double()),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("error", sa.String()),
        sa.PrimaryKeyConstraint("candidate", "query_id", name="pk_shadow_decisions"),
    )


def downgrade() -> None:
    for table in ("shadow_decisions", "lifecycle_transitions", "candidates"):
        op.drop_table(table)
    op.drop_index("ix_decisions_experiment", "decisions")
    for name in _OF_A_DECISION:
        op.drop_column("decisions", name)
