"""Which endpoints are new: few graded answers and few calls, by the ledger's own count."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from sqlalchemy import Engine, func, select

from router_gateway.core.errors import GatewayError
from router_gateway.ledger.connections import reading
from router_gateway.ledger.reads import stands
from router_gateway.ledger.tables import attempts, feedback

logger = logging.getLogger(__name__)

_JOIN_S = 5.0


def new_endpoints(engine: Engine, names: Sequence[str], *, outcomes_min: int, requests_max: int) -> frozenset[str]:
    """Those called fewer than `requests_max` times, of whose answers fewer than `outcomes_min` were graded.

    Reads at most `requests_max` rows of each, by index, however long the ledger is. Blocks; LedgerUnavailable.
    """
    found = set()
    with reading(engine) as connection:
        for name in names:
            called = select(attempts.c.query_id).where(attempts.c.endpoint == name).limit(requests_max).subquery()
            if connection.execute(select(func.count()).select_from(called)).scalar_one() >= requests_max:
                continue
            said = (
                select(func.count(feedback.c.query_id.distinct()))
                .select_from(called)
                .join(feedback, feedback.c.query_id == called.c.query_id)
                .where(stands(feedback.c.id))
            )
            if connection.execute(said).scalar_one() < outcomes_min:
                found.add(name)
    return frozenset(found)


class NewcomerWatch:
    """Keeps `names` fresh in a thread. Call `start` once and `close` once.

    candidates : endpoints that may be new; one that is new no longer is not asked for again
    """

    def __init__(
        self, engine: Engine, candidates: Sequence[str], *, outcomes_min: int, requests_max: int, refresh_s: float
    ) -> None:
        self._engine = engine
        self._outcomes_min, self._requests_max, self._refresh_s = outcomes_min, requests_max, refresh_s
        self._names = frozenset(candidates)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="newcomers", daemon=True)

    def names(self) -> frozenset[str]:
        """Endpoints that are new, as last counted."""
        return self._names

    def start(self) -> None:
        """Count for the first time. Raises LedgerUnavailable."""
        self.refresh()
        self._thread.start()

    def refresh(self) -> None:
        """Count now."""
        self._names = new_endpoints(
            self._engine, sorted(self._names), outcomes_min=self._outcomes_min, requests_max=self._requests_max
        )

    def close(self) -> None:
        """Stop counting; idempotent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while self._names and not self._stopping.wait(self._refresh_s):
            try:
                self.refresh()
            except GatewayError as error:
                logger.warning("new endpoints are as they were when last counted: %s", error.code)
            except Exception as error:  # a bug here must not leave an endpoint new for ever
                logger.error("counting new endpoints failed: %s", type(error).__name__)
