"""Budgets, what is left of them, and what calls under way have reserved.

Written out like 0001: a migration must not change when the models do.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("limit_nusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
        sa.UniqueConstraint("scope", "subject", "period", name="uq_budgets_scope_subject_period"),
        sa.CheckConstraint("limit_nusd >= 0", name=op.f("ck_budgets_limit_nusd")),
    )
    op.create_table(
        "budget_windows",
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", _INSTANT, nullable=False),
        sa.Column("reserved_nusd", sa.BigInteger(), nullable=False),
        sa.Column("spent_nusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "starts_at", name="pk_budget_windows"),
    )
    op.create_index("ix_budget_windows_starts_at", "budget_windows", ["starts_at"])
    op.create_table(
        "reservations",
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", _INSTANT, nullable=False),
        sa.Column("amount_nusd", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.Column("settled_nusd", sa.BigInteger()),
        sa.PrimaryKeyConstraint("query_id", "budget_id", name="pk_reservations"),
    )
    op.create_index("ix_reservations_expires_at", "reservations", ["expires_at"])


def downgrade() -> None:
    for table in ("reservations", "budget_windows", "budgets"):
        op.drop_table(table)
