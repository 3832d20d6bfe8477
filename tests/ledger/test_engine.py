from __future__ import annotations

import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, StatementError

from router_gateway.core.errors import ConfigError, LedgerUnavailable
from router_gateway.core.ids import uuid7
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.engine import migrate, migrations_dir, open_engine, schema_is_current
from router_gateway.ledger.tables import attempts, decisions, feedback

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def feedback_row() -> dict[str, object]:
    return {"id": uuid7(), "query_id": uuid7(), "at": NOON, "quality": 0.5, "source": "user", "tenant": "t"}


def attempt_row() -> dict[str, object]:
    return {
        "query_id": uuid7(), "number": 1, "at": NOON, "endpoint": "a", "status": 200,
        "cost_nusd": 1, "cost_estimated": False, "latency_ms": 1.0,
    }  # fmt: skip


def decision_row() -> dict[str, object]:
    lists = {name: [] for name in ("order", "endpoints", "quality", "stddev", "cost_usd", "probability", "eligible")}
    words = dict.fromkeys(("requested_model", "endpoint", "policy", "rule", "embedding_space", "reason", "detail"), "x")
    numbers = {"propensity": 1.0, "worth_usd": 0.1, "tokens_input": 1}
    return {"query_id": uuid7(), "at": NOON, "tenant": "t", **lists, **words, **numbers}


ROWS = {
    "decisions": (decisions, decision_row),
    "attempts": (attempts, attempt_row),
    "feedback": (feedback, feedback_row),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("change", ["update", "delete"])
def test_recorded_rows_can_be_neither_changed_nor_deleted(engine: Engine, name: str, change: str) -> None:
    table, row = ROWS[name]
    with engine.begin() as connection:
        connection.execute(insert(table).values(row()))
    statement = update(table).values(at=NOON + timedelta(days=1)) if change == "update" else delete(table)
    with pytest.raises(DBAPIError, match=f"{name} is append-only"), engine.begin() as connection:
        connection.execute(statement)
    with engine.connect() as connection:
        assert connection.execute(select(table.c.at)).scalars().all() == [NOON]


def test_instants_come_back_aware_and_in_utc(engine: Engine) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    at = datetime(2026, 3, 1, 2, 15, 30, 123456, tzinfo=india)
    with engine.begin() as connection:
        connection.execute(insert(feedback).values(feedback_row() | {"at": at}))
        read = connection.execute(select(feedback.c.at)).scalar_one()
        found = connection.execute(select(feedback.c.seq).where(feedback.c.at == at)).scalars().all()
    assert (read, read.tzinfo) == (at, UTC)
    assert found == [1]


def test_an_instant_without_a_timezone_is_refused(engine: Engine) -> None:
    with pytest.raises(StatementError, match="timezone"), engine.begin() as connection:
        connection.execute(insert(feedback).values(feedback_row() | {"at": datetime(2026, 3, 1)}))


def test_failed_statements_do_not_show_their_parameters(engine: Engine) -> None:
    with pytest.raises(DBAPIError, match="parameters hidden"), engine.begin() as connection:
        connection.execute(insert(feedback).values(feedback_row() | {"quality": 7.0}))


def test_sqlite_is_opened_for_concurrent_readers_and_patient_writers(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/new/folder/ledger.db")
    with engine.connect() as connection:
        values = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in
                  ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")}  # fmt: skip
    engine.dispose()
    assert values == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "foreign_keys": 1}


def test_several_may_open_a_new_sqlite_file_at_once(tmp_path: Path) -> None:
    """Switching a file to WAL does not wait for others who do the same: without a second try some are refused."""
    together = threading.Barrier(4)

    def opened(path: Path) -> str:
        engine = open_engine(f"sqlite:///{path}")
        together.wait()
        try:
            with engine.connect() as connection:
                return str(connection.execute(text("PRAGMA journal_mode")).scalar())
        finally:
            engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        for number in range(80):
            assert list(pool.map(opened, [tmp_path / f"{number}.db"] * 4)) == ["wal"] * 4


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg_3(scheme: str) -> None:
    engine = open_engine(f"{scheme}://me:hunter2@db.example/ledger")
    assert engine.url.drivername == "postgresql+psycopg"
    assert "hunter2" not in repr(engine)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://me:hunter2@db/ledger",
        "no url hunter2",
        "postgresql://u:hunter2@h:x/d",
    ],
)
def test_an_unusable_url_is_a_mistake_of_the_configuration_and_stays_secret(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_engine(url)
    assert "ledger.url" in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_an_empty_database_is_not_current(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/empty.db")
    assert not schema_is_current(engine)
    engine.dispose()


def test_a_server_that_does_not_answer_makes_the_ledger_unavailable_and_its_password_stays_secret() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"postgresql://me:hunter2@127.0.0.1:{taken.getsockname()[1]}/ledger"
        for ask in (lambda: schema_is_current(open_engine(url)), lambda: migrate(url)):
            with pytest.raises(LedgerUnavailable) as caught:
                ask()
            assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_the_migrations_are_found() -> None:
    assert (migrations_dir() / "env.py").is_file()


def test_writers_of_one_process_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own waiting is switched off: whoever found the lock taken would fail at once."""
    monkeypatch.setattr("router_gateway.ledger.engine._BUSY_TIMEOUT_MS", 0)
    engine = open_engine(f"sqlite:///{tmp_path}/turns.db")
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE counted (n INTEGER)"))
        connection.execute(text("INSERT INTO counted VALUES (0)"))

    def count(_: int) -> None:
        with writing(engine) as connection:
            found = connection.execute(text("SELECT n FROM counted")).scalar_one()
            connection.execute(text("UPDATE counted SET n = :n"), {"n": found + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(80)))
    with reading(engine) as connection:
        assert connection.execute(text("SELECT n FROM counted")).scalar_one() == 80
    engine.dispose()


def test_a_turn_ends_with_its_transaction_however_that_ends(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/turns.db")
    for statement in ("nonsense", "CREATE TABLE t (n INTEGER)", "CREATE TABLE t (n INTEGER)"):
        with suppress(LedgerUnavailable), writing(engine) as connection:
            connection.execute(text(statement))
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
    engine.dispose()
