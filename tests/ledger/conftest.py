from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from router_gateway.core.ids import uuid7
from router_gateway.ledger.engine import migrate, open_engine

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


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty database, dropped afterwards."""
    name = f"router_gateway_test_{uuid7().hex}"
    server = open_engine(postgres_server).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """A database with the newest tables, and no rows."""
    migrate(empty_database_url)
    return empty_database_url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    yield engine
    engine.dispose()
