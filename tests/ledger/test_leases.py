import threading
import time

import pytest
from sqlalchemy import Engine

from router_gateway.core.errors import LedgerUnavailable
from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.leases import Lease


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
