"""Answers of the gateway, kept for a second or two: ten open tabs ask it once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Question: TypeAlias = tuple[str, str, str]
"""Who asks, the path, the parameters. Who asks is part of it: what one key may see is never shown to another."""

_ENTRIES_MAX = 256


@dataclass(slots=True)
class _Answer:
    came_s: float
    coming: asyncio.Task[Any]


@dataclass(slots=True)
class Cache:
    """Single flight: who asks while an answer is under way waits for that one, and it comes even if all of them leave.

    Failures are not kept.
    """

    entries_max: int = _ENTRIES_MAX
    _answers: OrderedDict[Question, _Answer] = field(default_factory=OrderedDict)
    _asking: set[asyncio.Task[Any]] = field(default_factory=set)

    async def get(self, question: Question, ask: Callable[[], Awaitable[Any]], *, fresh_s: float) -> Any:
        """The answer, at most `fresh_s` old; else what `ask` returns. Raises what it raises.

        0: one that was asked for before now does not do, not even while it is under way.
        """
        known = self._answers.get(question)
        old = known is not None and known.coming.done() and time.monotonic() - known.came_s >= fresh_s
        if known is None or old or fresh_s == 0:
            known = self._ask(question, ask)
        return await asyncio.shield(known.coming)

    def forget(self, owner: str, path: str | None = None) -> None:
        """Drop what was answered to `owner` (of one path); who waits for an answer under way still gets it."""
        for question in [each for each in self._answers if each[0] == owner and path in (None, each[1])]:
            del self._answers[question]

    def _ask(self, question: Question, ask: Callable[[], Awaitable[Any]]) -> _Answer:
        async def asking() -> Any:
            return await ask()

        task = asyncio.get_running_loop().create_task(asking())
        self._asking.add(task)  # held here: it belongs to nobody who asks
        self._answers[question] = mine = _Answer(time.monotonic(), task)
        self._answers.move_to_end(question)
        while len(self._answers) > self.entries_max:
            self._answers.popitem(last=False)

        def came(task: asyncio.Task[Any]) -> None:
            self._asking.discard(task)
            mine.came_s = time.monotonic()
            if (task.cancelled() or task.exception() is not None) and self._answers.get(question) is mine:
                del self._answers[question]

        task.add_done_callback(came)
        return mine
