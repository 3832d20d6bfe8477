"""A circuit per endpoint: after repeated failures it is left alone for a while, then probed.

closed ── failures_max failures in a row ──► open ── backoff over ──► half-open ── probe answers ──► closed
                                              ▲                          │
                                              └──── probe fails: backoff doubled ┘
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

_HALF_OPEN_PROBES = 1


class State(IntEnum):
    """As the metric `router_circuit_state` reports it."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitLimits:
    """`failures_max` consecutive failures open a circuit for `backoff_s`, doubled up to `backoff_s_max`."""

    failures_max: int = 5
    backoff_s: float = 10.0
    backoff_s_max: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitStatus:
    """What a circuit looks like to people.

    since : when it came into this state, None where it never left it; until : when an open one admits a probe
    why : what opened it, "" while it is closed; failures : in a row, as counted towards opening
    in_flight : tries that have no verdict yet
    """

    state: State
    since: datetime | None
    until: datetime | None
    why: str
    failures: int
    in_flight: int


class Circuit:
    """The circuit of one endpoint. Not thread-safe: it lives on the event loop."""

    def __init__(self, limits: CircuitLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits or CircuitLimits()
        self._clock = clock
        self._failures = 0
        self._openings = 0  # in a row: the exponent of the backoff
        self._open_until: float | None = None
        self._probes = 0
        self._changed_at: datetime | None = None  # when it last opened or closed
        self._pause_s = 0.0
        self._why = ""
        self.in_flight = 0
        self.epoch = 0  # how often it opened or closed; verdicts on older epochs are stale

    @property
    def state(self) -> State:
        """Closed, open, or half-open once the backoff is over."""
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if self._clock() < self._open_until else State.HALF_OPEN

    @property
    def status(self) -> CircuitStatus:
        """What people are shown."""
        state, since, until = self.state, self._changed_at, None
        if self._changed_at is not None and state is not State.CLOSED:
            until = self._changed_at + timedelta(seconds=self._pause_s)
            since = self._changed_at if state is State.OPEN else until
        return CircuitStatus(
            state=state,
            since=since,
            until=until if state is State.OPEN else None,
            why=self._why,
            failures=self._failures,
            in_flight=self.in_flight,
        )

    def enter(self, *, force: bool = False) -> Entry | None:
        """A try at the endpoint, or None when it should be left alone.

        Half-open admits one probe at a time. `force` always admits: for when every circuit is open.
        """
        state = self.state
        if state is State.CLOSED:
            self.in_flight += 1
            return Entry(self, self.epoch, probe=False)
        if not force and (state is State.OPEN or self._probes >= _HALF_OPEN_PROBES):
            return None
        self._probes += 1
        self.in_flight += 1
        return Entry(self, self.epoch, probe=True)

    def leave(self, *, probe: bool, epoch: int) -> None:
        """One try is over; a probe makes room for the next."""
        if probe and epoch == self.epoch:
            self._probes -= 1

    def close(self, *, failures: int = 0) -> None:
        """Let traffic through again, with so many failures already on the count."""
        self._failures = failures
        if self._open_until is not None:
            self._open_until, self._probes = None, 0
            self._changed_at, self._why = datetime.now(UTC), ""
            self.epoch += 1
        if failures == 0:
            self._openings = 0

    def fail(self, *, probe: bool, retry_after_s: float | None = None, code: str | None = None) -> None:
        """Count a failure. The endpoint's own Retry-After opens at once, for as long as it asks (bounded).

        code : of the error, for those who ask why it is open
        """
        self._failures += 1
        last = "" if code is None else f" ({code})"
        if retry_after_s is not None:
            self._open(min(retry_after_s, self._limits.backoff_s_max), f"it asked for a pause{last}")
        elif probe or self._failures >= self._limits.failures_max:
            self._openings += 1
            # The exponent is bounded because 2.0 ** 2000 overflows.
            pause_s = min(self._limits.backoff_s * 2.0 ** min(self._openings - 1, 32), self._limits.backoff_s_max)
            self._open(pause_s, f"a probe failed{last}" if probe else f"{self._failures} failures in a row{last}")

    def _open(self, pause_s: float, why: str) -> None:
        self._open_until = self._clock() + pause_s
        self._changed_at, self._pause_s, self._why = datetime.now(UTC), pause_s, why
        self._probes = 0
        self.epoch += 1

    @property
    def on_trust(self) -> int:
        """The failure count of a circuit that one more failure opens."""
        return self._limits.failures_max - 1


class Entry:
    """One try's say about its circuit: `answering` at most once, then exactly one of the verdicts.

    A verdict is ignored when the circuit has opened or closed since the try began: the success of a
    request sent before an outage says nothing about the outage.
    """

    __slots__ = ("_circuit", "_epoch", "_probe")

    def __init__(self, circuit: Circuit, epoch: int, *, probe: bool) -> None:
        self._circuit = circuit
        self._epoch = epoch
        self._probe = probe

    @property
    def _stale(self) -> bool:
        return self._epoch != self._circuit.epoch

    def answering(self) -> None:
        """Content is coming: a half-open circuit closes on trust, without waiting for a long stream's end."""
        if self._probe and not self._stale:
            self._circuit.close(failures=self._circuit.on_trust)
            self._probe, self._epoch = False, self._circuit.epoch

    def succeeded(self) -> None:
        self._circuit.in_flight -= 1
        if not self._stale:
            self._circuit.close()

    def failed(self, *, retry_after_s: float | None = None, code: str | None = None) -> None:
        self._circuit.in_flight -= 1
        if not self._stale:
            self._circuit.fail(probe=self._probe, retry_after_s=retry_after_s, code=code)

    def left(self) -> None:
        """No verdict: the client went away, or its request was wrong."""
        self._circuit.in_flight -= 1
        self._circuit.leave(probe=self._probe, epoch=self._epoch)
