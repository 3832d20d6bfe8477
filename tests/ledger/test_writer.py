from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, func, make_url, select, text

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Decision, Feedback, Query
from router_gateway.ledger.connections import writing
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.journal import Journal
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.records import attempt_record, feedback_record
from router_gateway.ledger.segment import encode
from router_gateway.ledger.tables import attempts, decisions, feedback
from tests.ledger.inserting import insert

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def an_attempt(number: int = 1, query_id: UUID | None = None, cost_nusd: int = 1) -> Attempt:
    return Attempt(
        query_id=query_id or uuid7(),
        number=number,
        at=NOON,
        endpoint="a",
        status=200,
        cost_nusd=cost_nusd,
        latency_ms=1.0,
    )


def numbers_in(ledger: Ledger) -> list[int]:
    with ledger.engine.connect() as connection:
        return list(connection.execute(select(attempts.c.number).order_by(attempts.c.number)).scalars())


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_closing_delivers_everything_and_leaves_no_file(database_url: str, tmp_path: Path) -> None:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    query_id = uuid7()
    for number in range(1, 1001):
        ledger.record_attempt(an_attempt(number, query_id))
    assert ledger.close()
    assert list((tmp_path / "journal").iterdir()) == []
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    assert numbers_in(ledger) == list(range(1, 1001))
    ledger.close()


def test_a_replay_of_rows_that_the_database_has_adds_none(database_url: str, tmp_path: Path) -> None:
    line = encode(attempt_record(an_attempt(7)))
    for _ in range(2):
        journal = tmp_path / "journal"
        journal.mkdir(exist_ok=True)
        (journal / f"{uuid7()}.journal").write_bytes(line + line)
        ledger = Ledger.open(database_url, directory=journal)
        assert ledger.drain()
        assert numbers_in(ledger) == [7]
        assert ledger.counters.errors == 0
        assert ledger.close()
        assert list(journal.iterdir()) == []


def test_a_poisonous_row_is_set_aside_and_its_neighbours_are_written(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    query_id = uuid7()
    ledger.record_attempt(an_attempt(1, query_id))
    poison = [
        Feedback(id=uuid7(), query_id=query_id, at=NOON, quality=7.0, source="user", comment="my secret"),  # a CHECK
        Feedback(id=uuid7(), query_id=query_id, at=datetime(2026, 3, 1), quality=1.0, source="user"),  # no timezone
    ]
    for item in poison:
        ledger.record_feedback(item)
    ledger.record_attempt(an_attempt(2, query_id, cost_nusd=2**70))  # more than 64 bits
    ledger.record_attempt(an_attempt(3, query_id))
    assert ledger.drain()
    assert numbers_in(ledger) == [1, 3]
    assert ledger.counters.rows_set_aside == 3
    assert ledger.counters.rows_waiting == 0
    assert ledger.close()
    aside = b"".join(file.read_bytes() for file in (tmp_path / "journal").glob("*.corrupt"))
    assert aside.count(b"\n") == 3
    assert b"my secret" in aside
    assert "refused a row of feedback" in caplog.text
    assert "secret" not in caplog.text


def test_rows_wait_while_the_tables_are_missing_and_none_is_set_aside(
    empty_database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger.open(empty_database_url, directory=tmp_path / "journal")
    ledger.record_attempt(an_attempt(1))
    assert eventually(lambda: ledger.counters.errors > 0)
    assert not ledger.drain(0.05)
    assert ledger.counters.rows_waiting == 1
    migrate(empty_database_url)
    assert ledger.drain(20)
    assert numbers_in(ledger) == [1]
    assert ledger.counters.rows_set_aside == 0
    assert ledger.close()
    assert "database is away" in caplog.text


def test_closing_while_the_database_is_away_keeps_the_rows_for_the_next_start(
    empty_database_url: str, tmp_path: Path
) -> None:
    ledger = Ledger.open(empty_database_url, directory=tmp_path / "journal")
    ledger.record_attempt(an_attempt(4))
    assert not ledger.close(0.2)
    migrate(empty_database_url)
    ledger = Ledger.open(empty_database_url, directory=tmp_path / "journal")
    assert ledger.counters.rows_waiting + ledger.counters.rows_written >= 1
    assert ledger.drain()
    assert numbers_in(ledger) == [4]
    assert ledger.close()


@pytest.mark.postgres
def test_a_database_that_goes_away_and_comes_back_is_caught_up(
    postgres_server: str, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(postgres_url)
    name = make_url(postgres_url).database
    server = open_engine(postgres_server).execution_options(isolation_level="AUTOCOMMIT")
    ledger = Ledger.open(postgres_url, directory=tmp_path / "journal")
    ledger.record_attempt(an_attempt(1))
    assert ledger.drain()
    assert ledger.ready()
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
        )
    ledger.record_attempt(an_attempt(2))
    assert eventually(lambda: ledger.counters.errors > 0)
    assert not ledger.ready()
    assert not ledger.drain(0.05)
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    server.dispose()
    ledger.record_attempt(an_attempt(3))
    assert ledger.drain(30)
    assert numbers_in(ledger) == [1, 2, 3]
    assert ledger.counters.rows_waiting == 0
    assert ledger.close()
    assert "database is away" in caplog.text


SPENDING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID
from router_gateway.core.types import Attempt
from router_gateway.ledger.ledger import Ledger
ledger = Ledger.open(sys.argv[1], directory=Path(sys.argv[2]))
number = 1
while True:
    ledger.record_attempt(Attempt(query_id=UUID(sys.argv[3]), number=number, at=datetime.now(UTC), endpoint="a",
                                  status=200, cost_nusd=1, latency_ms=1.0))
    print(number, flush=True)
    number += 1
"""


def test_a_gateway_killed_while_writing_loses_no_acknowledged_row(database_url: str, tmp_path: Path) -> None:
    arguments = [database_url, str(tmp_path / "journal"), str(uuid7())]
    child = subprocess.Popen([sys.executable, "-c", SPENDING, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 1000:
            break
    child.send_signal(signal.SIGKILL)
    acknowledged = max([1000, *(int(n) for n in child.stdout.read().splitlines(keepends=True) if "\n" in n)])
    child.stdout.close()
    child.wait(timeout=10)
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    assert ledger.drain(30)
    found = numbers_in(ledger)
    assert found == list(range(1, len(found) + 1))
    assert len(found) in (acknowledged, acknowledged + 1)
    assert ledger.counters.rows_set_aside == 0
    assert ledger.close()


def test_two_processes_share_a_journal_folder_and_a_database(database_url: str, tmp_path: Path) -> None:
    query_id = uuid7()
    pair = [Ledger.open(database_url, directory=tmp_path / "journal") for _ in range(2)]
    for number in range(1, 401):
        pair[number % 2].record_attempt(an_attempt(number, query_id))
    assert all(ledger.drain(30) for ledger in pair)
    assert numbers_in(pair[0]) == list(range(1, 401))
    assert all(ledger.close() for ledger in pair)
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_paid_attempt_that_comes_after_the_end_is_counted_as_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(url := f"sqlite:///{tmp_path}/ledger.db")
    ledger = Ledger.open(url, directory=tmp_path / "journal")
    ledger.close()
    ledger.record_attempt(an_attempt(cost_nusd=777))
    assert ledger.counters.rows_lost == 1
    assert ledger.counters.rows_waiting == 0
    assert "cost_nusd=777" in caplog.text  # an operator can still add it to the bill


def test_a_paid_attempt_that_the_disk_refuses_reaches_the_database_from_memory(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine(database_url)
    journal = Journal(tmp_path / "journal", bytes_max=1 << 20)
    ledger = Ledger(engine, journal, store_text=False)
    journal.close()  # refuses as a full disk does
    ledger.record_attempt(an_attempt(5))
    assert ledger.counters.rows_waiting == 1
    ledger.start()
    assert ledger.drain()
    assert numbers_in(ledger) == [5]
    assert ledger.counters.rows_waiting == 0
    assert "from memory" in caplog.text
    assert ledger.close()


def test_feedback_becomes_visible_in_the_order_of_its_numbers(
    database_url: str, engine: Engine, tmp_path: Path
) -> None:
    """Else a learner's watermark would pass a number that another process commits later."""
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    slow, quick = (Feedback(id=uuid7(), query_id=uuid7(), at=NOON, quality=1.0, source="user") for _ in range(2))
    with writing(engine) as connection:
        insert(connection, feedback_record(slow))
        ledger.record_feedback(quick)
        assert not ledger.drain(0.5)
        with ledger.engine.connect() as onlooker:
            assert onlooker.execute(select(feedback.c.id)).scalars().all() == []
    assert ledger.drain()
    with ledger.engine.connect() as onlooker:
        rows = onlooker.execute(select(feedback.c.id).order_by(feedback.c.seq)).scalars().all()
    assert rows == [slow.id, quick.id]
    assert ledger.counters.errors == 0
    assert ledger.close()


def test_throughput_of_fifty_thousand_rows(database_url: str, tmp_path: Path) -> None:
    """Prints rows per second (pytest -s); asserts only that all arrive."""
    rows = 50_000
    vector = np.random.default_rng(0).normal(size=384)
    vector /= np.linalg.norm(vector)
    five = dict.fromkeys(("quality", "stddev", "cost_usd", "probability"), (0.1, 0.2, 0.3, 0.4, 0.5))
    names = ("a", "b", "c", "d", "e")
    ledger = Ledger.open(database_url, directory=tmp_path / "journal", journal_bytes_max=1 << 30)
    started = time.perf_counter()
    for _ in range(rows // 2):
        query = Query(id=uuid7(), text="", tokens_input=9)
        decision = Decision(
            query_id=query.id, at=NOON, endpoint="a", order=names, propensity=1.0, endpoints=names,
            eligible=(True,) * 5, worth_usd=0.1, reason="scored", **five,
        )  # fmt: skip
        ledger.record_decision(query, decision, requested_model="auto", embedding=vector)
        ledger.record_attempt(an_attempt(1, query.id))
    appended = time.perf_counter()
    assert ledger.drain(240)
    done = time.perf_counter()
    with ledger.engine.connect() as connection:
        counts = [connection.execute(select(func.count()).select_from(t)).scalar() for t in (decisions, attempts)]
    assert counts == [rows // 2, rows // 2]
    print(
        f"\n{ledger.engine.dialect.name}: {rows / (done - started):,.0f} rows/s in the database, "
        f"{(appended - started) / rows * 1e6:.0f} us per append with the writer running"
    )
    assert ledger.close()
