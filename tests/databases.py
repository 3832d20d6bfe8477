"""Databases for tests: making and migrating one takes longer than most tests, so both are done once and reused."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, make_url, text

from router_gateway.core.ids import uuid7
from router_gateway.ledger.engine import migrate, open_engine


def migrated_sqlite(path: Path) -> str:
    """The URL of a new SQLite file with the newest tables."""
    path.write_bytes(_migrated_bytes())
    return f"sqlite:///{path}"


@cache
def _migrated_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


class PostgresDatabase:
    """One database of this process on a server, emptied between tests: creating and dropping cost a checkpoint each."""

    def __init__(self, server: str, name: str) -> None:
        self._server = server
        self._name = name
        self._migrated = False
        self.url = make_url(server).set(database=name).render_as_string(hide_password=False)

    def empty(self) -> str:
        """Its URL, without a table."""
        self._migrated = False
        with _administering(self.url) as connection:
            self._end_others(connection)
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        return self.url

    def migrated(self) -> str:
        """Its URL, with the newest tables and no row."""
        if not self._migrated:
            self.empty()
            migrate(self.url)
            self._migrated = True
            return self.url
        with _administering(self.url) as connection:
            self._end_others(connection)
            found = connection.execute(
                text("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
            ).scalars()
            tables = [name for name in found if name != "alembic_version"]
            connection.execute(text("SET session_replication_role = replica"))  # no trigger keeps rows from going
            connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"))
        return self.url

    def _end_others(self, connection: Connection) -> None:
        """What a test left connected would hold locks."""
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))


@contextmanager
def postgres_database(server: str) -> Iterator[PostgresDatabase]:
    """A database on `server`, dropped at the end. What a test commits to it need not survive a power cut."""
    name = f"router_gateway_test_{uuid7().hex}"
    with _administering(server) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    yield PostgresDatabase(server, name)
    with _administering(server) as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def _administering(url: str) -> Iterator[Connection]:
    engine = open_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()
