"""The one door through which answers come to be graded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from router_gateway.core.checks import Check
from router_gateway.dispatch.fallback import FallbackDispatcher
from router_gateway.gateway import Ask, Gateway, Served
from router_gateway.grading.calls import OwnCalls
from router_gateway.grading.heard import Listener, Said
from router_gateway.grading.judge import Judge, Sample
from router_gateway.grading.settings import Judging
from router_gateway.grading.side_by_side import SideBySide
from router_gateway.grading.verifier import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Grader:
    """Decides of each answer whether anybody wants to hear it. `judge` None: no model judges.

    `side_by_side` has two endpoints answer for a person to compare.
    """

    verifier: Verifier
    side_by_side: SideBySide
    judge: Judge | None = None

    @classmethod
    def of(cls, gateway: Gateway, dispatcher: FallbackDispatcher, settings: Judging) -> Self:
        """For a gateway; `dispatcher` carries judges' calls and second answers, apart from those of requests."""
        judge = None
        if settings.enabled:
            judge = Judge(gateway, OwnCalls(gateway, dispatcher, timeout_s=settings.timeout_s), settings)
        verifier, side_by_side = Verifier(gateway.feedback), SideBySide(gateway)
        return cls(verifier=verifier, side_by_side=side_by_side, judge=judge)

    async def start(self) -> None:
        """To be awaited before the first request, on the event loop that serves."""
        if self.judge is not None:
            await self.judge.start()

    def listener(self, ask: Ask, served: Served, checks: Sequence[Check]) -> Listener | None:
        """Who hears this answer, None for nobody: then the request pays nothing."""
        if served.answer.status != 200 or not (checks or self.judge):
            return None
        query, body, answered = ask.query, ask.body, served.answer.endpoint.name
        judge = self.judge
        lot = None if judge is None else judge.lot(query, body, answered)
        if not checks and lot is None:
            return None

        def deliver(said: Said) -> None:
            if checks:
                self.verifier.submit(query.id, query.tenant, checks, said)
            if judge is not None and lot is not None:
                judge.submit(Sample(query=query, body=body, answered=answered, said=said, lot=lot))

        return Listener(deliver)

    async def aclose(self) -> None:
        """Check what was heard, and stop. What waits for a judge is not judged."""
        if self.judge is not None:
            await self.judge.aclose()
        await asyncio.to_thread(self.verifier.close)
