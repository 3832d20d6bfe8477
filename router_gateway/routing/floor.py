"""The floor: where the router brings less than the coin flip that its budget buys, the coin decides for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from router_gateway.core.evidence import grown, nothing
from router_gateway.core.types import Decision, Floats
from router_gateway.routing.steering import Coin
from router_gateway.routing.window import Mean


@dataclass(kw_only=True)
class Floor:
    """Compares what the router's answers were worth with what the zero router would have brought for the budget.

    The zero router flips a coin between two endpoints of the hull of (mean cost, mean quality), whatever is asked, so
    that the mean cost is the allowance. Its worth follows from the learned means over all recent requests, chosen or
    not, which no choice has selected; a router that trusts noise finds its answers worth less than that. The evidence
    is an e-detector's: while the router is at least as good as the coin, the floor is taken by mistake once in
    `alarm_outcomes` outcomes at most, in the mean.

    Once it is, the coin decides all but `own_share` of `hold` requests, with exact propensities; then the router has
    another try. Each time that fails the coin is held twice as long, at most `hold_max`. Pure: nothing is drawn.

    doubt_max : endpoints whose mean stddev is larger are not known well enough to flip a coin for
    """

    alarm_outcomes: float = 10_000.0
    hold: int = 500
    hold_max: int = 8_000
    own_share: float = 0.1
    doubt_max: float = 0.1
    _evidence: Floats = field(init=False, repr=False, default_factory=nothing)
    _zero: Mapping[str, float] = field(init=False, repr=False, default_factory=dict)
    _worth: float = field(init=False, repr=False, default=0.0)
    _left: int = field(init=False, repr=False, default=0)
    _taken: int = field(init=False, repr=False, default=0)

    @property
    def coin(self) -> Coin | None:
        """The coin while it decides, else None."""
        if self._left <= 0 or not self._zero:
            return None
        return Coin(sides=tuple(self._zero.items()), share=1.0 - self.own_share)

    @property
    def taken(self) -> int:
        """How often the coin took over."""
        return self._taken

    def traffic(self, means: Mapping[str, Mean], allowance_usd: float) -> None:
        """What is expected of each endpoint, over recent requests, and what a request may cost."""
        known = {name: (mean.cost_usd, mean.quality) for name, mean in means.items() if mean.stddev <= self.doubt_max}
        self._zero = zero_router(known, allowance_usd)
        self._worth = sum(chance * known[name][1] for name, chance in self._zero.items())

    def decided(self) -> None:
        """A request was routed."""
        self._left = max(self._left - 1, 0)

    def rated(self, decision: Decision, quality: float) -> None:
        """What an answer was worth, in [0, 1]; those that the coin or nobody chose say nothing of the router."""
        if self._left > 0 or not self._zero or not decision.quality or decision.propensity == 0.0:
            return
        worth = min(max(self._worth, 0.0), 1.0)
        self._evidence = grown(self._evidence, worth - quality, max(1.0 - worth, 1e-3))
        if float(self._evidence.mean()) >= self.alarm_outcomes:
            self._left = min(self.hold << min(self._taken, 20), self.hold_max)
            self._taken += 1
            self._evidence = nothing()

    def forget(self) -> None:
        """An endpoint has changed: what answers were worth says nothing of the router that knows, and it decides."""
        self._evidence, self._left = nothing(), 0

    def state(self) -> dict[str, Any]:
        """The evidence and for how long the coin still decides, as JSON."""
        return {"evidence": self._evidence.tolist(), "left": self._left, "taken": self._taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`. Raises KeyError, TypeError or ValueError for anything else."""
        evidence = np.array(state["evidence"], dtype=np.float64)
        left, taken = int(state["left"]), int(state["taken"])
        if evidence.shape != self._evidence.shape or not np.isfinite(evidence).all() or min(left, taken) < 0:
            raise ValueError("the floor's state is out of range")
        self._evidence, self._left, self._taken = evidence, left, taken


def zero_router(endpoints: Mapping[str, tuple[float, float]], allowance_usd: float) -> dict[str, float]:
    """The best coin flip at a mean cost of at most `allowance_usd`: probabilities by endpoint, of one or two.

    endpoints : by name, mean cost in USD and mean quality
    Empty where there is no endpoint; the cheapest where the allowance buys none.
    """
    if not endpoints:
        return {}
    cheapest = min(endpoints, key=lambda name: (endpoints[name][0], -endpoints[name][1]))
    best, found = endpoints[cheapest][1], {cheapest: 1.0}
    below = [name for name, (cost, _) in endpoints.items() if cost <= allowance_usd]
    above = [name for name, (cost, _) in endpoints.items() if cost > allowance_usd]
    for low in below:
        low_usd, low_quality = endpoints[low]
        if low_quality > best:
            best, found = low_quality, {low: 1.0}
        for high in above:
            high_usd, high_quality = endpoints[high]
            share = (allowance_usd - low_usd) / (high_usd - low_usd)
            quality = (1.0 - share) * low_quality + share * high_quality
            if quality > best:
                best, found = quality, {low: 1.0 - share, high: share}
    return found
