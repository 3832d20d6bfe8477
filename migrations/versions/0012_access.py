"""Keys that only read the admin API and keys that end, settings saved whole, and the trail of what admins did.

Written out like 0001: a migration must not change when the models do. The table `settings` was never written before;
it is made anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("settings", "admin_events")
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("viewer", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("api_keys", sa.Column("expires_at", _INSTANT))
    op.drop_table("settings")
    op.create_table(
        "settings",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("restores", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq", name="pk_settings"),
        sa.UniqueConstraint("base", name="uq_settings_base"),
    )
    op.create_table(
        "admin_events",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_admin_events"),
    )
    _forbid_changes()


def downgrade() -> None:
    op.drop_table("admin_events")
    op.drop_table("settings")
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
    op.drop_column("api_keys", "expires_at")
    op.drop_column("api_keys", "viewer")


def _forbid_changes() -> None:
    for table in _APPEND_ONLY:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION router_gateway_append_only()"
            )
            continue
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
