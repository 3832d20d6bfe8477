from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from router_gateway.ledger.engine import open_engine
from tests.databases import PostgresDatabase, migrated_sqlite, postgres_database

_ON_LOOPBACK = "postgresql://postgres@127.0.0.1:5432/postgres"


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """URL of a server on which databases may be created; the test skips when there is none."""
    given = os.environ.get("ROUTER_GATEWAY_TEST_POSTGRES_URL")
    engine = open_engine(given or _ON_LOOPBACK)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except Exception:
        if given or os.environ.get("ROUTER_GATEWAY_TEST_POSTGRES") == "required":
            pytest.fail("PostgreSQL tests are required, and the server does not answer", pytrace=False)
        pytest.skip("no PostgreSQL server found: set ROUTER_GATEWAY_TEST_POSTGRES_URL")
    finally:
        engine.dispose()
    return given or _ON_LOOPBACK


@pytest.fixture(scope="session")
def postgres(postgres_server: str) -> Iterator[PostgresDatabase]:
    """This process's database."""
    with postgres_database(postgres_server) as database:
        yield database


@pytest.fixture
def postgres_url(postgres: PostgresDatabase) -> str:
    """An empty database."""
    return postgres.empty()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the newest tables, and no rows."""
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "ledger.db")
    database: PostgresDatabase = request.getfixturevalue("postgres")
    return database.migrated()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    yield engine
    engine.dispose()
