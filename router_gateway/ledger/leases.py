"""Leases in the database: of many processes one may do a piece of work, until it is done or has gone silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement, Connection, Double, Engine, cast, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from router_gateway.core.ids import uuid7
from router_gateway.core.process import is_gone, process_name
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.tables import leases

_EPOCH_DAYS = 2_440_587.5  # 1970-01-01 as a Julian day
_DAY_S = 86_400.0
_OF = "@"  # between a lease's id and the name of its process


class Lease:
    """One process's claim to the work `name`. Methods block, and may raise LedgerUnavailable.

    The database's clock counts, so the clocks of the processes may differ. Who is killed keeps the lease until its time
    has run out, or a process of the same machine and container sees that it is gone; nobody waits for anybody.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._id = uuid7().hex

    @property
    def _holder(self) -> str:
        """Of this object in this process: a fork of it is another holder."""
        return f"{self._id}{_OF}{process_name()}"

    def take(self, seconds: float) -> bool:
        """Take the lease, or renew it, for `seconds` from now; False when somebody else holds it."""
        with writing(self._engine) as connection:
            now_s = _now_s(connection)
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            unheld = {"name": self._name, "holder": "", "until_s": 0.0}
            connection.execute(dialect.insert(leases).values(unheld).on_conflict_do_nothing())
            known = connection.execute(select(leases.c.holder).where(leases.c.name == self._name)).scalar_one()
            theirs = known if is_gone(known.partition(_OF)[2]) else self._holder
            free = or_(leases.c.holder.in_((self._holder, theirs)), leases.c.until_s <= now_s)
            taken = connection.execute(
                update(leases)
                .where(leases.c.name == self._name, free)
                .values(holder=self._holder, until_s=now_s + literal(seconds, Double))
            )
            return taken.rowcount == 1

    def is_held(self) -> bool:
        """Whether anybody holds it now, we or another process, as far as is known."""
        with reading(self._engine) as connection:
            held = select(leases.c.holder).where(leases.c.name == self._name, leases.c.until_s > _now_s(connection))
            holder = connection.execute(held).scalar()
        return holder is not None and not is_gone(holder.partition(_OF)[2])

    def release(self) -> None:
        """Let the next one have it; does nothing when it is not ours."""
        ours = (leases.c.name == self._name) & (leases.c.holder == self._holder)
        with writing(self._engine) as connection:
            connection.execute(update(leases).where(ours).values(holder="", until_s=0.0))

    @contextmanager
    def held(self, seconds: float) -> Iterator[bool]:
        """Whether it is ours for the length of the context, `seconds` at most unless `take` renews it."""
        taken = self.take(seconds)
        try:
            yield taken
        finally:
            if taken:
                self.release()


def _now_s(connection: Connection) -> ColumnElement[float]:
    """Seconds since 1970 by the database's clock."""
    if connection.dialect.name == "sqlite":
        return cast((func.julianday("now") - _EPOCH_DAYS) * _DAY_S, Double)
    return cast(func.extract("epoch", func.clock_timestamp()), Double)
