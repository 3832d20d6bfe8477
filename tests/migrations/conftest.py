from tests.ledger import conftest as databases

postgres_server = databases.postgres_server
postgres = databases.postgres
postgres_url = databases.postgres_url
empty_database_url = databases.empty_database_url
