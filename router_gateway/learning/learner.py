"""The learner: from what people said of answers to the policies that serve, beside the requests and never in them."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from router_gateway.core.errors import GatewayError, LedgerUnavailable
from router_gateway.core.protocols import Policy
from router_gateway.learning.live import LivePolicy
from router_gateway.learning.pupil import Outcome, Pupil
from router_gateway.learning.recalibration import PAIRS_READ_MAX, JudgeCorrection
from router_gateway.learning.settings import Learning
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.judged import read_graded
from router_gateway.ledger.leases import Lease
from router_gateway.ledger.lessons import Lessons

log = logging.getLogger(__name__)

_JOIN_S = 10.0


class Learner:
    """Teaches the pupils, one process at a time.

    Every process puts newer snapshots into service; the one that gets the lease learns, and gives it back after each
    step. Whoever learns next begins with the newest snapshot, whose manifest says what of the ledger is in it: nothing
    is learned twice where the processes share the snapshots, and nothing is lost when one is killed.
    """

    def __init__(
        self, pupils: Mapping[str, Pupil], lease: Lease, settings: Learning, correction: JudgeCorrection | None = None
    ) -> None:
        self._pupils = pupils
        self._lease = lease
        self._settings = settings
        self._correction = correction
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._stepping = threading.Lock()  # the lease keeps other processes out, not our own threads

    def step(self, *, rows_min: int | None = None, refit: bool = False) -> Mapping[str, Outcome]:
        """One round; what became of each policy, empty where another process is learning.

        `rows_min` takes the place of the configured one; with `refit` the policies learn anew from the whole ledger.
        Raises LedgerUnavailable; a policy that fails keeps none of the others from learning.
        """
        with self._stepping:
            return self._step(rows_min, refit)

    def _step(self, rows_min: int | None, refit: bool) -> Mapping[str, Outcome]:
        pupils = self._pupils
        for pupil in pupils.values():
            self._guarded(pupil, _followed)
        if self._correction is not None:
            self._correction.renew()
        with self._lease.held(self._settings.lease_s) as ours:
            if not ours:
                return {}
            least = self._settings.rows_min if rows_min is None else rows_min
            teach = partial(_taught, rows_min=least, refit=refit)
            return {name: self._guarded(pupil, teach) for name, pupil in pupils.items()}

    def reassign(self, of: str, live: LivePolicy, snapshots: Snapshots, unfitted: Callable[[str], Policy]) -> None:
        """Teach another policy in the place of the one called `of` from the next step on, as far as it was taught."""
        self._pupils = {
            name: replace(pupil, live=live, snapshots=snapshots, unfitted=unfitted) if name == of else pupil
            for name, pupil in self._pupils.items()
        }

    def counts(self) -> Mapping[tuple[str, ...], float]:
        """Steps by policy and outcome since the start; the policy is "all" where the step itself failed."""
        return dict(self._counts)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Learn in a thread for as long as the context lasts. Nothing that fails there reaches anybody."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(stopping,), name="learner", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(_JOIN_S)  # a step that takes longer is cut off: a snapshot is saved whole or not at all

    def _run(self, stopping: threading.Event) -> None:
        pause_s = self._settings.interval_s
        while not stopping.wait(pause_s):
            pause_s = self._settings.interval_s
            try:
                outcomes = self.step()
            except GatewayError as error:
                self._failed("all", error.message)
            except Exception as error:  # a bug: the thread goes on
                self._failed("all", _where(error))
            else:
                unread = [name for name, pupil in self._pupils.items() if pupil.more]
                if outcomes and any(outcomes.get(name) != "failed" for name in unread):
                    pause_s = 0.0

    def _guarded(self, pupil: Pupil, work: Callable[[Pupil], Outcome]) -> Outcome:
        try:
            outcome = work(pupil)
        except LedgerUnavailable:
            raise
        except Exception as error:  # a policy may be anybody's code
            self._failed(pupil.name, error.message if isinstance(error, GatewayError) else _where(error))
            return "failed"
        self._counts[pupil.name, outcome] += 1
        return outcome

    def _failed(self, policy: str, why: str) -> None:
        self._counts[policy, "failed"] += 1
        log.error("learning failed (%s): %s", policy, why)


def of(
    live: Mapping[str, LivePolicy],
    snapshots: Snapshots,
    engine: Any,
    settings: Learning,
    space: str,
    unfitted: Callable[[str], Policy],
) -> Learner:
    """The learner of the live policies, on the ledger's database (an engine of ledger/).

    space : of the vectors that requests have; unfitted : builds a policy as configured, by name
    """
    lease = Lease(engine, "learner")
    correction = None
    if settings.corrects_judges:
        read = partial(read_graded, engine, settings.truth, rows_max=PAIRS_READ_MAX)
        correction = JudgeCorrection(read, prior=settings.judge_prior)
    pupils = {
        name: Pupil(
            live=policy,
            snapshots=snapshots,
            lessons=Lessons(engine),
            space=space,
            settings=settings,
            unfitted=unfitted,
            still_ours=lambda: lease.take(settings.lease_s),
            correction=correction,
        )
        for name, policy in live.items()
    }
    return Learner(pupils, lease, settings, correction)


def _followed(pupil: Pupil) -> Outcome:
    return "followed" if pupil.follow() else "current"


def _taught(pupil: Pupil, *, rows_min: int, refit: bool) -> Outcome:
    pupil.follow()  # somebody may have saved between our first look and the lease
    return pupil.refit() if refit else pupil.learn(rows_min=rows_min)


def _where(error: Exception) -> str:
    """The kind of error and where it came from, without its message: that may quote a prompt."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
