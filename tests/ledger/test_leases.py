import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from router_gateway.core.errors import LedgerUnavailable
from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.leases import Lease
from router_gateway.ledger.tables import leases


def test_one_holds_it_until_it_lets_go(engine: Engine) -> None:
    first, second = Lease(engine, "work"), Lease(engine, "work")
    assert first.take(60)
    assert not second.take(60)
    assert first.take(60)  # renewed
    second.release()  # not its own
    assert not second.take(60)
    first.release()
    assert second.take(60)


def test_other_work_has_a_lease_of_its_own(engine: Engine) -> None:
    assert Lease(engine, "work").take(60)
    assert Lease(engine, "other work").take(60)


def test_who_goes_silent_loses_it_when_its_time_is_up(engine: Engine) -> None:
    first, second = Lease(engine, "work"), Lease(engine, "work")
    assert first.take(0.2)
    assert not second.take(60)
    deadline = time.monotonic() + 30
    while not second.take(60):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not first.take(60)


_TAKES_IT = """
import os, sys
from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.leases import Lease
print(Lease(open_engine(sys.argv[1]), "work").take(300), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(database_url: str, engine: Engine):
    """Another process that has the lease for five minutes."""
    command = [sys.executable, "-P", "-c", _TAKES_IT, database_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def ended(process: subprocess.Popen, *, noticed: bool) -> None:
    """Kill it; unless noticed, the kernel still knows it, as it does an orphan in a container without init."""
    process.kill()
    if noticed:
        process.wait()
        return
    deadline = time.monotonic() + 30
    while " Z " not in Path(f"/proc/{process.pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process began")
@pytest.mark.parametrize("noticed", [True, False])
def test_who_was_killed_loses_it_at_once_and_who_lives_does_not(engine: Engine, holder, noticed: bool) -> None:
    heirs = [Lease(engine, "work") for _ in range(2)]
    assert not heirs[0].take(60)
    ended(holder, noticed=noticed)
    assert [heir.take(60) for heir in heirs] == [True, False]


def test_who_may_run_elsewhere_keeps_it_for_its_time(engine: Engine, holder) -> None:
    with engine.begin() as connection:
        [known] = connection.execute(select(leases.c.holder)).scalars()
        elsewhere = known.replace("@", "@another boot of ")
        connection.execute(update(leases).values(holder=elsewhere))
    ended(holder, noticed=True)
    assert not Lease(engine, "work").take(60)


def test_of_many_that_race_one_wins(engine: Engine) -> None:
    for _ in range(5):
        racers = [Lease(engine, "work") for _ in range(8)]
        start, won = threading.Barrier(8), []

        def race(lease: Lease, start: threading.Barrier = start, won: list[Lease] = won) -> None:
            start.wait()
            if lease.take(60):
                won.append(lease)

        threads = [threading.Thread(target=race, args=(lease,)) for lease in racers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].release()


def test_it_is_given_back_when_the_work_fails(engine: Engine) -> None:
    def work() -> None:
        with Lease(engine, "work").held(60) as ours:
            assert ours
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    with Lease(engine, "work").held(60) as ours, Lease(engine, "work").held(60) as theirs:
        assert (ours, theirs) == (True, False)


def test_without_a_database_there_is_none(tmp_path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(LedgerUnavailable):
        Lease(engine, "work").take(60)
    engine.dispose()
