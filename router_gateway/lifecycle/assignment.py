"""Who sees a candidate: a hash of session, else API key, else query id. Nothing is remembered, nothing is drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from router_gateway.core.types import Query

CONTROLS_MAX = 9
"""Sessions of the live policy that are compared with one of the candidate's, at most. The rest of the traffic goes
its way untouched: a tenth more would be known from it, at many times the reading."""

Side = Literal["canary", "control", "outside"]
_UNITS = float(1 << 64)


def unit(query: Query, key_id: UUID | None, salt: str) -> str:
    """16 hex digits by which a request is assigned; equal for all requests of a session (else key, else query).

    salt : another one shuffles everybody anew
    """
    if query.session is not None:
        who = f"session\0{query.session}"
    elif key_id is not None:
        who = f"key\0{key_id}"
    else:
        who = f"query\0{query.id}"
    return hashlib.blake2b(f"{salt}\0{who}".encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How traffic is divided in one stage of a canary: it takes the lowest units, its control the highest.

    A unit that is in the canary stays there as the share grows.
    """

    canary: float
    control: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "control", min(1.0 - self.canary, CONTROLS_MAX * self.canary))

    @property
    def group(self) -> tuple[int, int]:
        """Sessions of the canary and of the control that make one block."""
        return max(1, int(self.canary / self.control + 1e-9)), max(1, int(self.control / self.canary + 1e-9))

    def side(self, unit: str) -> Side:
        """Where a unit belongs."""
        position = int(unit, 16) / _UNITS
        if position < self.canary:
            return "canary"
        return "control" if position >= 1.0 - self.control else "outside"
