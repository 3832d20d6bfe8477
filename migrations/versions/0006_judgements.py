"""What judges said: which judge, of whose answer, in which order, and how long the answers were.

Written out like 0001: a migration must not change when the models do.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judgements",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("query_id", sa.Uuid(), nullable=False),
        sa.Column("call_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("judge", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("other", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("chars", sa.BigInteger(), nullable=False),
        sa.Column("other_chars", sa.BigInteger(), nullable=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_judgements"),
        sa.CheckConstraint("score >= 0 AND score <= 1", name="ck_judgements_score"),
    )
    op.create_index("ix_judgements_query_id", "judgements", ["query_id"])
    op.create_index("ix_judgements_at", "judgements", ["at"])
    op.create_index("ix_feedback_source_seq", "feedback", ["source", "seq"])


def downgrade() -> None:
    op.drop_index("ix_feedback_source_seq", table_name="feedback")
    op.drop_index("ix_judgements_at", table_name="judgements")
    op.drop_index("ix_judgements_query_id", table_name="judgements")
    op.drop_table("judgements")
