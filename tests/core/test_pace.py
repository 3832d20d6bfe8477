import sys
import threading
import time

import pytest

from router_gateway.core.pace import Pace


class Clock:
    """Time that passes only when told to."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def passes(self, milliseconds):
        self.now_s += milliseconds / 1e3


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def work(clock):
    """`work(waited, computed)`: a run of so many milliseconds, and a pace that needs one proof of it."""
    own = Clock()
    pace = Pace(proofs=1, quick_ms=2.0, waits=4.0, clock=clock, computed=own)

    def run(*, waited, computed, units=1):
        pace.run(lambda: (clock.passes(waited + computed), own.passes(computed)), units=units)
        return pace.quick

    return run


@pytest.mark.parametrize(("waited", "computed", "quick"), [(2.5, 0.3, True), (7.5, 2.0, True), (3.0, 0.1, False)])
def test_waiting_is_excused_in_proportion_to_what_was_computed(work, waited, computed, quick):
    assert work(waited=waited, computed=computed) is quick


def test_what_computes_too_long_is_never_excused(work):
    assert not work(waited=0.0, computed=2.1)


def test_a_run_of_several_is_judged_by_one_of_them(work):
    assert work(waited=20.0, computed=8.0, units=8)


def test_what_waits_for_a_network_is_not_quick():
    pace = Pace(proofs=1)
    for _ in range(3):
        pace.run(lambda: time.sleep(0.01))
    assert not pace.quick


def test_what_computes_beside_a_busy_thread_proves_quick():
    """Such work takes twice as long as it computes, and longer: by its time alone it would never be quick."""

    def work():
        sum(range(100_000))

    def alone_ms():
        began = time.thread_time()
        work()
        return (time.thread_time() - began) * 1e3

    stop, before = threading.Event(), sys.getswitchinterval()
    pace = Pace(proofs=10, quick_ms=1.2 * min(alone_ms() for _ in range(20)), slow_ms=10_000.0)

    def spin():
        while not stop.is_set():
            pass

    busy = threading.Thread(target=spin)
    sys.setswitchinterval(0.0005)  # as `serve` sets it
    busy.start()
    try:
        for _ in range(2_000):
            pace.run(work)
            if pace.quick:
                break
    finally:
        stop.set()
        busy.join()
        sys.setswitchinterval(before)
    assert pace.quick


def runs(pace, clock, *milliseconds):
    for each in milliseconds:
        pace.run(lambda each=each: clock.passes(each))


def test_work_is_quick_only_once_it_has_proved_so(clock):
    pace = Pace(proofs=3, clock=clock)
    runs(pace, clock, 1, 1)
    assert not pace.quick
    runs(pace, clock, 1)
    assert pace.quick


def test_what_is_neither_quick_nor_slow_proves_nothing(clock):
    pace = Pace(proofs=3, clock=clock)
    runs(pace, clock, *[10] * 100)
    assert not pace.quick
    runs(pace, clock, 1, 10, 1, 10, 1)
    assert pace.quick


def test_one_slow_run_sends_it_back_and_the_next_proof_takes_twice_as_long(clock):
    pace = Pace(proofs=2, clock=clock)
    runs(pace, clock, 1, 1, 60)
    assert not pace.quick
    runs(pace, clock, 1, 1, 1)
    assert not pace.quick
    runs(pace, clock, 1)
    assert pace.quick


def test_a_slow_run_before_any_proof_costs_no_more_than_the_proofs_so_far(clock):
    pace = Pace(proofs=2, clock=clock)
    runs(pace, clock, *[60] * 10, 1, 1)
    assert pace.quick


def test_a_thousand_quick_runs_are_forgiveness(clock):
    pace = Pace(proofs=2, clock=clock)
    runs(pace, clock, 1, 1, 60, *[1] * 1_004, 60, 1, 1)
    assert not pace.quick  # forgiven, and then slow once more: four proofs again
    runs(pace, clock, 1, 1)
    assert pace.quick


def test_units_share_the_time_of_a_run(clock):
    pace = Pace(proofs=1, clock=clock)
    pace.run(lambda: clock.passes(8), units=8)
    assert pace.quick


def test_a_run_of_several_that_takes_too_long_altogether_is_slow(clock):
    pace = Pace(proofs=1, clock=clock)
    runs(pace, clock, 1)
    pace.run(lambda: clock.passes(60), units=8)
    assert not pace.quick


def test_a_failure_counts_by_its_time_and_comes_through(clock):
    pace = Pace(proofs=1, clock=clock)
    runs(pace, clock, 1)

    def fails():
        clock.passes(100)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pace.run(fails)
    assert not pace.quick
