"""The one door through which answers come to be graded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from router_gateway.core.checks import Check
from router_gateway.gateway import Ask, Served
from router_gateway.grading.heard import Listener, Said
from router_gateway.grading.verifier import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Grader:
    """Decides of each answer whether anybody wants to hear it."""

    verifier: Verifier

    def listener(self, ask: Ask, served: Served, checks: Sequence[Check]) -> Listener | None:
        """Who hears this answer, None for nobody: then it costs the request nothing."""
        if served.answer.status != 200 or not checks:
            return None

        def deliver(said: Said) -> None:
            if checks:
                self.verifier.submit(ask.query.id, ask.query.tenant, checks, said)

        return Listener(deliver)

    async def aclose(self) -> None:
        """Grade what was heard, as far as that is quick, and stop."""
        await asyncio.to_thread(self.verifier.close)
