"""How this package borrows a connection, and what the rest of the gateway sees when there is none.

Nobody outside may import sqlalchemy, so nobody outside can catch its errors: they end here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, TimeoutError

from router_gateway.core.errors import LedgerUnavailable

SQLITE_WRITES = {"sqlite_begin": "BEGIN IMMEDIATE"}
"""Execution options of an engine whose transactions write: SQLite takes its lock at once, and waits for it.

A plain BEGIN that reads first cannot be upgraded while another process writes; it fails without waiting.
"""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection for queries. Raises LedgerUnavailable, naming the class of the driver's error only."""
    with translated(), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction, committed at the end. Raises LedgerUnavailable; what the rows are guilty of passes through."""
    with translated(), engine.execution_options(**SQLITE_WRITES).begin() as connection:
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error that says "not now" into LedgerUnavailable."""
    try:
        yield
    except (DataError, IntegrityError):
        raise
    except (DBAPIError, TimeoutError) as error:
        raise LedgerUnavailable(
            f"the ledger's database does not answer ({error_name(error)})", hint="look at the gateway's readiness"
        ) from None


def error_name(error: Exception) -> str:
    """The kind of error, never its message: PostgreSQL's may quote the row."""
    original = getattr(error, "orig", None) if isinstance(error, SQLAlchemyError) else None
    return type(original or error).__name__
