"""Calls that the gateway makes on its own account: written down, priced and bounded like everybody's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from router_gateway.core.body import Body
from router_gateway.core.errors import LedgerFull, UpstreamError
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.core.types import Attempt, Decision, Query
from router_gateway.dispatch.fallback import FallbackDispatcher
from router_gateway.dispatch.upstream import Call
from router_gateway.dispatch.usage import count_request_tokens
from router_gateway.gateway import Gateway
from router_gateway.grading.heard import text_of


class OwnCalls:
    """Asks one endpoint at a time, as the tenant of judging.

    `dispatcher` has circuits of its own: an endpoint that fails as a judge is not taken from those who asked for it.
    """

    def __init__(self, gateway: Gateway, dispatcher: FallbackDispatcher, *, timeout_s: float) -> None:
        self._gateway = gateway
        self._dispatcher = dispatcher
        self._timeout_s = timeout_s

    async def ask(self, call_id: UUID, endpoint: str, body: Body, *, detail: str, output_max: int | None) -> str:
        """The text of the endpoint's answer. `call_id` names the decision and `detail` says what it was for.

        Raises BudgetExceeded, LedgerFull, LedgerUnavailable or UpstreamError; what it cost is written down even then.
        """
        gateway = self._gateway
        query = Query(
            id=call_id,
            text="",
            tokens_input=await asyncio.to_thread(count_request_tokens, body),
            tokens_output_max=output_max,
            tenant=JUDGING_TENANT,
        )
        if not gateway.ledger.has_room:  # requests need what room comes next
            raise LedgerFull("the ledger has no room for a judge's call")
        hold = None
        if gateway.budgets is not None and (ours := gateway.budgets.budgets_of(None, JUDGING_TENANT)):
            hold = await gateway.budgets.set_aside(ours, query, (endpoint,))

        def settle(attempt: Attempt) -> None:
            gateway.ledger.record_attempt(attempt)
            if hold is not None:
                hold.add(attempt)
            gateway.meter.attempted(attempt)

        try:
            decision = self._decision(query, endpoint, detail)
            gateway.ledger.record_decision(query, decision, requested_model=endpoint, embedding=None)
            call = Call(query_id=call_id, body=body, stream=False, deadline_s=self._timeout_s)
            answer = await self._dispatcher.send((endpoint,), call, settle)
        finally:
            if hold is not None:
                hold.close()
        text = text_of(answer.payload or {}) if answer.status == 200 else None
        if not text:
            raise UpstreamError(f"endpoint {endpoint}: refused the question or said nothing")
        return text

    def _decision(self, query: Query, endpoint: str, detail: str) -> Decision:
        return Decision(
            query_id=query.id,
            at=datetime.now(UTC),
            endpoint=endpoint,
            order=(endpoint,),
            propensity=0.0,
            worth_usd=self._gateway.router(None).worth_usd,
            reason="pinned",
            detail=detail,
        )
