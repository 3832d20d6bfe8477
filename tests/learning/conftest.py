import pytest

from router_gateway.ledger.ledger import Ledger
from tests.ledger.conftest import (  # noqa: F401 - fixtures
    database_url,
    empty_database_url,
    engine,
    postgres_server,
    postgres_url,
)


@pytest.fixture
def ledger(database_url, tmp_path):
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


@pytest.fixture
def saved(tmp_path):
    return tmp_path / "snapshots"
