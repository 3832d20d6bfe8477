"""Onboards an endpoint in the background: the verb's work, one at a time, with a step in the ledger after each batch.

Whoever is killed leaves whole rows: answers that were graded are known to the next run, which asks nothing twice; the
run itself shows as interrupted once its lease is over, or its process is seen to be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from router_gateway.core.errors import Conflict, GatewayError, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Endpoint
from router_gateway.evaluation.replay import query_of
from router_gateway.gateway import Gateway, log_failure
from router_gateway.ledger.leases import Lease
from router_gateway.ledger.onboarding_rows import STARTED, STOP, OnboardingRows, Step
from router_gateway.probing import placement
from router_gateway.probing.asking import Prober
from router_gateway.probing.probes import Probe, packaged_probes, read_probes
from router_gateway.routing.bound import CostBound

AT_ONCE = 4
"""Calls under way at the same time, and probes between two steps."""

_LEASE, _LEASE_S = "onboarding", 30.0
_DRAIN_S = 10.0
_HANDOVER_S, _AGAIN_S = 5.0, 0.05
OVER = frozenset({"done", "incomplete", "stopped", "failed", "interrupted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be done. budget_nusd : what all answers may cost together; tokens_max : of an answer."""

    endpoint: Endpoint
    probes: int
    budget_nusd: int
    tokens_max: int
    tenant: str
    author: str


@dataclass(kw_only=True)
class _Run:
    id: UUID
    wish: Wish
    prober: Prober
    plan: placement.Plan | None = None
    steps: int = 0
    planned: Mapping[str, Any] = field(default_factory=dict)


class Onboarder:
    """Lives on the event loop; `aclose` before the gateway's own.

    teach : one step of the learner, which says what became of each policy; blocks
    prompt_margin : as of budgets, by how much a prompt may be longer than it was counted
    """

    def __init__(self, gateway: Gateway, *, teach: Callable[[], Mapping[str, str]], prompt_margin: float) -> None:
        self._gateway = gateway
        self._teach = teach
        self._bound = CostBound(endpoints={e.name: e for e in gateway.endpoints}, prompt_margin=prompt_margin)
        self._rows = OnboardingRows(gateway.ledger.engine)
        self._lease = Lease(gateway.ledger.engine, _LEASE)
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self, wish: Wish) -> UUID:
        """Begin; returns its id. Raises Conflict while another one runs, in any process."""
        if wish.endpoint.provider == "replay":
            raise RequestError(
                f"endpoint {wish.endpoint.name} is replayed from recordings: there is nobody to ask", param="endpoint"
            )
        async with self._starting:
            return await self._start(wish)

    async def _start(self, wish: Wish) -> UUID:
        if not await self._taken():
            raise Conflict("another onboarding is under way", param="endpoint", hint="stop it, or wait for its end")
        prober = Prober(
            gateway=self._gateway,
            endpoint=wish.endpoint,
            bound=self._bound,
            max_nusd=wish.budget_nusd,
            tokens_max=wish.tokens_max,
            tenant=wish.tenant,
            at_once=AT_ONCE,
            limit_name="`budget_usd`",
        )
        run = _Run(id=uuid7(), wish=wish, prober=prober)
        asked_for = {"probes": wish.probes, "budget_nusd": wish.budget_nusd, "max_tokens": wish.tokens_max}
        await self._record(run, "running", asked_for, number=STARTED)
        self._task = asyncio.get_running_loop().create_task(self._guarded(run))
        return run.id

    async def _taken(self) -> bool:
        """Whether it is our turn. Who says that it is over gives the lease back a moment later: that is waited for."""
        for _ in range(round(_HANDOVER_S / _AGAIN_S)):
            ours = self._task is not None and not self._task.done()  # `take` would renew our own lease
            if not ours and await asyncio.to_thread(self._lease.take, _LEASE_S):
                return True
            if not await asyncio.to_thread(self._newest_is_over):
                return False
            await asyncio.sleep(_AGAIN_S)
        return False

    def _newest_is_over(self) -> bool:
        return all(self._rows.steps(each)[-1].state in OVER for each in self._rows.newest(1))

    async def stop(self, onboarding_id: UUID, author: str) -> None:
        """Ask for its end: calls under way are finished, and what they answer counts. Raises NotFound."""
        steps = await asyncio.to_thread(self._rows.steps, onboarding_id)
        if steps[-1].state not in OVER:
            await asyncio.to_thread(
                self._rows.append,
                Step(
                    onboarding_id=onboarding_id,
                    number=STOP,
                    endpoint=steps[0].endpoint,
                    state="stopping",
                    author=author,
                    found={},
                ),
            )

    def steps(self, onboarding_id: UUID) -> tuple[str, list[Step]]:
        """Its state now, and its steps so far. Blocks; raises NotFound."""
        steps = self._rows.steps(onboarding_id)
        state = steps[-1].state
        if state in OVER:
            return state, steps
        if not self._lease.is_held():
            return "interrupted", steps
        return "stopping" if self._rows.stop_asked(onboarding_id) else state, steps

    def newest(self, limit: int) -> list[tuple[UUID, str, list[Step]]]:
        """The newest onboardings with their states and steps. Blocks."""
        return [(each, *self.steps(each)) for each in self._rows.newest(limit)]

    async def aclose(self) -> None:
        """Give up what is under way; its calls are written down with what they may cost."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _guarded(self, run: _Run) -> None:
        keeping = asyncio.get_running_loop().create_task(self._keep_lease())
        try:
            await self._work(run)
        except asyncio.CancelledError:
            await self._last(run, "interrupted", "the gateway stopped")
            raise
        except GatewayError as error:
            await self._last(run, "failed", error.message)
        except Exception as error:  # its message may quote an answer
            log_failure("an onboarding failed", error)
            await self._last(run, "failed", type(error).__name__)
        finally:
            keeping.cancel()
            with suppress(GatewayError):
                await asyncio.to_thread(self._lease.release)

    async def _work(self, run: _Run) -> None:
        ledger, prober = self._gateway.ledger, run.prober
        run.plan = made = await self._planned(run.wish)
        left = await asyncio.to_thread(placement.waiting, ledger, run.wish.endpoint, made.probes)
        run.planned = {
            "planned": len(made.probes),
            "own_traffic": made.own_traffic,
            "expected_usd": prober.expected_usd(left) if left else 0.0,
        }
        await self._step(run, "running")
        while left and prober.tally.stopped is None:
            batch, left = left[:AT_ONCE], left[AT_ONCE:]
            await prober.ask(batch)
            await self._step(run, "running")
            stopping = await asyncio.to_thread(self._rows.stop_asked, run.id)
            if stopping and left:
                prober.tally.stopped = "somebody stopped it"
                await self._finish(run, "stopped")
                return
        complete = prober.tally.stopped is None and not prober.tally.failed
        await self._finish(run, "done" if complete else "incomplete")

    async def _planned(self, wish: Wish) -> placement.Plan:
        probes = await asyncio.to_thread(lambda: read_probes(packaged_probes()))
        vectors = await self._vectors(probes)
        space, ledger = self._gateway.router(None).space, self._gateway.ledger
        return await asyncio.to_thread(
            placement.plan_of, ledger, vectors, space, probes, min(wish.probes, len(probes)), wish.endpoint
        )

    async def _vectors(self, probes: Sequence[Probe]) -> Any:
        """float32 (Q, d), one after the other: requests come first."""
        vectors = []
        for probe in probes:
            vectors.append(await self._gateway.batcher.embed_one(query_of(probe.prompt, uuid7()).text))
            await asyncio.sleep(0)
        return np.stack(vectors)

    async def _finish(self, run: _Run, state: str) -> None:
        """Teach the policies what was learned here, and say where everybody stands."""
        taught = await asyncio.to_thread(self._teach)
        standings = await self._standings(run)
        rows = [asdict(each) for each in standings]
        await self._record(run, state, {**self._found(run, standings), "taught": dict(taught), "standings": rows})

    async def _step(self, run: _Run, state: str) -> None:
        await self._record(run, state, self._found(run, await self._standings(run)))

    async def _standings(self, run: _Run) -> list[placement.Standing]:
        assert run.plan is not None
        gateway = self._gateway

        def read(made: placement.Plan) -> list[placement.Standing]:
            gateway.ledger.drain(_DRAIN_S)
            return placement.standings(gateway.ledger, gateway.endpoints, gateway.router(None).live(), made)

        return await asyncio.to_thread(read, run.plan)

    def _found(self, run: _Run, standings: Sequence[placement.Standing]) -> dict[str, Any]:
        own = next(each for each in standings if each.endpoint == run.wish.endpoint.name)
        interval = None if own.interval is None else asdict(own.interval)
        told = {"answered": own.asked, "right": own.right, "interval": interval}
        return {**run.planned, **asdict(run.prober.tally), **told, "expected": own.expected, "doubt": own.doubt}

    async def _last(self, run: _Run, state: str, why: str) -> None:
        tally = asdict(run.prober.tally) | {"stopped": why}
        with suppress(GatewayError):
            await self._record(run, state, {**run.planned, **tally})

    async def _record(self, run: _Run, state: str, found: Mapping[str, Any], number: int | None = None) -> None:
        run.steps += 1
        step = Step(
            onboarding_id=run.id,
            number=run.steps if number is None else number,
            endpoint=run.wish.endpoint.name,
            state=state,
            author=run.wish.author,
            found=found,
        )
        await asyncio.to_thread(self._rows.append, step)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_S / 3)
            with suppress(GatewayError):
                await asyncio.to_thread(self._lease.take, _LEASE_S)
