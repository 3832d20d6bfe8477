"""Engines for SQLite and PostgreSQL, and the migrations that give them their tables.

Errors name the backend and never the URL: it may hold a password. SQLAlchemy's errors come without the
parameters of the statement, which may hold prompts; PostgreSQL's own text can still quote a refused row,
so what is logged in this package is the error's class and nothing else.
"""

from __future__ import annotations

import io
import sqlite3
import threading
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import URL, Connection, Engine, column, create_engine, event, inspect, make_url, select, table
from sqlalchemy.exc import ArgumentError

from router_gateway.core.errors import ConfigError
from router_gateway.ledger.connections import reading, translated

if TYPE_CHECKING:
    from alembic.config import Config

_POSTGRES_NAMES = {"postgres", "postgresql", "postgresql+psycopg"}
_SQLITE_NAMES = {"sqlite", "sqlite+pysqlite"}
_BUSY_TIMEOUT_MS = 5_000
_BUSY_PAUSE_S = 0.01
_PAGE_BYTES = 8192  # three decisions; the default of 4096 holds one and is half empty
_CONNECT_TIMEOUT_S = 5
_UNANSWERED_MS = 10_000  # a server that vanished without a word is given up after this
_FIRST_REVISION = "versions/0001_ledger.py"
_VERSIONS = table("alembic_version", column("version_num"))  # Alembic's own


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///file.db` or `postgresql://user@host/name`; connects on first use.

    Raises ConfigError for any other URL, for a driver that is not installed, and for SQLite in memory.
    """
    parsed = _parse(url)
    if parsed.drivername in _SQLITE_NAMES:
        return _open_sqlite(parsed)
    if parsed.drivername in _POSTGRES_NAMES:
        return _open_postgres(parsed.set(drivername="postgresql+psycopg"))
    raise ConfigError(
        [f"ledger.url: {parsed.drivername!r} is not supported"], hint="use sqlite:///ledger.db or postgresql://…"
    )


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(["ledger.url: not a database URL"], hint="for example sqlite:///ledger.db") from None


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError(["ledger.url: a ledger in memory would be lost"], hint="for example sqlite:///ledger.db")
    Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, hide_parameters=True, json_serializer=_to_json)
    event.listen(engine, "connect", _set_pragmas)
    turns = _Turns()
    event.listen(engine, "begin", turns.begin)
    event.listen(engine, "checkin", turns.end)
    return engine


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _set_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin` opens transactions, so that DDL is inside them too
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}").close()
    connection.execute(f"PRAGMA page_size={_PAGE_BYTES}").close()  # of a new file; one that has tables keeps its own
    _write_ahead(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _write_ahead(connection: Any) -> None:
    """Switch the file to WAL. Where several switch a new file at once SQLite refuses some without waiting."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_BUSY_PAUSE_S)


class _Turns:
    """Begins transactions; this process's writers one after another, so that SQLite's lock is free when asked for.

    Left to themselves they all poll for it, and under load one of them may poll in vain for all of its patience.
    Another process's writers are still waited for as SQLite does.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def begin(self, connection: Connection) -> None:
        """Open the transaction as the execution option `sqlite_begin` says."""
        how = connection.get_execution_options().get("sqlite_begin", "BEGIN")
        if how != "BEGIN":
            self._turn.acquire()
            connection.info[self] = True
        connection.exec_driver_sql(how)

    def end(self, _connection: Any, record: Any) -> None:
        """A connection goes back to the pool, its transaction ended in whatever way."""
        if record.info.pop(self, False):
            self._turn.release()


def _open_postgres(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            hide_parameters=True,
            json_serializer=_to_json,
            pool_size=4,
            max_overflow=4,
            pool_pre_ping=True,
            pool_recycle=1800,
            connect_args={
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "tcp_user_timeout": _UNANSWERED_MS,
                "application_name": "router-gateway",
            },
        )
    except ModuleNotFoundError:
        raise ConfigError(
            ["ledger.url: PostgreSQL needs psycopg, which is not installed"],
            hint="pip install 'router-gateway[postgres]'",
        ) from None


def migrations_dir() -> Path:
    """Where env.py and versions/ are: the checkout's folder, or the one the wheel installed.

    Raises ConfigError when there is neither.
    """
    checkout = Path(__file__).resolve().parents[2] / "migrations"
    if (checkout / _FIRST_REVISION).is_file():
        return checkout
    try:
        files = distribution("router-gateway").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(f"share/router-gateway/migrations/{_FIRST_REVISION}"):
            return Path(str(file.locate())).resolve().parents[1]
    raise ConfigError(["the migrations are not installed"], hint="install router-gateway from its wheel or a checkout")


def alembic_config(engine: Engine) -> Config:
    """Alembic's configuration in code: no ini file, nothing put on `sys.path`, nothing printed."""
    from alembic.config import Config

    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["engine"] = engine
    return config


def migrate(url: str) -> None:
    """Bring the database's tables up to date; does nothing when they are. Safe to run from several processes.

    Raises ConfigError for an unusable URL and for a database of a newer version, LedgerUnavailable when it is away.
    """
    engine = open_engine(url)
    try:
        with translated():
            stands_at, newest = _revisions(engine), _newest_revision()
            if stands_at == {newest}:
                return  # as at every start but the first: without Alembic, which takes long to import
            if newer := sorted(each for each in stands_at if each > newest):
                raise ConfigError(
                    [f"the ledger's database is of a newer version (migration {newer[-1]}; here: {newest})"],
                    hint="upgrade router-gateway, or go back to a copy of the database from before its upgrade",
                )
            from alembic import command

            command.upgrade(alembic_config(engine), "head")
    finally:
        engine.dispose()


def schema_is_current(engine: Engine) -> bool:
    """Whether the database stands at the newest migration. Raises LedgerUnavailable when it is away."""
    return _revisions(engine) == {_newest_revision()}


def _revisions(engine: Engine) -> set[str]:
    """Where the database stands; nowhere, before its first migration."""
    with reading(engine) as connection:
        if not inspect(connection).has_table(_VERSIONS.name):
            return set()
        return set(connection.execute(select(_VERSIONS.c.version_num)).scalars())


@cache
def _newest_revision() -> str:
    """Migrations are in one line, and their files' names begin with the revision."""
    return max(file.name.partition("_")[0] for file in (migrations_dir() / "versions").glob("[0-9]*_*.py"))
