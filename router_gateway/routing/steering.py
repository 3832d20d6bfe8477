"""Where the dial stands for one request, and whether a coin decides in the router's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Bools, Floats

COIN_RULE = "zero_router"
"""What a decision names as its rule when the coin decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coin:
    """A coin flip between endpoints that does not look at the request: the zero router of a budget.

    sides : by endpoint name, probabilities that sum to 1
    share : of the requests that the coin decides; the router's own rule decides the rest, so that it still learns
    """

    sides: tuple[tuple[str, float], ...]
    share: float = 1.0

    def mixed(self, names: Sequence[str], probability: Floats, admitted: Bools) -> Floats:
        """The chances (E,) of the coin and the router's own together; the router's own where no side is admitted."""
        flip = np.zeros(len(probability))
        for name, chance in self.sides:
            if name in names:
                flip[names.index(name)] = chance
        flip *= admitted
        total = flip.sum()
        if total <= 0.0:
            return probability
        return np.asarray((1.0 - self.share) * probability + self.share / total * flip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What a pacer tells the router.

    worth_usd, optimism : in place of the router's own; a request that brings its own dial keeps it
    coin : decides where it is there, whatever the dial, unless the request brings its own
    """

    worth_usd: float
    optimism: float
    coin: Coin | None = None
