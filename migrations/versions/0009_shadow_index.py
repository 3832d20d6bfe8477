"""An index by which a call's shadow decisions are found, when its rows are removed.

Written out like 0001: a migration must not change when the models do.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_shadow_decisions_query_id", "shadow_decisions", ["query_id"])


def downgrade() -> None:
    op.drop_index("ix_shadow_decisions_query_id", table_name="shadow_decisions")
