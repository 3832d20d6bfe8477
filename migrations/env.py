"""Run by Alembic, from `router_gateway.ledger.engine.migrate` or from the `alembic` command.

The command has no engine at hand: it reads ROUTER_GATEWAY__LEDGER__URL, as the gateway does.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, Engine, text

from router_gateway.ledger.connections import SQLITE_WRITES
from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.tables import metadata

_URL = "ROUTER_GATEWAY__LEDGER__URL"
_LOCK = 7_205_759_403_792_793  # any constant: two gateways that start together migrate one after the other


def _engine() -> Engine:
    engine = context.config.attributes.get("engine")
    if engine is not None:
        return engine
    if _URL not in os.environ:
        raise SystemExit(f"set {_URL}, or run `router-gateway migrate`")
    return open_engine(os.environ[_URL])


def _run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("offline mode is not supported: the triggers depend on the database")
with _engine().execution_options(**SQLITE_WRITES).begin() as connection:
    _run(connection)
