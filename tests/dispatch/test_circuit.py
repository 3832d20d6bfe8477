import pytest

from router_gateway.dispatch.circuit import Circuit, CircuitLimits, State


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit(CircuitLimits(failures_max=3, backoff_s=10, backoff_s_max=35), clock=clock)


def fail(circuit, times=1, **options):
    for _ in range(times):
        circuit.enter().failed(**options)


def test_opens_after_failures_in_a_row_only(circuit):
    fail(circuit, 2)
    circuit.enter().succeeded()
    fail(circuit, 2)
    assert circuit.state is State.CLOSED
    fail(circuit)
    assert circuit.state is State.OPEN
    assert circuit.enter() is None


def test_half_open_lets_one_probe_and_closes_on_its_success(circuit, clock):
    fail(circuit, 3)
    clock.now_s += 10
    assert circuit.state is State.HALF_OPEN
    probe = circuit.enter()
    assert circuit.enter() is None
    probe.succeeded()
    assert circuit.state is State.CLOSED
    fail(circuit, 2)
    assert circuit.state is State.CLOSED


def test_backoff_doubles_to_its_bound_and_starts_anew_after_success(circuit, clock):
    fail(circuit, 3)
    for pause_s in (10, 20, 35, 35):
        clock.now_s += pause_s - 0.5
        assert circuit.state is State.OPEN
        clock.now_s += 0.5
        fail(circuit)
    clock.now_s += 35
    circuit.enter().succeeded()
    fail(circuit, 3)
    clock.now_s += 10
    assert circuit.state is State.HALF_OPEN


def test_retry_after_opens_at_once_within_the_bound(circuit, clock):
    fail(circuit, retry_after_s=7)
    assert circuit.state is State.OPEN
    clock.now_s += 7
    fail(circuit, retry_after_s=9999)
    clock.now_s += 35
    assert circuit.state is State.HALF_OPEN


def test_a_probe_without_verdict_makes_room_for_another(circuit, clock):
    fail(circuit, 3)
    clock.now_s += 10
    circuit.enter().left()
    assert circuit.state is State.HALF_OPEN
    assert circuit.enter() is not None


def test_leaving_never_trips(circuit):
    for _ in range(10):
        circuit.enter().left()
    assert circuit.state is State.CLOSED


def test_an_old_success_says_nothing_about_a_later_outage(circuit):
    before = circuit.enter()
    fail(circuit, 3)
    before.succeeded()
    assert circuit.state is State.OPEN


def test_old_failures_do_not_lengthen_the_pause(circuit, clock):
    stale = [circuit.enter() for _ in range(5)]
    fail(circuit, 3)
    clock.now_s += 10
    circuit.enter().succeeded()
    for entry in stale:
        entry.failed()
    assert circuit.state is State.CLOSED


def test_a_probing_stream_closes_on_trust_with_its_first_content(circuit, clock):
    fail(circuit, 3)
    clock.now_s += 10
    probe = circuit.enter()
    probe.answering()
    assert circuit.state is State.CLOSED
    assert circuit.enter() is not None
    probe.failed()  # breaks off after all: open again, for twice as long
    clock.now_s += 19
    assert circuit.state is State.OPEN
    clock.now_s += 1
    assert circuit.state is State.HALF_OPEN


def test_forced_entry_into_an_open_circuit_can_close_it(circuit):
    fail(circuit, 3)
    circuit.enter(force=True).succeeded()
    assert circuit.state is State.CLOSED


def test_backoff_survives_thousands_of_failures(circuit):
    fail(circuit, 3)
    for _ in range(3000):
        circuit.enter(force=True).failed()
    assert circuit.state is State.OPEN


def test_it_says_why_and_since_when_it_is_open(circuit, clock):
    assert (circuit.status.since, circuit.status.why) == (None, "")
    fail(circuit, 3, code="upstream_error")
    opened = circuit.status
    assert (opened.state, opened.why, opened.failures) == (
        State.OPEN,
        "3 failures in a row (upstream_error)",
        3,
    )
    assert (opened.until - opened.since).total_seconds() == 10
    clock.now_s += 10
    half = circuit.status
    assert (half.state, half.since, half.until) == (State.HALF_OPEN, opened.until, None)
    fail(circuit, code="upstream_timeout")
    assert circuit.status.why == "a probe failed (upstream_timeout)"
    clock.now_s += 20
    circuit.enter().succeeded()
    assert (circuit.status.state, circuit.status.why) == (State.CLOSED, "")
    assert circuit.status.since >= opened.since
    fail(circuit, retry_after_s=7, code="rate_limit_exceeded")
    assert circuit.status.why == "it asked for a pause (rate_limit_exceeded)"


def test_it_counts_the_tries_that_have_no_verdict_yet(circuit):
    tries = [circuit.enter() for _ in range(3)]
    assert circuit.status.in_flight == 3
    tries[0].succeeded()
    tries[1].left()
    assert circuit.status.in_flight == 1
    tries[2].failed()
    assert circuit.status.in_flight == 0
