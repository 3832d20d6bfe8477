"""What a provider itself says that a call cost, beside what the gateway's price table says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("provider_cost_nusd", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("attempts", "provider_cost_nusd")
