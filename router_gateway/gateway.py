"""The straight line from a request to its answer."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from router_gateway.core.errors import GatewayError, LedgerFull, NotFound, RequestError
from router_gateway.core.money import usd_to_nusd
from router_gateway.core.protocols import CostModel, NamesNeighbours
from router_gateway.core.types import (
    Attempt,
    Comparison,
    Decision,
    Endpoint,
    Feedback,
    Floats,
    Neighbour,
    Queries,
    Query,
    Reason,
)
from router_gateway.dispatch.fallback import FallbackDispatcher
from router_gateway.dispatch.route_model import RouteModel
from router_gateway.dispatch.upstream import Call
from router_gateway.embedding.batcher import Batcher
from router_gateway.exchange import Ask as Ask
from router_gateway.exchange import Meter as Meter
from router_gateway.exchange import Served as Served
from router_gateway.exchange import Timings as Timings
from router_gateway.learning.keepsake import Keepsake
from router_gateway.ledger.budget_keeper import BudgetKeeper, Hold
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.newcomers import NewcomerWatch
from router_gateway.ledger.pace_keeper import PaceKeeper
from router_gateway.lifecycle.rollout import Rollout
from router_gateway.routing.in_service import Roster
from router_gateway.routing.router import Router
from router_gateway.routing.steering import Steering
from router_gateway.routing.together import Asked, Turns, decide

log = logging.getLogger(__name__)

_NEIGHBOURS_SHOWN = 5
_ROOM_WAIT_S = 5.0
"""How long a request waits for room in a full journal before it is refused."""


def log_failure(what: str, error: BaseException) -> None:
    """Log where an unforeseen error came from, without its message: that may quote a prompt."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s\n%s", what, type(error).__name__, where)


@dataclass(kw_only=True)
class Gateway:
    """Everything between the parsed request and the answer's first byte."""

    routers: Mapping[str, Router]
    default_policy: str
    batcher: Batcher
    dispatcher: FallbackDispatcher
    ledger: Ledger
    cost: CostModel
    meter: Meter
    routing_deadline_ms: float
    learns_output_tokens: bool = True
    route_models: Mapping[str, RouteModel] = field(default_factory=dict)
    """By the policy that asks them."""
    budgets: BudgetKeeper | None = None
    rollout: Rollout | None = None
    """Who tries which candidate; it changes `routers` in place."""
    newcomers: NewcomerWatch | None = None
    pacer: PaceKeeper | None = None
    keepsake: Keepsake | None = None

    def __post_init__(self) -> None:
        # Two threads: one stuck policy must not make the next request late as well.
        self._routing_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="routing")
        self._roster = Roster()
        self._turns = Turns()
        self._answering = 0

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self.routers[self.default_policy].endpoints

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of that name; None if the pool has none."""
        return self.routers[self.default_policy].by_name.get(name)

    def router(self, name: str | None, *, param: str = "model") -> Router:
        """The router of a policy by name, or by name@version. Raises NotFound, naming the field `param`."""
        bare, _, version = (name or self.default_policy).partition("@")
        router = self.routers.get(bare)
        if router is None or (version and version != str(router.live().version)):
            raise NotFound(f"no policy {name!r} is live here", param=param, code="model_not_found")
        return router

    def earlier_turns_read(self, policy: str | None) -> int:
        """How many user turns before the newest one this policy reads, or the candidate that is tried in its place."""
        known = self._roster.known(self.router(policy)).earlier_turns
        if self.rollout is None or (split := self.rollout.splits().get(policy or self.default_policy)) is None:
            return known
        return max(known, self._roster.known(split.router).earlier_turns)

    async def answer(self, ask: Ask, decided: Callable[[Decision], None] = lambda _: None) -> Served:
        """Decide, write the decision down, send, and return with the first content byte in hand.

        `decided` is told the decision as soon as it is written down.
        """
        started = time.perf_counter()
        self._answering += 1
        try:
            decision, vector, timings = await self.decide(ask, served=True)
            return await self.carry_out(ask, decision, vector, timings, started=started, decided=decided)
        finally:
            self._answering -= 1

    async def carry_out(
        self,
        ask: Ask,
        decision: Decision,
        vector: Floats | None,
        timings: Timings,
        *,
        started: float,
        decided: Callable[[Decision], None] = lambda _: None,
    ) -> Served:
        """What `answer` does once it is decided; `started` is the `time.perf_counter` when the request came."""
        if not self.ledger.has_room:
            await self.ledger.wait_for_room(_ROOM_WAIT_S)
        hold = await self._set_aside(ask, decision)
        try:
            self.ledger.record_decision(
                ask.query,
                decision,
                requested_model=ask.requested_model,
                embedding=vector,
                expected_nusd=self._expected_nusd(ask.query, decision),
            )
            if self.ledger.waits_for_disk:
                await self.ledger.durable()
        except BaseException:
            if hold is not None:
                hold.close()
            raise
        if self.pacer is not None:
            self.pacer.decided(decision)
        decided(decision)
        timings.overhead_ms = (time.perf_counter() - started) * 1e3
        self.meter.decided(decision, timings)
        call = Call(
            query_id=ask.query.id,
            body=ask.body,
            stream=ask.stream,
            wants_usage=ask.wants_usage,
            deadline_s=_left_of(ask.deadline_s, started),
            headers=ask.headers,
        )
        attempts: list[Attempt] = []
        try:
            answer = await self.dispatcher.send(decision.order, call, partial(self._settle, attempts, hold))
        except BaseException as error:
            if hold is not None:
                hold.close()
            if isinstance(error, GatewayError):
                error.decision, error.attempts = decision, len(attempts)
            raise
        if hold is not None:
            (hold.await_last if answer.streamed else hold.close)()
        if not answer.streamed and self.ledger.waits_for_disk:
            with suppress(LedgerFull):  # the log has it; an answer that is paid for is given
                await self.ledger.durable()
        timings.upstream_ms = (time.perf_counter() - started) * 1e3 - timings.overhead_ms
        return Served(decision=decision, vector=vector, answer=answer, attempts=attempts, timings=timings)

    def _expected_nusd(self, query: Query, decision: Decision) -> int | None:
        """What the call should cost at the endpoint chosen, whether or not routing asked; None if nobody can say."""
        try:
            if decision.cost_usd:
                return usd_to_nusd(decision.cost_usd[decision.endpoints.index(decision.endpoint)])
            names = [endpoint.name for endpoint in self.endpoints]
            return usd_to_nusd(float(self.cost.expected_usd([query])[0, names.index(decision.endpoint)]))
        except (ArithmeticError, ValueError) as error:
            log_failure(f"nobody knows what {query.id} should cost", error)
            return None

    async def _set_aside(self, ask: Ask, decision: Decision) -> Hold | None:
        """What the call may cost, taken from the caller's budgets; None for a call that none of them binds."""
        if self.budgets is None or not (caller := self.budgets.budgets_of(ask.key_id, ask.query.tenant)):
            return None
        return await self.budgets.set_aside(caller, ask.query, decision.order, choices=ask.body.get("n"))

    async def decide(self, ask: Ask, *, served: bool = False) -> tuple[Decision, Floats | None, Timings]:
        """The decision and the vector (d,) it rests on; writes nothing. Routing fails open.

        Candidates in shadow decide what is to be `served` as well, later.
        """
        query, router, timings = ask.query, self.router(ask.policy), Timings()
        if query.pinned is not None:
            return router.decline(query, "pinned", steering=self._steering), None, timings
        if not query.text:
            reason: Reason = "bypass" if query.held is None else "held:tool_state"
            return router.decline(query, reason, "the request has no text to route on", self._steering), None, timings
        name = ask.policy or self.default_policy
        arm = None if self.rollout is None else self.rollout.arm(name, query, ask.key_id)
        decision, vector, earlier = await self._decide(query, router if arm is None else arm.router, timings)
        if served and self.rollout is not None and vector is not None:
            self.rollout.shadowing.offer(name, query, vector, earlier, decision)
        return decision if arm is None else arm.stamped(decision), vector, timings

    @property
    def _steering(self) -> Steering | None:
        return None if self.pacer is None else self.pacer.steering

    async def _decide(
        self, query: Query, router: Router, timings: Timings
    ) -> tuple[Decision, Floats | None, Floats | None]:
        """The decision, the vector (d,), and the vectors (1, T, d) of earlier turns, where they are read."""
        vector = earlier = None
        try:
            async with self._routing_clock(query, router):
                started = time.perf_counter()
                vector, earlier = await self._embed(query)
                embedded = time.perf_counter()
                timings.embed_ms = (embedded - started) * 1e3
                decision = await self._route(router, query, vector, earlier)
                timings.route_ms = (time.perf_counter() - embedded) * 1e3
                return decision, vector, earlier
        except RequestError:  # nothing is eligible: the client must hear it
            raise
        except TimeoutError:
            detail = f"routing took longer than {self.routing_deadline_ms:g} ms"
        except GatewayError as error:
            detail = error.code
        except Exception as error:
            detail = type(error).__name__
            log_failure(f"routing failed; the default endpoint serves {query.id}", error)
        return router.decline(query, "fallback:error", detail, self._steering), vector, earlier

    def _routing_clock(self, query: Query, router: Router) -> AbstractAsyncContextManager[object]:
        """None where everything will run on the spot: nothing could be interrupted, and a clock costs microseconds."""
        if not query.earlier and self.batcher.at_once and self._roster.known(router).pace.quick:
            return nullcontext()
        return asyncio.timeout(self.routing_deadline_ms / 1e3)

    async def _embed(self, query: Query) -> tuple[Floats, Floats | None]:
        """The query's vector (d,), and those of earlier turns (1, T, d); the cache mostly has them from their day."""
        if not query.earlier:
            return await self.batcher.embed_one(query.text), None
        *before, vector = await asyncio.gather(*map(self.batcher.embed_one, (*query.earlier, query.text)))
        return vector, np.stack(before)[None]

    async def _route(self, router: Router, query: Query, vector: Floats, earlier: Floats | None) -> Decision:
        """In a thread, until the policy in service has proved quick; then with whoever comes at the same time."""
        known, steering = self._roster.known(router), self._steering
        if known.pace.quick and earlier is None:
            asked = Asked(query=query, vector=vector)
            if self._answering <= 1:
                return decide(router, known, [asked], steering)[0]
            decision = await self._turns.decide(router, known, asked, steering)
            if decision is not None:
                return decision
        work = partial(router.route, [query], vector[None, :], earlier, steering, partial(known.score, [vector]))
        if known.pace.quick:
            return known.pace.run(work)[0]
        async with asyncio.timeout(self.routing_deadline_ms / 1e3):  # it may have been quick when the request began
            loop = asyncio.get_running_loop()
            return (await loop.run_in_executor(self._routing_threads, known.pace.run, work))[0]

    def neighbours(self, ask: Ask, vector: Floats | None, decision: Decision) -> list[Neighbour] | None:
        """The past queries the decision leaned on, where its policy can name them; no text is kept of them."""
        tried = None if self.rollout is None else self.rollout.tried(ask.policy or self.default_policy, decision)
        router = tried or self.router(ask.policy)
        policy = router.live().policy
        if vector is None or not isinstance(policy, NamesNeighbours):
            return None
        queries = Queries(
            text=(ask.query.text,),
            embedding=vector[None, :],
            tokens_input=np.array([ask.query.tokens_input]),
            space=router.space,
        )
        try:
            return policy.neighbours(queries, _NEIGHBOURS_SHOWN)[0]
        except Exception as error:  # an answer that is paid for must not fail for want of its explanation
            log_failure(f"{router.live().label} names no neighbours", error)
            return None

    def feedback(self, feedback: Feedback | Comparison) -> None:
        """Write down what somebody said of an answer, or of two."""
        if isinstance(feedback, Comparison):
            self.ledger.record_comparison(feedback)
        else:
            self.ledger.record_feedback(feedback)
        self.meter.said(feedback)

    async def holds(self, query: Query) -> Query:
        """The query, held to the endpoint that asked for the tool whose result it carries.

        A database that takes longer than routing may is not waited for: this process's answers count alone.
        """
        if query.session is None:
            return query
        try:
            async with asyncio.timeout(self.routing_deadline_ms / 1e3):
                held = await asyncio.to_thread(self.ledger.last_endpoint, query.session)
        except TimeoutError:
            held = self.ledger.last_endpoint_here(query.session)
        return replace(query, held=held)

    async def aclose(self) -> None:
        """Stop taking work and write everything down."""
        try:
            await self.dispatcher.aclose()
            await self.batcher.aclose()
            for model in self.route_models.values():
                await model.aclose()
        finally:  # whatever failed to close, what was spent is written down
            self._routing_threads.shutdown(wait=False, cancel_futures=True)
            for watch in (self.newcomers, self.budgets, self.pacer, self.keepsake):
                if watch is not None:
                    await asyncio.to_thread(watch.close)
            await asyncio.to_thread(self.ledger.close)

    def _settle(self, attempts: list[Attempt], hold: Hold | None, attempt: Attempt) -> None:
        attempts.append(attempt)
        self.ledger.record_attempt(attempt)
        if hold is not None:
            hold.add(attempt)
        if self.pacer is not None:
            self.pacer.attempted(attempt)
        if self.learns_output_tokens:
            self.cost.observe([attempt])
        self.meter.attempted(attempt)


def _left_of(deadline_s: float | None, started: float) -> float | None:
    """What deciding has left of the request's deadline."""
    return None if deadline_s is None else max(deadline_s - (time.perf_counter() - started), 0.0)
