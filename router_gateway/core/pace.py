"""Whether a piece of work may run on the event loop, by what it has taken so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PROOFS_MAX = 1_280


class Pace:
    """Work begins in threads; once it has proved quick it may run where it is asked for, which saves two hand-overs.

    `proofs` runs of at most `quick_ms` make it quick. One over `slow_ms` undoes that, and twice as many
    proofs are asked for the next time; after a thousand quick ones the past is forgotten. So what hangs holds
    up the loop once at most, and only if it did well before.

    A thread beside a busy loop waits for the interpreter again and again. So a run may take longer by `waits` times
    what its own thread computed; what waits for something else, a network say, passes only if it computes nearly as
    long. `clock` gives seconds, `computed` seconds of the calling thread's processor time.
    """

    def __init__(
        self,
        *,
        proofs: int = 20,
        quick_ms: float = 2.0,
        slow_ms: float = 50.0,
        waits: float = 4.0,
        clock: Callable[[], float] = time.perf_counter,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        self._proofs = self._wanted = proofs
        self._quick_ms = quick_ms
        self._slow_ms = slow_ms
        self._waits = waits
        self._clock, self._computed = clock, computed
        self._seen = 0

    @property
    def quick(self) -> bool:
        """Whether the work may run on the event loop now."""
        return self._seen >= self._wanted

    def run(self, work: Callable[[], T], *, units: int = 1) -> T:
        """What `work` returns or raises; the time counts either way. May be called from any thread.

        Quick is a run whose time is so for each of `units`, slow is what takes too long altogether.
        """
        began, computed = self._clock(), self._computed()
        try:
            return work()
        finally:
            own_ms = (self._computed() - computed) * 1e3 / units
            self._took((self._clock() - began) * 1e3, own_ms, units)

    def _took(self, whole_ms: float, own_ms: float, units: int) -> None:
        if whole_ms > self._slow_ms:
            if self.quick:
                self._wanted = min(2 * self._wanted, _PROOFS_MAX)
            self._seen = 0
        elif own_ms <= self._quick_ms and whole_ms / units <= self._quick_ms + self._waits * own_ms:
            self._seen += 1
            if self._seen >= self._wanted + 1_000:
                self._wanted = self._proofs
