"""Pacing: a budget becomes a price, moved so that what is spent meets what was allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Decision
from router_gateway.routing.floor import Floor
from router_gateway.routing.plans import Plan
from router_gateway.routing.rules import Greedy
from router_gateway.routing.steering import Steering
from router_gateway.routing.window import Traffic, Window

_STEPS = 7  # halvings of the logarithm of the dial's range
_BIAS_MAX = 4.0  # expected costs are corrected by at most this factor
_MEMORY_MIN = 20.0
_DEAR = 4.0  # times the allowance: after such a request the dial is looked for at once
_NUMBERS = ("expected_usd", "settled_usd", "owed", "owed_doubt", "optimism")


@dataclass(frozen=True, slots=True)
class _Turns:
    """Two settings, and how often the upper one has its turn."""

    low: float = 0.0
    high: float = 0.0
    share: float = 0.0

    def next(self, owed: float) -> tuple[float, float]:
        """Whose turn it is, and what is owed of the next turn at the upper one."""
        owed += self.share
        return (self.high, owed - 1.0) if owed >= 1.0 else (self.low, owed)


@dataclass(kw_only=True)
class BudgetPacer:
    """Moves `worth_usd`, one over the dual price of the budget, so that spend meets the plan.

    The budget is a constraint of a linear programme over the traffic: of all ways to answer, the one of greatest
    quality that costs no more than is allowed. Its dual price is 1 / worth_usd. It is found anew from the last
    `window` decisions: each is kept with what every endpoint would have brought and cost, so what the traffic would
    have cost at another dial is known without trying it, and the dial is the one at which that equals what the plan
    allows for the next request. (Re-solving: Jasin and Kumar, 2012, "A re-solving heuristic with bounded revenue
    loss"; for bandits with knapsacks Agrawal and Devanur, 2014, arXiv 1402.5758.) A dual price that descends a
    gradient has to learn the same from single costs, which differ a thousandfold.

        worth_usd : bias · mean over the window of sum_e p_e(worth_usd) · cost_e = allowance

    p is the rule's, so what exploring costs is part of it; `bias` is the ratio of costs settled to costs expected.
    Where every query is alike the programme's answer is the zero router, a coin flip between two endpoints of the
    hull: the dial goes to and fro between the two for the share of the time that meets the allowance.

    Pure: time and money are told, nothing is read, nothing is drawn. Between `worth_low_usd` and `worth_high_usd` the
    dial is free; the hard limit on spend is not here but in the reservation of money before a call.

    plan : what may be spent and on how many requests, see `router_gateway.routing.plans`
    rule, optimism : as the router has them
    optimism_max : how far optimism may go with money that buys no better answer
    every : requests from one search for the dial to the next
    floor : takes over with a coin flip where the router brings less; None: never
    """

    plan: Plan
    rule: Rule = field(default_factory=Greedy)
    optimism: float = 0.0
    optimism_max: float = 0.0
    worth_usd: float = 0.02
    worth_low_usd: float = 1e-6
    worth_high_usd: float = 1e3
    window: int = 256
    every: int = 8
    bias_memory: float = 200.0
    floor: Floor | None = None
    _seen: Window = field(init=False, repr=False)
    _stale: int = field(init=False, repr=False, default=0)  # requests since the dial was looked for
    _allowed_usd: float = field(init=False, repr=False, default=np.inf)
    _dial: _Turns = field(init=False, repr=False)
    _doubt: _Turns = field(init=False, repr=False)
    _owed: float = field(init=False, repr=False, default=0.0)  # [0, 1): of a turn at the upper of two dials
    _owed_doubt: float = field(init=False, repr=False, default=0.0)
    _now: float = field(init=False, repr=False)
    _settled: int = field(init=False, repr=False, default=0)
    _expected_usd: float = field(init=False, repr=False, default=0.0)
    _settled_usd: float = field(init=False, repr=False, default=0.0)

    def __post_init__(self) -> None:
        if not 0 < self.worth_low_usd <= self.worth_high_usd < np.inf:
            raise ValueError(f"0 < worth_low_usd <= worth_high_usd: {self.worth_low_usd}, {self.worth_high_usd}")
        if self.window < 1 or self.every < 1:
            raise ValueError(f"window and every must be at least 1, not {self.window} and {self.every}")
        self.worth_usd = self._bounded(self.worth_usd)
        self._seen = Window(self.window)
        self.optimism_max = max(self.optimism_max, self.optimism)
        self._dial = _Turns(low=self.worth_usd, high=self.worth_usd)
        self._doubt = _Turns(low=self.optimism, high=self.optimism)
        self._now = self.optimism

    @property
    def steering(self) -> Steering:
        """What the router is to be told for the next request."""
        return Steering(
            worth_usd=self.worth_usd,
            optimism=self._now,
            coin=None if self.floor is None else self.floor.coin,
        )

    def decided(self, decision: Decision, *, at_s: float = 0.0) -> None:
        """A request was routed: its expected cost is spent until settled, and the dial may move.

        at_s : seconds on the plan's clock
        """
        if not decision.quality:  # declined: no estimates to learn the traffic from
            self.plan.routed(0.0, at_s=at_s)
            return
        self._seen.add(decision)
        expected = expected_usd(decision)
        self.plan.routed(expected, at_s=at_s)
        self._stale += 1
        if expected > _DEAR * self._allowed_usd or len(self._seen) < 2 * self.every:
            self._stale = self.every
        self.turn()
        if self.floor is not None:
            self.floor.decided()

    def turn(self) -> None:
        """Whose turn it is of two dials and of two optimisms: coins whose flips are spread evenly."""
        self.worth_usd, self._owed = self._dial.next(self._owed)
        self._now, self._owed_doubt = self._doubt.next(self._owed_doubt)

    def catch_up(self, *, at_s: float = 0.0) -> None:
        """To be called before the next request: looks where the dial should stand, if it is time to."""
        if self._stale >= self.every:
            self.look(at_s=at_s)

    def look(self, *, at_s: float = 0.0) -> None:
        """Move the dial, and the floor's coin, to where the requests of the window say."""
        self._stale = 0
        if not len(self._seen):
            return
        allowance_usd = self._allowed_usd = self.plan.allowance_usd(at_s=at_s)
        self._solve(allowance_usd)
        if self.floor is not None:
            self.floor.traffic(self._seen.means(), allowance_usd / self.bias)

    def recall(self, decision: Decision, cost_usd: float | None) -> None:
        """A request of the past, and what it came to: the traffic is learned from it, the plan is not told."""
        if decision.quality:
            self._seen.add(decision)
            if cost_usd is not None:
                self._compare(expected_usd(decision), cost_usd)

    def settled(self, decision: Decision, cost_usd: float, *, at_s: float = 0.0) -> None:
        """What the request came to in the end, USD."""
        expected = expected_usd(decision)
        self.plan.settled(cost_usd - (expected if decision.quality else 0.0), at_s=at_s)
        self._compare(expected, cost_usd)

    def _compare(self, expected_usd: float, cost_usd: float) -> None:
        self._settled += 1
        kept = 1.0 - 1.0 / self._memory
        self._expected_usd = kept * self._expected_usd + expected_usd
        self._settled_usd = kept * self._settled_usd + cost_usd

    def rated(self, decision: Decision, quality: float) -> None:
        """What its answer was worth, in [0, 1]."""
        if self.floor is not None:
            self.floor.rated(decision, quality)

    def changed(self) -> None:
        """The policy found an endpoint changed; it knows better than what was rated before."""
        if self.floor is not None:
            self.floor.forget()

    @property
    def _memory(self) -> float:
        """Calls by which the bias is told; few at first, for a cost model that is new soon knows better."""
        return min(self.bias_memory, _MEMORY_MIN + self._settled / 4.0)

    @property
    def bias(self) -> float:
        """By what factor calls have lately cost more than expected; at first 1, for as much as ten mean calls."""
        if self._expected_usd <= 0.0:
            return 1.0
        held = 10.0 / self._memory * self._expected_usd
        ratio = (self._settled_usd + held) / (self._expected_usd + held)
        return float(np.clip(ratio, 1.0 / _BIAS_MAX, _BIAS_MAX))

    def spend_usd(self, worth_usd: float) -> float:
        """What a request like those of the window would cost at this dial, mean USD."""
        return self.bias * self._seen.traffic(self.rule).spend_usd(worth_usd, self.optimism) if len(self._seen) else 0.0

    def _solve(self, allowance_usd: float) -> None:
        """The two dials whose spends enclose the allowance, a little apart, and how often the upper one has its turn.

        They are not driven together: where requests are alike all of them change sides at one dial, and a dial that
        stood just beside it would be passed by the next thing that is learned.
        """
        traffic, allowance = self._seen.traffic(self.rule), allowance_usd / self.bias
        low, high = np.log(self.worth_low_usd), np.log(self.worth_high_usd)
        least, most = (traffic.spend_usd(float(np.exp(end)), self.optimism) for end in (low, high))
        self._doubt = _Turns(low=self.optimism, high=self.optimism)
        if allowance <= least or allowance >= most:
            worth_usd = self._bounded(float(np.exp(low if allowance <= least else high)))
            self._dial = _Turns(low=worth_usd, high=worth_usd)
            if allowance > most:
                self._doubt = self._bolder(traffic, allowance, most)
            return
        for _ in range(_STEPS):
            middle = (low + high) / 2.0
            spend = traffic.spend_usd(float(np.exp(middle)), self.optimism)
            if spend > allowance:
                high, most = middle, spend
            else:
                low, least = middle, spend
        share = (allowance - least) / (most - least)
        self._dial = _Turns(low=self._bounded(float(np.exp(low))), high=self._bounded(float(np.exp(high))), share=share)

    def _bolder(self, traffic: Traffic, allowance: float, spend: float) -> _Turns:
        """Money that buys no better answer buys knowledge: turns at more optimism, for as much as is left."""
        bold = traffic.spend_usd(self.worth_high_usd, self.optimism_max)
        if bold <= spend:
            return self._doubt
        share = min((allowance - spend) / (bold - spend), 1.0)
        return _Turns(low=self.optimism, high=self.optimism_max, share=share)

    def _bounded(self, worth_usd: float) -> float:
        return float(np.clip(worth_usd, self.worth_low_usd, self.worth_high_usd))

    def state(self) -> dict[str, Any]:
        """Everything learned, as JSON: a pacer of the same settings that restores it goes on as this one would."""
        return {
            "worth_usd": self.worth_usd,
            "stale": self._stale,
            "settled": self._settled,
            "owed": self._owed,
            "owed_doubt": self._owed_doubt,
            "optimism": self._now,
            "dial": astuple(self._dial),
            "doubt": astuple(self._doubt),
            "expected_usd": self._expected_usd,
            "settled_usd": self._settled_usd,
            **self._seen.state(),
            "plan": self.plan.state(),
            "floor": None if self.floor is None else self.floor.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`. Raises SnapshotMismatch, and changes nothing, when it is not such a state."""
        try:
            worth_usd = float(state["worth_usd"])
            numbers = [float(state[name]) for name in _NUMBERS]
            dial, doubt = (tuple(map(float, state[name])) for name in ("dial", "doubt"))
            stale, settled = int(state["stale"]), int(state["settled"])
            seen = Window(self.window)
            seen.restore(state)
            if not 0 < worth_usd < np.inf or not np.isfinite([*numbers, *dial, *doubt]).all():
                raise ValueError("numbers that are none")
            if min(*numbers, *dial, *doubt, stale, settled) < 0:
                raise ValueError("numbers out of range")
            before = self.plan.state()
            self.plan.restore(state["plan"])
            if self.floor is not None and state.get("floor") is not None:
                try:
                    self.floor.restore(state["floor"])
                except (KeyError, TypeError, ValueError):
                    self.plan.restore(before)
                    raise
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotMismatch(f"not a saved BudgetPacer: {error}", hint="start with an empty state") from error
        self.worth_usd, self._stale, self._settled = self._bounded(worth_usd), stale, settled
        self._expected_usd, self._settled_usd, self._owed, self._owed_doubt, self._now = numbers
        self._dial, self._doubt = _Turns(*dial), _Turns(*doubt)
        self._seen = seen


def expected_usd(decision: Decision) -> float:
    """What the chosen endpoint was expected to cost; 0 where nothing was estimated."""
    if decision.endpoint not in decision.endpoints:
        return 0.0
    return decision.cost_usd[decision.endpoints.index(decision.endpoint)]
