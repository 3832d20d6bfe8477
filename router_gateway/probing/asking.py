"""Asks an endpoint its probes: through the gateway's own door, within a bound on money, each probe at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from router_gateway.core.body import Body
from router_gateway.core.errors import BudgetExceeded, GatewayError, LedgerFull, LedgerUnavailable
from router_gateway.core.ids import named_uuid, uuid7
from router_gateway.core.types import Endpoint, Feedback, Query
from router_gateway.evaluation.replay import query_of
from router_gateway.gateway import Ask, Gateway, Served
from router_gateway.grading.alone import LIMIT, ask_alone
from router_gateway.grading.heard import text_of
from router_gateway.probing.probes import Probe
from router_gateway.routing.bound import CostBound

REQUESTED_MODEL = "onboard"
"""`requested_model` of the decisions behind probes: they are no traffic."""

_FAILURES_MAX = 3


@dataclass(kw_only=True)
class Tally:
    """What came of the asking.

    graded : answers with a grade; cut : of them, how many stopped at the limit of tokens
    undecided : answers that no check could decide; failed : calls without an answer
    spent_nusd : what the calls cost; of a failed one, what it could have cost
    stopped : why not all were asked, else None
    """

    graded: int = 0
    cut: int = 0
    undecided: int = 0
    failed: int = 0
    spent_nusd: int = 0
    stopped: str | None = None


@dataclass(kw_only=True)
class Prober:
    """Asks one endpoint.

    bound : what a call can cost at most; max_nusd : what all may cost together, never exceeded
    tokens_max : of an answer; at_once : calls under way at the same time
    limit_name : what those who set `max_nusd` call it
    """

    gateway: Gateway
    endpoint: Endpoint
    bound: CostBound
    max_nusd: int
    tokens_max: int
    tenant: str = "default"
    at_once: int = 4
    limit_name: str = "--max-usd"
    tally: Tally = field(default_factory=Tally, init=False)

    def __post_init__(self) -> None:
        self._limit = LIMIT
        self._failures_in_a_row = 0

    def most_nusd(self, probe: Probe) -> int:
        """What asking it costs at most."""
        return self.bound.cost_nusd((self.endpoint.name,), self._query(probe), now=datetime.now(UTC))

    def expected_usd(self, probes: Sequence[Probe]) -> float:
        """What asking them will cost, as the gateway prices requests."""
        column = [endpoint.name for endpoint in self.gateway.endpoints].index(self.endpoint.name)
        return float(self.gateway.cost.expected_usd([self._query(probe) for probe in probes])[:, column].sum())

    async def ask(self, probes: Sequence[Probe], progress: Callable[[int, int], None] = lambda *_: None) -> Tally:
        """Ask them all, as far as the money goes. What the endpoint does wrong is counted, not raised."""
        waiting = list(reversed(probes))
        running: dict[asyncio.Task[None], int] = {}
        async with asyncio.TaskGroup() as tasks:
            while waiting or running:
                if waiting and len(running) < self.at_once and self.tally.stopped is None:
                    most = self.most_nusd(waiting[-1])
                    if self.tally.spent_nusd + sum(running.values()) + most <= self.max_nusd:
                        running[tasks.create_task(self._ask(waiting.pop(), most))] = most
                        continue
                    if not running:
                        self.tally.stopped = f"the next answer might exceed {self.limit_name}"
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                progress(len(probes) - len(waiting) - len(running), len(probes))
        return self.tally

    async def _ask(self, probe: Probe, most_nusd: int) -> None:
        query = self._query(probe)
        try:
            vector = await self.gateway.batcher.embed_one(query.text)
            served = await self._send(probe, query, vector)
        except (BudgetExceeded, LedgerFull, LedgerUnavailable) as error:
            self.tally.stopped = error.message
        except GatewayError as error:
            self.tally.spent_nusd += most_nusd  # it may be billed: see dispatch/trial.py
            self._failed(error.message)
        else:
            self.tally.spent_nusd += sum(attempt.cost_nusd for attempt in served.attempts)
            await self._grade(probe, query, served)

    async def _send(self, probe: Probe, query: Query, vector: Any) -> Served:
        body = Body.of({"model": self.endpoint.name, "messages": _messages(probe)})
        served, self._limit = await ask_alone(
            self.gateway,
            Ask(query=query, body=body, requested_model=REQUESTED_MODEL),
            endpoint=self.endpoint.name,
            tokens_max=self.tokens_max,
            vector=vector,
            detail=f"probe {probe.id}",
            limit=self._limit,
        )
        return served

    async def _grade(self, probe: Probe, query: Query, served: Served) -> None:
        payload = served.answer.payload or {}
        if served.answer.status != 200:
            self._failed(f"endpoint {self.endpoint.name} refuses the request ({served.answer.status})")
            return
        self._failures_in_a_row = 0
        quality = await asyncio.to_thread(probe.grade, text_of(payload) or "")
        if quality is None:
            self.tally.undecided += 1
            return
        self.gateway.feedback(
            Feedback(
                id=feedback_id(self.endpoint, probe),
                query_id=served.decision.query_id,
                at=datetime.now(UTC),
                quality=quality,
                source="verifier",
                tenant=self.tenant,
                comment=f"probe {probe.id}",
            )
        )
        self.tally.graded += 1
        self.tally.cut += _was_cut(payload)

    def _failed(self, why: str) -> None:
        self.tally.failed += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= _FAILURES_MAX:
            self.tally.stopped = f"{_FAILURES_MAX} calls in a row failed; the last: {why}"

    def _query(self, probe: Probe) -> Query:
        """As the API reads a request with this one message, pinned to the endpoint."""
        return replace(
            query_of(probe.prompt, uuid7()),
            tokens_output_max=self.tokens_max,
            tenant=self.tenant,
            pinned=self.endpoint.name,
        )


def feedback_id(endpoint: Endpoint, probe: Probe) -> UUID:
    """Under which the grade stands, the same in every run: what is there already is not asked again."""
    return named_uuid("onboard", endpoint.name, endpoint.model, probe.digest)


def _messages(probe: Probe) -> list[dict[str, str]]:
    return [{"role": "user", "content": probe.prompt}]


def _was_cut(payload: dict[str, Any]) -> bool:
    choices = payload.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and first.get("finish_reason") == "length"
