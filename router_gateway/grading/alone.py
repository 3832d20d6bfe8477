"""One call to one endpoint and to nobody else, which nobody decided: of such are probes and answers side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from router_gateway.core.body import Body
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Floats
from router_gateway.exchange import Ask, Served, Timings
from router_gateway.gateway import Gateway

LIMIT, LIMIT_OF_REASONERS = "max_tokens", "max_completion_tokens"
"""What endpoints call the bound on an answer's tokens; models that think know the second name only."""


async def ask_alone(
    gateway: Gateway,
    ask: Ask,
    *,
    endpoint: str,
    tokens_max: int,
    vector: Floats | None,
    detail: str,
    limit: str = LIMIT,
    again: Callable[[], UUID] = uuid7,
) -> tuple[Served, str]:
    """The endpoint's answer, whatever its status, and by which name it takes the limit of tokens.

    Decision and attempt are written down with reason `pinned` and propensity 0, and budgets bind. An endpoint that
    refuses the first name of the limit is asked once more, under the id that `again` gives. Raises GatewayError.
    """
    router = gateway.router(None)
    while True:
        asked = replace(ask, body=Body.of({**ask.body.values, limit: tokens_max}))
        decision = replace(
            router.decline(asked.query, "pinned", detail),
            endpoint=endpoint,
            order=(endpoint,),  # nobody else's answer tells anything of this endpoint
            embedding_space="none" if vector is None else router.space,
        )
        served = await gateway.carry_out(asked, decision, vector, Timings(), started=time.perf_counter())
        refused = served.answer.status != 200 and LIMIT_OF_REASONERS in str(served.answer.payload)
        if not refused or limit == LIMIT_OF_REASONERS:
            return served, limit
        limit, ask = LIMIT_OF_REASONERS, replace(ask, query=replace(ask.query, id=again()))
