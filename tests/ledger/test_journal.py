from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import LedgerFull
from router_gateway.ledger.journal import Journal
from router_gateway.ledger.segment import LINE_BYTES_MAX, Segment, encode, payload_of

ROOM = 1 << 20
integers = st.integers(-(2**63), 2**63 - 1)  # what a column holds
json_values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", bytes_max=ROOM)
    yield journal
    journal.close()


def drained(journal: Journal, rows_at_once: int = 7) -> list[Any]:
    """Everything in the journal, as the writer would take it; damaged lines are set aside."""
    taken = []
    while entries := journal.peek(rows_at_once):
        for entry in entries:
            if entry.payload is None:
                journal.set_aside(entry)
            else:
                taken.append(json.loads(entry.payload)["n"])
        journal.discard(entries)
    return taken


def abandon(directory: Path, *lines: bytes) -> Path:
    """A segment whose owner is dead."""
    segment = Segment.create(directory)
    os.write(segment.fd, b"".join(lines))
    os.close(segment.fd)
    return segment.path


@given(record=st.dictionaries(st.text(), json_values, max_size=5))
def test_a_line_holds_its_record_and_nothing_but_one_newline(record: dict[str, Any]) -> None:
    line = encode(record)
    assert line.count(b"\n") == 1
    payload = payload_of(line)
    assert payload is not None
    assert json.loads(payload) == record


def test_what_no_column_holds_is_kept_for_whoever_sets_it_aside() -> None:
    payload = payload_of(encode({"cost": 2**70, "endpoint": "a"}))
    assert payload is not None
    assert json.loads(payload) == {"cost": 2**70, "endpoint": "a"}


@given(data=st.data(), record=st.dictionaries(st.text(max_size=3), integers, max_size=3))
def test_a_line_with_any_one_byte_changed_is_not_believed(data: st.DataObject, record: dict[str, Any]) -> None:
    line = bytearray(encode(record))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.sampled_from([1, 2, 4, 8, 16]))  # leaves hex case, which means nothing, alone
    assert payload_of(bytes(line)) is None


def test_rows_come_out_in_the_order_they_went_in_and_leave_no_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, bytes_max=ROOM, segment_bytes=300)
    for n in range(100):
        journal.append({"n": n})
    assert journal.rows_waiting == 100
    assert journal.bytes_waiting == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) > 5
    assert drained(journal) == list(range(100))
    assert (journal.rows_waiting, journal.bytes_waiting) == (0, 0)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_not_discarded_are_read_again(journal: Journal) -> None:
    journal.append({"n": 1})
    assert [e.payload for e in journal.peek(5)] == [e.payload for e in journal.peek(5)] == [b'{"n":1}']


def test_threads_do_not_lose_or_mix_rows(tmp_path: Path) -> None:
    journal = Journal(tmp_path, bytes_max=ROOM, segment_bytes=2_000)

    def append(worker: int) -> None:
        for i in range(200):
            journal.append({"n": worker * 1000 + i, "padding": "x" * i})

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    taken = []
    while any(thread.is_alive() for thread in threads):
        taken += drained(journal)
    taken += drained(journal)
    assert sorted(taken) == sorted(worker * 1000 + i for worker in range(4) for i in range(200))
    for worker in range(4):
        mine = [n for n in taken if n // 1000 == worker]
        assert mine == sorted(mine)
    journal.close()


def test_only_the_owner_may_look_inside(journal: Journal, tmp_path: Path) -> None:
    journal.append({"n": 1})
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "journal").iterdir()] == [0o600]


def test_at_its_bound_the_journal_takes_only_what_is_already_paid(tmp_path: Path) -> None:
    journal = Journal(tmp_path, bytes_max=100)
    while journal.has_room:
        journal.append({"n": 0})
    with pytest.raises(LedgerFull, match="full"):
        journal.append({"n": 1})
    assert not journal.has_room
    journal.append({"n": 1000}, beyond_bound=True)
    taken = drained(journal)
    assert (taken[-1], set(taken)) == (1000, {0, 1000})
    assert journal.has_room
    journal.append({"n": 1})
    journal.close()


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, bytes_max=ROOM)
    journal.close()
    with pytest.raises(LedgerFull, match="closed"):
        journal.append({"n": 1}, beyond_bound=True)


def test_a_record_beyond_the_line_limit_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="exceeds"):
        journal.append({"text": "x" * LINE_BYTES_MAX})
    journal.append({"n": 1, "text": "x" * (LINE_BYTES_MAX - 100)})
    journal.append({"n": 2, "text": "x" * (LINE_BYTES_MAX - 100)})
    journal.append({"n": 3, "text": "x" * (LINE_BYTES_MAX - 100)}, beyond_bound=True)
    assert drained(journal) == [1, 2, 3]


def test_a_torn_last_line_is_skipped_and_counted(tmp_path: Path) -> None:
    abandon(tmp_path, encode({"n": 1}), encode({"n": 2})[:-4])
    journal = Journal(tmp_path, bytes_max=ROOM)
    assert journal.rows_waiting == 1
    assert drained(journal) == [1]
    assert (journal.rows_torn, journal.rows_corrupt) == (1, 0)
    assert (journal.rows_waiting, journal.bytes_waiting) == (0, 0)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_line_is_kept_beside_and_its_neighbours_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = encode({"n": 2, "text": "my secret prompt"}).replace(b'"n":2', b'"n":7')
    path = abandon(tmp_path, encode({"n": 1}), damaged, encode({"n": 3}))
    journal = Journal(tmp_path, bytes_max=ROOM)
    assert drained(journal) == [1, 3]
    assert (journal.rows_torn, journal.rows_corrupt) == (0, 1)
    journal.close()
    assert [file.name for file in tmp_path.iterdir()] == [path.with_suffix(".corrupt").name]
    assert path.with_suffix(".corrupt").read_bytes() == damaged
    assert "secret" not in caplog.text
    assert "could not be stored" in caplog.text


def test_garbage_without_newlines_is_kept_beside_and_ends(tmp_path: Path) -> None:
    path = abandon(tmp_path, encode({"n": 1}), b"\0" * (5 << 20), b"\n", encode({"n": 2}))
    journal = Journal(tmp_path, bytes_max=ROOM)
    assert drained(journal) == [1, 2]
    assert path.with_suffix(".corrupt").read_bytes() == b"\0" * (5 << 20) + b"\n"
    assert journal.bytes_waiting == 0
    journal.close()


def test_a_neighbour_that_lives_keeps_its_segments_and_a_dead_one_is_replayed(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, bytes_max=ROOM), Journal(tmp_path, bytes_max=ROOM)
    first.append({"n": 1})
    second.append({"n": 2})
    assert second.adopt() == 0
    assert drained(second) == [2]
    first.close()  # what it had not delivered stays
    assert second.adopt() == 1
    assert second.rows_waiting == 1
    assert drained(second) == [1]
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_a_mark_is_reached_when_its_rows_are_out_and_later_ones_do_not_matter(journal: Journal) -> None:
    journal.append({"n": 1})
    mark = journal.mark()
    journal.append({"n": 2})
    assert not journal.reached(mark)
    journal.discard(journal.peek(1))
    assert journal.reached(mark)
    assert not journal.reached(journal.mark())


APPENDING = """
import sys
from pathlib import Path
from router_gateway.ledger.journal import Journal
journal = Journal(Path(sys.argv[1]), bytes_max=1 << 30, segment_bytes=20_000)
n = 0
while True:
    journal.append({"n": n, "padding": "x" * (n % 500)})
    print(n, flush=True)
    n += 1
"""


def test_every_acknowledged_row_survives_kill_9_and_none_is_half(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", APPENDING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = -1
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 500:
            break
    child.send_signal(signal.SIGKILL)
    # The last line may itself be cut off: only whole ones acknowledge.
    acknowledged = max([acknowledged, *(int(n) for n in child.stdout.read().splitlines(keepends=True) if "\n" in n)])
    child.stdout.close()
    child.wait(timeout=10)
    journal = Journal(tmp_path, bytes_max=ROOM)
    taken = drained(journal, rows_at_once=200)
    assert sorted(taken) == list(range(len(taken)))
    assert len(taken) in (acknowledged + 1, acknowledged + 2)  # the next one was perhaps written, not acknowledged
    assert journal.rows_corrupt == 0
    journal.close()


DISK_FULL = """
import json, resource, signal, sys
from pathlib import Path
from router_gateway.core.errors import LedgerFull
from router_gateway.ledger.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]), bytes_max=1 << 30)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
written, refused = [], []
for n in range(100):
    try:
        journal.append({"n": n, "padding": "x" * 23}, beyond_bound=True)
        written.append(n)
    except LedgerFull as error:
        refused.append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"n": 100})
print(json.dumps([written, sorted(set(refused))]))
"""


def test_a_full_disk_refuses_rows_whole_and_spoils_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    written, refused = json.loads(done.stdout)
    assert 0 < len(written) < 100
    assert all("cannot be written" in message for message in refused)
    assert refused
    journal = Journal(tmp_path, bytes_max=ROOM)
    assert drained(journal) == [*written, 100]
    assert (journal.rows_torn, journal.rows_corrupt) == (0, 0)
    journal.close()
