"""Budgets as the gateway sees them: set money aside before a call, settle it after.

The list of budgets is read every few seconds, so a caller without one costs a look into a dictionary and no
database round trip. The price of that: a budget that was just made binds within `refresh_s`. A changed limit
binds at once, since the database compares with its own.

While the database is away a caller with a budget gets LedgerUnavailable: nobody is silently unlimited.
Settlements that could not be written are tried again; those of a process that died are made from the ledger's
attempts once the reservation expires.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Engine

from router_gateway.core.errors import GatewayError, LedgerUnavailable
from router_gateway.core.types import Attempt, Query
from router_gateway.ledger import reservations
from router_gateway.ledger.budgets import Budget, Budgets, BudgetState
from router_gateway.routing.bound import CostBound

logger = logging.getLogger(__name__)

_WAIT_S = 5.0
"""How long a request waits for the database before it is refused."""
_SWEEP_EVERY_S = 60.0
_UNSETTLED_MAX = 100_000
_CLOSE_S = 10.0
_GRACE = timedelta(minutes=10)
_THREADS = {"sqlite": 1}  # it has one writer at a time: more would only wait for each other
_THREADS_ELSEWHERE = 3


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Hold:
    """Money set aside for one call. `add` every attempt; the books close once, with the total of all."""

    def __init__(self, settle: Callable[[int], None]) -> None:
        self._settle = settle
        self._total_nusd = 0
        self._last = False
        self._closed = False

    def add(self, attempt: Attempt) -> None:
        """Count an attempt that ended."""
        self._total_nusd += attempt.cost_nusd
        if self._last:
            self.close()

    def await_last(self) -> None:
        """The answer is being streamed: the attempt that ends next is the last one."""
        self._last = True

    def close(self) -> None:
        """No more attempts will come: settle. Does not wait for the database; later calls do nothing."""
        if not self._closed:
            self._closed = True
            self._settle(self._total_nusd)


class BudgetKeeper:
    """Call `start` once and `close` once. `now` is the clock that tells which hour, day and month it is."""

    def __init__(
        self, engine: Engine, *, bound: CostBound, refresh_s: float = 5.0, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._engine = engine
        self._bound = bound
        self._register = Budgets(engine)
        self._refresh_s = refresh_s
        self._now = now
        self._states: tuple[BudgetState, ...] = ()
        self._by_subject: Mapping[tuple[str, str], tuple[Budget, ...]] = {}
        self._unsettled: deque[tuple[UUID, int]] = deque(maxlen=_UNSETTLED_MAX)
        self._stopping = threading.Event()
        threads = _THREADS.get(engine.dialect.name, _THREADS_ELSEWHERE)
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="budgets")
        self._thread = threading.Thread(target=self._run, name="budget-keeper", daemon=True)

    def start(self) -> None:
        """Read the budgets and keep them fresh. Raises LedgerUnavailable: unread budgets must not be no budgets."""
        self.refresh()
        self._thread.start()

    def refresh(self) -> None:
        """Read the budgets now."""
        states = tuple(self._register.states(self._now()))
        by_subject: dict[tuple[str, str], tuple[Budget, ...]] = {}
        for state in states:
            of = (state.budget.scope, state.budget.subject)
            by_subject[of] = (*by_subject.get(of, ()), state.budget)
        self._by_subject, self._states = by_subject, states

    def remaining_ratios(self) -> dict[str, float]:
        """By scope, the least part in [0, 1] that is left of any of its budgets, when they were last read."""
        least: dict[str, float] = {}
        for state in self._states:
            scope = state.budget.scope
            least[scope] = min(state.remaining_ratio, least.get(scope, 1.0))
        return least

    def budgets_of(self, key_id: UUID | None, tenant: str) -> tuple[Budget, ...]:
        """The budgets that bind this caller: the gateway's, the tenant's and the key's."""
        known = self._by_subject
        if not known:
            return ()
        subjects = (("gateway", ""), ("tenant", tenant), ("key", str(key_id)))
        return tuple(budget for subject in subjects for budget in known.get(subject, ()))

    async def set_aside(
        self, caller: Sequence[Budget], query: Query, order: Sequence[str], *, choices: object = 1
    ) -> Hold | None:
        """Set aside what a call along `order` may cost, in a thread; None when nothing there costs anything.

        choices : the body's `n`
        Raises BudgetExceeded, and LedgerUnavailable when the database does not answer in time; then, and when
        the caller is cancelled, whatever was or will still be set aside is given back.
        """
        query_id, now = query.id, self._now()
        amount_nusd = self._bound.cost_nusd(order, query, choices=choices, now=now)
        if amount_nusd == 0:
            return None
        expires_at = now + timedelta(seconds=self._bound.lasts_s(order)) + _GRACE
        take = partial(reservations.reserve, self._engine, caller, query_id, amount_nusd)
        taking = self._threads.submit(take, now=now, expires_at=expires_at)
        try:
            async with asyncio.timeout(_WAIT_S):
                await asyncio.wrap_future(taking)
        except TimeoutError:
            taking.add_done_callback(lambda _: self._give_back(query_id))
            raise LedgerUnavailable("the caller's budget cannot be checked now", hint="try again later") from None
        except (asyncio.CancelledError, LedgerUnavailable):
            # The thread may be at it still, and a commit whose answer was lost has happened all the same.
            taking.add_done_callback(lambda _: self._give_back(query_id))
            raise
        return Hold(partial(self._settle, query_id))

    def close(self) -> None:
        """Settle what ended, as far as the database takes it, and stop. The rest expires and is swept."""
        self._stopping.set()
        self._threads.shutdown(wait=True)
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)
        self._retry()

    def _give_back(self, query_id: UUID) -> None:
        self._settle(query_id, 0)

    def _settle(self, query_id: UUID, total_nusd: int) -> None:
        try:
            settling = self._threads.submit(reservations.settle, self._engine, query_id, total_nusd)
        except RuntimeError:  # closing: `close` writes it
            self._unsettled.append((query_id, total_nusd))
            return
        settling.add_done_callback(partial(self._settled, query_id, total_nusd))

    def _settled(self, query_id: UUID, total_nusd: int, settling: Future[None]) -> None:
        if settling.exception() is not None:
            logger.warning("a settlement waits: %s", type(settling.exception()).__name__)
            self._unsettled.append((query_id, total_nusd))

    def _run(self) -> None:
        swept_s = time.monotonic() - _SWEEP_EVERY_S
        while not self._stopping.wait(self._refresh_s):
            try:
                self.refresh()
                self._retry()
                if time.monotonic() - swept_s >= _SWEEP_EVERY_S:
                    reservations.sweep(self._engine, self._now())
                    swept_s = time.monotonic()
            except GatewayError as error:
                logger.warning("budgets are as they were when last read: %s", error.code)
            except Exception as error:  # a bug here must not end the thread that gives money back
                logger.error("the budget keeper failed: %s", type(error).__name__)

    def _retry(self) -> None:
        """Write the settlements that failed; stops at the first that fails again."""
        for _ in range(len(self._unsettled)):
            query_id, total_nusd = self._unsettled[0]
            try:
                reservations.settle(self._engine, query_id, total_nusd)
            except GatewayError as error:
                logger.warning("%d settlements wait: %s", len(self._unsettled), error.code)
                return
            self._unsettled.popleft()
