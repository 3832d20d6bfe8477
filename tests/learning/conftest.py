from tests.ledger.conftest import (  # noqa: F401 - fixtures
    database_url,
    empty_database_url,
    engine,
    postgres_server,
    postgres_url,
)
