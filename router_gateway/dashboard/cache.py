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
    asked_s: float
    coming: asyncio.Future[Any]


@dataclass(slots=True)
class Cache:
    """Single flight: who asks while an answer is under way waits for that one. Failures are not kept."""

    entries_max: int = _ENTRIES_MAX
    _answers: OrderedDict[Question, _Answer] = field(default_factory=OrderedDict)

    async def get(self, question: Question, ask: Callable[[], Awaitable[Any]], *, fresh_s: float) -> Any:
        """The answer, at most `fresh_s` old; else what `ask` returns. Raises what it raises."""
        while (known := self._answers.get(question)) is not None:
            if not known.coming.done() or time.monotonic() - known.asked_s < fresh_s:
                try:
                    return await asyncio.shield(known.coming)
                except asyncio.CancelledError:
                    if not known.coming.cancelled():
                        raise  # it is us who were cancelled
                    continue  # who asked has gone: ask ourselves
            break
        return await self._ask(question, ask)

    def forget(self, owner: str) -> None:
        """Drop everything that was answered to `owner`; what is under way is finished, for those who wait."""
        for question in [question for question in self._answers if question[0] == owner]:
            del self._answers[question]

    async def _ask(self, question: Question, ask: Callable[[], Awaitable[Any]]) -> Any:
        coming: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        coming.add_done_callback(_looked_at)
        self._answers[question] = mine = _Answer(time.monotonic(), coming)
        self._answers.move_to_end(question)
        while len(self._answers) > self.entries_max:
            self._answers.popitem(last=False)
        try:
            found = await ask()
        except BaseException as error:
            if self._answers.get(question) is mine:
                del self._answers[question]
            if isinstance(error, asyncio.CancelledError):
                coming.cancel()
            else:
                coming.set_exception(error)
            raise
        mine.asked_s = time.monotonic()
        coming.set_result(found)
        return found


def _looked_at(coming: asyncio.Future[Any]) -> None:
    if not coming.cancelled():
        coming.exception()  # whoever asked raises it; with nobody waiting beside, nothing is lost
