import pytest

from router_gateway.ledger.ledger import Ledger
from tests.ledger import conftest as databases

postgres_server = databases.postgres_server
postgres = databases.postgres
postgres_url = databases.postgres_url
empty_database_url = databases.empty_database_url
database_url = databases.database_url
engine = databases.engine


@pytest.fixture
def ledger(database_url, tmp_path):
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


@pytest.fixture
def saved(tmp_path):
    return tmp_path / "snapshots"
