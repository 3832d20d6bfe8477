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


def test_a_failure_counts_by_its_time_and_comes_through(clock):
    pace = Pace(proofs=1, clock=clock)
    runs(pace, clock, 1)

    def fails():
        clock.passes(100)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pace.run(fails)
    assert not pace.quick
