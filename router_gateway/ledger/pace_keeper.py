"""The pacer in service: told of every decision and every attempt, kept honest by the ledger, off the request path.

A request reads one reference (`steering`) and leaves its decision in a queue; a thread of the keeper's does the rest.
Every `refresh_s` it asks the ledger what all processes together have spent and how many requests came, so that several
processes share one budget, and how answers were rated. A restart goes on from the ledger; no file is kept. While the
database is away the pacer goes on with what it knows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from sqlalchemy import Engine

from router_gateway.core.errors import GatewayError
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Attempt, Decision, Floats
from router_gateway.ledger import pace_reads
from router_gateway.routing.pacing import BudgetPacer, expected_usd
from router_gateway.routing.plans import PerPeriod
from router_gateway.routing.steering import Steering

log = logging.getLogger(__name__)

_WAITING_MAX = 100_000
"""Decisions and attempts not yet told to the pacer; more are dropped, which the next refresh makes good."""
_OPEN_MAX = 20_000
_RATED_MAX = 2_000
_PAST_PERIODS = 7
_OPEN_S = 900.0  # a call without an attempt for so long will have none


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where the budget stands: of this period, or of the requests since the start where there is none."""

    spent_usd: float = 0.0
    planned_usd: float = 0.0


class PaceKeeper:
    """Call `start` once and `close` once.

    changes : how many endpoints policies found changed so far
    tick_s : how often the queue is emptied, and so how old the dial can be
    now : the clock that tells which hour or day it is
    """

    def __init__(
        self,
        engine: Engine,
        pacer: BudgetPacer,
        *,
        changes: Callable[[], int] = lambda: 0,
        refresh_s: float = 5.0,
        tick_s: float = 0.1,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._engine = engine
        self._pacer = pacer
        self._refresh_s, self._tick_s, self._now = refresh_s, tick_s, now
        self._changes, self._found = changes, changes()
        self._waiting: deque[tuple[Decision | Attempt, float]] = deque(maxlen=_WAITING_MAX)
        self._open: OrderedDict[UUID, tuple[Decision, float]] = OrderedDict()
        self._steering = pacer.steering
        self._account = Account()
        self._seq = 0
        self._period, self._bin, self._counts = -1, 0, np.zeros(0)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pace-keeper", daemon=True)

    @property
    def steering(self) -> Steering:
        """What the router is told now. Reading it costs nothing."""
        return self._steering

    @property
    def account(self) -> Account:
        """Spend against plan, when it was last looked at."""
        return self._account

    @property
    def floor_taken(self) -> tuple[bool, int]:
        """Whether a coin decides now, and how often one took over."""
        floor = self._pacer.floor
        return self._steering.coin is not None, 0 if floor is None else floor.taken

    def decided(self, decision: Decision) -> None:
        """A request was routed and will be sent. Safe from any thread, and waits for nothing."""
        self._waiting.append((decision, self._now().timestamp()))

    def attempted(self, attempt: Attempt) -> None:
        """A try ended. Safe from any thread, and waits for nothing."""
        self._waiting.append((attempt, self._now().timestamp()))

    def rebudget(self, usd: float) -> None:
        """Another budget from now on; of a period, with what is spent of it so far. Safe from any thread."""
        self._pacer.plan.usd = usd

    def start(self) -> None:
        """Go on where the ledger stands. With the database away: begin as if nothing had been."""
        try:
            self._resume()
        except GatewayError as error:
            log.warning("the pacer begins without the ledger: %s", error.code)
        self._steering = self._pacer.steering
        self._thread.start()

    def close(self) -> None:
        """Stop; nothing has to be written."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(10.0)

    def step(self) -> None:
        """Tell the pacer what waits; the thread does this every `tick_s`."""
        told = bool(self._waiting)
        while self._waiting:
            item, at_s = self._waiting.popleft()
            if isinstance(item, Decision):
                self._pacer.decided(item, at_s=at_s)
                self._open[item.query_id] = item, at_s
                if len(self._open) > _OPEN_MAX:
                    self._open.popitem(last=False)
            else:
                self._settle(item, at_s)
        if told:
            self._pacer.catch_up(at_s=self._now().timestamp())
            self._pacer.turn()
            self._steering = self._pacer.steering

    def refresh(self) -> None:
        """Read the ledger; the thread does this every `refresh_s`. Raises LedgerUnavailable."""
        plan, now_s = self._pacer.plan, self._now().timestamp()
        self._hear_of_changes()
        for rated in pace_reads.rated_past(self._engine, self._seq, _RATED_MAX):
            self._pacer.rated(rated.decision, rated.quality)
            self._seq = rated.seq
        if isinstance(plan, PerPeriod):
            period = int(now_s // plan.period_s)
            counts = self._count(plan, period, now_s)
            plan.recount(at_s=now_s, counts=counts, spent_usd=self._spent_usd(plan, period) + self._expected_usd(now_s))
        spent, planned = plan.account_usd(at_s=now_s)
        self._account = Account(spent_usd=spent, planned_usd=planned)
        self._steering = self._pacer.steering

    def _hear_of_changes(self) -> None:
        found = self._changes()
        if found > self._found:
            self._pacer.changed()
        self._found = found

    def _resume(self) -> None:
        pacer, plan, now_s = self._pacer, self._pacer.plan, self._now().timestamp()
        if isinstance(plan, PerPeriod):  # before anything that may fail: a plan's clock must be set
            plan.resume(at_s=now_s, past=(), counts=np.zeros(plan.bins), spent_usd=0.0, spent_before_usd=None)
        self._seq = pace_reads.newest_seq(self._engine)
        for paid in pace_reads.newest_paid(self._engine, pacer.window):
            cost_usd = None if paid.cost_nusd is None else nusd_to_usd(paid.cost_nusd)
            pacer.recall(paid.decision, cost_usd)
            if not isinstance(plan, PerPeriod):
                plan.routed(cost_usd or 0.0, at_s=now_s)
        if isinstance(plan, PerPeriod):
            period = int(now_s // plan.period_s)
            past = [self._requests(plan, p, 0, plan.bins) for p in range(period - _PAST_PERIODS, period)]
            plan.resume(
                at_s=now_s,
                past=past,
                counts=self._count(plan, period, now_s),
                spent_usd=self._spent_usd(plan, period),
                spent_before_usd=self._spent_usd(plan, period - 1) if past[-1].any() else None,
            )
        pacer.look(at_s=now_s)
        pacer.turn()

    def _count(self, plan: PerPeriod, period: int, now_s: float) -> Floats:
        """Requests of all processes in this period, per bin; only bins that may have changed are asked for."""
        last = min(int((now_s / plan.period_s - period) * plan.bins), plan.bins - 1)
        if period != self._period:
            self._period, self._bin, self._counts = period, 0, np.zeros(plan.bins)
        self._counts[self._bin : last + 1] = self._requests(plan, period, self._bin, last + 1)
        self._bin = last
        return self._counts

    def _requests(self, plan: PerPeriod, period: int, first: int, end: int) -> Floats:
        edges = [_instant((period + b / plan.bins) * plan.period_s) for b in range(first, end + 1)]
        return np.array(pace_reads.requests(self._engine, edges), dtype=np.float64)

    def _spent_usd(self, plan: PerPeriod, period: int) -> float:
        start, end = (_instant(p * plan.period_s) for p in (period, period + 1))
        return nusd_to_usd(pace_reads.spent_nusd(self._engine, start, end))

    def _expected_usd(self, now_s: float) -> float:
        """Of this process's calls under way."""
        while self._open:
            decision, since_s = next(iter(self._open.values()))
            if now_s - since_s < _OPEN_S:
                break
            self._open.pop(decision.query_id)
        return sum(expected_usd(decision) for decision, _ in self._open.values())

    def _run(self) -> None:
        refreshed_s = time.monotonic() - self._refresh_s
        while not self._stopping.wait(self._tick_s):
            try:
                self.step()
                if time.monotonic() - refreshed_s >= self._refresh_s:
                    refreshed_s = time.monotonic()
                    self.refresh()
            except GatewayError as error:
                log.warning("the pacer goes on without the ledger: %s", error.code)
            except Exception as error:  # a bug here must not end the thread that keeps the budget
                log.error("the pacer failed: %s", type(error).__name__)

    def _settle(self, attempt: Attempt, at_s: float) -> None:
        cost_usd = nusd_to_usd(attempt.cost_nusd)
        decision, _ = self._open.pop(attempt.query_id, (None, 0.0))
        if decision is None:  # a later try of the same request
            self._pacer.plan.settled(cost_usd, at_s=at_s)
        else:
            self._pacer.settled(decision, cost_usd, at_s=at_s)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
