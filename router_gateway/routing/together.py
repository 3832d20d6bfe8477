"""Queries that come in one turn of the event loop are decided in one batch, so that they share what a call costs.

Of a decision's time most goes to calling numpy, little to the numbers: eight decided together take about twice the time
of one. A query that comes alone gains nothing by waiting for the end of the turn, so whoever calls here expects others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from router_gateway.core.types import Decision, Floats, Query
from router_gateway.routing.in_service import InService
from router_gateway.routing.router import Router
from router_gateway.routing.steering import Steering

TOGETHER_MAX = 8
"""Queries in one batch: the loop is held up by one after the other, and what comes in between is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query and its vector (d,)."""

    query: Query
    vector: Floats


@dataclass(slots=True, kw_only=True, eq=False)
class _Batch:
    """What one router decides at the end of this turn, under one steering."""

    router: Router
    known: InService
    steering: Steering | None
    asked: list[Asked] = field(default_factory=list)
    answers: list[asyncio.Future[Decision | None]] = field(default_factory=list)

    def takes(self, router: Router, known: InService, steering: Steering | None) -> bool:
        same = self.router is router and self.known is known and self.steering is steering
        return same and len(self.asked) < TOGETHER_MAX


def decide(router: Router, known: InService, asked: Sequence[Asked], steering: Steering | None) -> list[Decision]:
    """One decision per query; raises what `Router.route` raises. Its time counts for the policy's pace."""
    vectors = [each.vector for each in asked]
    queries = [each.query for each in asked]
    embedding = vectors[0][None, :] if len(vectors) == 1 else np.stack(vectors)
    work = partial(router.route, queries, embedding, None, steering, partial(known.score, vectors))
    return known.pace.run(work, units=len(asked))


class Turns:
    """Of one event loop."""

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque()

    async def decide(
        self, router: Router, known: InService, asked: Asked, steering: Steering | None
    ) -> Decision | None:
        """The decision, made with all others of this turn. Raises what `Router.route` raises for this query alone.

        None where the policy has turned out slow meanwhile: then it must not be asked here.
        """
        loop = asyncio.get_running_loop()
        if not self._batches:
            loop.call_soon(self._end)
        batch = next((b for b in self._batches if b.takes(router, known, steering)), None)
        if batch is None:
            self._batches.append(batch := _Batch(router=router, known=known, steering=steering))
        answer: asyncio.Future[Decision | None] = loop.create_future()
        batch.asked.append(asked)
        batch.answers.append(answer)
        return await answer

    def _end(self) -> None:
        try:
            _answer(self._batches.popleft())
        finally:
            if self._batches:
                asyncio.get_running_loop().call_soon(self._end)


def _answer(batch: _Batch) -> None:
    """Give everybody a decision, or the reason why there is none; whoever left meanwhile is not asked for."""
    waiting = [(a, answer) for a, answer in zip(batch.asked, batch.answers, strict=True) if not answer.done()]
    if not waiting:
        return
    if not batch.known.pace.quick:
        for _, answer in waiting:
            answer.set_result(None)
        return
    try:
        decisions = decide(batch.router, batch.known, [asked for asked, _ in waiting], batch.steering)
    except Exception as error:
        if len(waiting) == 1:  # no future takes a StopIteration
            waiting[0][1].set_exception(RuntimeError("StopIteration") if isinstance(error, StopIteration) else error)
            return
        for asked, answer in waiting:  # what is wrong with one query is no concern of the others
            _answer(replace(batch, asked=[asked], answers=[answer]))
    except BaseException as error:  # whatever becomes of the loop, nobody is left waiting
        for _, answer in waiting:
            answer.set_exception(RuntimeError(type(error).__name__))
        raise
    else:
        for (_, answer), decision in zip(waiting, decisions, strict=True):
            answer.set_result(decision)
