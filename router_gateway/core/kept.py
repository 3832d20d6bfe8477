"""Answers that took seconds, kept for a while: whoever asks the same again gets the same, with its age."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class _Answer:
    values: dict[str, Any]
    computed_at: str
    since_s: float


class Kept:
    """At most `entries_max` answers in plain values, the longest unasked forgotten first. For one event loop.

    clock : seconds, ever growing
    """

    def __init__(self, entries_max: int = 32, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries_max = entries_max
        self._clock = clock
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._under_way: dict[Hashable, asyncio.Future[_Answer]] = {}

    async def get(
        self, key: Hashable, age_s_max: float, compute: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """The answer to `key` with `computed_at` and `age_s`; computed anew where it is older than `age_s_max`.

        Who asks while it is computed waits for the same computation.
        """
        now = self._clock()
        found = self._answers.get(key)
        if found is None or now - found.since_s > age_s_max:
            found = await self._once(key, compute)
            now = self._clock()
        else:
            self._answers.move_to_end(key)
        return {**found.values, "computed_at": found.computed_at, "age_s": round(now - found.since_s, 1)}

    async def _once(self, key: Hashable, compute: Callable[[], Awaitable[dict[str, Any]]]) -> _Answer:
        running = self._under_way.get(key)
        if running is None:
            running = self._under_way[key] = asyncio.ensure_future(self._keep(key, compute))
            running.add_done_callback(lambda done: self._under_way.pop(key, None))
        return await asyncio.shield(running)  # one that hangs up takes it from nobody else

    async def _keep(self, key: Hashable, compute: Callable[[], Awaitable[dict[str, Any]]]) -> _Answer:
        values = await compute()
        found = self._answers[key] = _Answer(values, datetime.now(UTC).isoformat(), self._clock())
        self._answers.move_to_end(key)
        while len(self._answers) > self._entries_max:
            self._answers.popitem(last=False)
        return found
