"""A power cut: what the kernel had not written is gone, torn or zeros, from any byte on; the rest is replayed."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from router_gateway.core.errors import LedgerFull
from router_gateway.ledger import journal as journal_module
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.journal import Journal
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.reads import read_decision
from router_gateway.ledger.records import attempt_record, decision_record
from router_gateway.ledger.segment import SUFFIX, encode, payload_of
from router_gateway.ledger.syncing import Syncer
from tests.ledger.test_journal import ROOM, abandon, drained
from tests.ledger.test_ledger import a_decision, a_query, an_attempt

LINES = [encode({"n": n, "padding": "x" * (7 * n)}) for n in range(4)]
WHOLE = b"".join(LINES)
ENDS = [sum(map(len, LINES[:count])) for count in range(len(LINES) + 1)]


@pytest.mark.parametrize("tail", ["gone", "zeros"])
def test_cut_off_at_any_byte_the_whole_rows_before_it_are_recovered(tmp_path: Path, tail: str) -> None:
    for cut in range(len(WHOLE) + 1):
        directory = tmp_path / str(cut)
        directory.mkdir()
        abandon(directory, WHOLE[:cut] + (b"" if tail == "gone" else b"\0" * (len(WHOLE) - cut)))
        whole = max(count for count, end in enumerate(ENDS) if end <= cut)
        for _ in range(2):  # the first start is cut off as well, before it has delivered anything
            journal = Journal(directory, bytes_max=ROOM)
            found = [json.loads(entry.payload)["n"] for entry in journal.peek(10) if entry.payload is not None]
            assert found == list(range(whole)), cut
            journal.close()
        journal = Journal(directory, bytes_max=ROOM)
        assert drained(journal) == list(range(whole)), cut
        assert (journal.rows_corrupt, journal.bytes_waiting) == (0, 0)
        journal.close()
        assert list(directory.iterdir()) == []


def test_a_page_lost_in_the_middle_costs_the_rows_on_it_alone(tmp_path: Path) -> None:
    for first in range(len(LINES)):
        directory = tmp_path / str(first)
        directory.mkdir()
        start, end = ENDS[first] + 3, ENDS[first + 1] - 3  # within one row
        abandon(directory, WHOLE[:start] + b"\0" * (end - start) + WHOLE[end:])
        journal = Journal(directory, bytes_max=ROOM)
        assert drained(journal) == [n for n in range(len(LINES)) if n != first]
        assert journal.rows_corrupt == 1
        journal.close()


def test_rows_that_come_back_after_they_were_delivered_change_nothing(database_url: str, tmp_path: Path) -> None:
    query = a_query()
    decision = a_decision(query)
    lines = [
        encode(decision_record(query, decision, requested_model="auto", embedding=None, store_text=False)),
        encode(attempt_record(an_attempt(query))),
    ]
    directory = tmp_path / "journal"
    directory.mkdir()
    whole = b"".join(lines)
    for cut in (len(whole), len(whole) - 1, len(lines[0]), len(lines[0]) - 1, len(whole)):
        abandon(directory, whole[:cut])  # the removal of a file is not synced either: it may come back, and torn
        ledger = Ledger.open(database_url, directory=directory)
        assert ledger.drain()
        found = read_decision(ledger.engine, query.id)
        assert ledger.close()
        assert found is not None
        assert [attempt.cost_nusd for attempt in found.attempts] == [1_000]


@dataclass
class Disk:
    """What a power cut would leave of each file, by its inode; `fails` makes the next sync fail."""

    kept: dict[int, int] = field(default_factory=dict)
    fails: bool = False
    syncs: int = 0
    came: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def sync(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self.came.set()
        self.may_go_on.wait(10)
        self.syncs += 1
        if self.fails:
            raise OSError(5, "Input/output error")
        self.kept[os.fstat(fd).st_ino] = size

    def rows(self, directory: Path) -> list[Any]:
        """The rows that are there after a power cut now."""
        found = []
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            kept = path.read_bytes()[: self.kept.get(path.stat().st_ino, 0)]
            found += [payload_of(line) for line in kept.splitlines(keepends=True)]
        return [json.loads(payload)["n"] for payload in found if payload is not None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    disk.may_go_on.set()
    monkeypatch.setattr(journal_module, "sync", disk.sync)
    return disk


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", bytes_max=ROOM, segment_bytes=200)
    yield journal
    journal.close()


def test_rows_are_synced_by_themselves_after_the_interval(disk: Disk, journal: Journal, tmp_path: Path) -> None:
    syncer = Syncer(journal, 5.0)
    syncer.start()
    journal.append({"n": 0})
    assert disk.came.wait(10)
    for n in range(1, 30):  # several files
        journal.append({"n": n})
    syncer.close()
    assert sorted(disk.rows(tmp_path / "journal")) == list(range(30))
    assert syncer.errors == 0


def test_without_an_interval_nothing_is_synced(disk: Disk, journal: Journal) -> None:
    syncer = Syncer(journal, None)
    syncer.start()
    journal.append({"n": 0})
    asyncio.run(syncer.durable())
    syncer.close()
    assert disk.syncs == 0


async def test_with_interval_0_a_row_is_durable_before_its_effect(disk: Disk, journal: Journal, tmp_path: Path) -> None:
    syncer = Syncer(journal, 0)
    syncer.start()
    for n in range(5):
        journal.append({"n": n})
        await syncer.durable()
        assert disk.rows(tmp_path / "journal") == list(range(n + 1))
    syncer.close()


async def test_requests_that_come_while_the_disk_works_share_the_next_sync(disk: Disk, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", bytes_max=ROOM)
    syncer = Syncer(journal, 0)
    syncer.start()
    disk.may_go_on.clear()

    async def effect(n: int) -> int:
        journal.append({"n": n})
        await syncer.durable()
        assert n in disk.rows(tmp_path / "journal")
        return n

    effects = [asyncio.ensure_future(effect(0))]
    assert await asyncio.to_thread(disk.came.wait, 10)
    effects += [asyncio.ensure_future(effect(n)) for n in range(1, 100)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in effects), "the loop goes on while the disk works"
    disk.may_go_on.set()
    assert await asyncio.gather(*effects) == list(range(100))
    syncer.close()
    journal.close()
    assert disk.syncs <= 3


async def test_whoever_leaves_while_waiting_disturbs_nobody(disk: Disk, journal: Journal) -> None:
    syncer = Syncer(journal, 0)
    syncer.start()
    disk.may_go_on.clear()
    journal.append({"n": 0})
    leaving, staying = (asyncio.ensure_future(syncer.durable()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    disk.may_go_on.set()
    await staying
    syncer.close()


async def test_a_failing_disk_forbids_the_effect_and_later_rows_go_to_another_file(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "journal"
    journal = Journal(directory, bytes_max=ROOM)
    syncer = Syncer(journal, 0)
    disk.fails = True
    journal.append({"n": 0})
    syncer.start()
    with pytest.raises(LedgerFull, match="Input/output error"):
        await syncer.durable()
    disk.fails = False
    journal.append({"n": 1})
    with pytest.raises(LedgerFull, match="Input/output error"):  # the kernel would say that all is well now
        await syncer.durable()
    assert len(list(directory.iterdir())) == 2
    journal.discard(journal.peek(1))  # the database has the first row: whatever the disk made of it
    await syncer.durable()
    assert disk.rows(directory) == [1]
    syncer.close()
    assert caplog.text.count("could not be synced") == 1
    assert drained(journal) == [1]
    journal.close()


def test_what_was_delivered_survives_as_the_database_syncs_every_commit(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/ledger.db")
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.db")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    engine.dispose()
