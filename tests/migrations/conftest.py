"""The databases of tests/ledger/conftest.py, which is not importable by name (--import-mode=importlib)."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location("ledger_fixtures", Path(__file__).parents[1] / "ledger" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

postgres_server = _fixtures.postgres_server
postgres_url = _fixtures.postgres_url
empty_database_url = _fixtures.empty_database_url
