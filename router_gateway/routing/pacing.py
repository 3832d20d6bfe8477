"""Pacing: a budget becomes a price, moved so that what is spent meets what was allowed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.protocols import Rule
from router_gateway.core.types import Decision, Floats
from router_gateway.routing.plans import Plan
from router_gateway.routing.rules import Greedy

_STEPS = 20  # halvings of the logarithm of the dial's range: finer than any two endpoints differ
_BIAS_MAX = 4.0  # expected costs are corrected by at most this factor


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
    every : requests from one search for the dial to the next
    """

    plan: Plan
    rule: Rule = field(default_factory=Greedy)
    optimism: float = 0.0
    worth_usd: float = 0.02
    worth_low_usd: float = 1e-6
    worth_high_usd: float = 1e3
    window: int = 256
    every: int = 8
    bias_memory: float = 200.0
    _rows: deque[tuple[Floats, Floats]] = field(init=False, repr=False)
    _decided: int = field(init=False, repr=False, default=0)
    _owed: float = field(init=False, repr=False, default=0.0)  # [0, 1): of a turn at the upper of two dials
    _expected_usd: float = field(init=False, repr=False, default=0.0)
    _settled_usd: float = field(init=False, repr=False, default=0.0)

    def __post_init__(self) -> None:
        if not 0 < self.worth_low_usd <= self.worth_high_usd < np.inf:
            raise ValueError(f"0 < worth_low_usd <= worth_high_usd: {self.worth_low_usd}, {self.worth_high_usd}")
        if self.window < 1 or self.every < 1:
            raise ValueError(f"window and every must be at least 1, not {self.window} and {self.every}")
        self.worth_usd = self._bounded(self.worth_usd)
        self._rows = deque(maxlen=self.window)

    def decided(self, decision: Decision, *, at_s: float = 0.0) -> None:
        """A request was routed: its expected cost is spent until settled, and the dial may move.

        at_s : seconds on the plan's clock
        """
        if not decision.quality:  # declined: no estimates to learn the traffic from
            self.plan.routed(0.0, at_s=at_s)
            return
        appeal = np.asarray(decision.quality) + self.optimism * np.asarray(decision.stddev)
        eligible = np.asarray(decision.eligible)
        cost = np.where(eligible, np.asarray(decision.cost_usd), np.inf)
        order = np.argsort(cost, kind="stable")  # the rule expects the cheapest first
        self._rows.append((np.where(eligible, appeal, -np.inf)[order], cost[order]))
        self.plan.routed(expected_usd(decision), at_s=at_s)
        self._decided += 1
        if self._decided % self.every == 0 or len(self._rows) < 2 * self.every:
            self.worth_usd = self._solve(self.plan.allowance_usd(at_s=at_s))

    def settled(self, decision: Decision, cost_usd: float, *, at_s: float = 0.0) -> None:
        """What the request came to in the end, USD."""
        expected = expected_usd(decision)
        self.plan.settled(cost_usd - (expected if decision.quality else 0.0), at_s=at_s)
        kept = 1.0 - 1.0 / self.bias_memory
        self._expected_usd = kept * self._expected_usd + expected
        self._settled_usd = kept * self._settled_usd + cost_usd

    @property
    def bias(self) -> float:
        """By what factor calls have lately cost more than expected; at first 1, for as much as ten mean calls."""
        if self._expected_usd <= 0.0:
            return 1.0
        held = 10.0 / self.bias_memory * self._expected_usd
        ratio = (self._settled_usd + held) / (self._expected_usd + held)
        return float(np.clip(ratio, 1.0 / _BIAS_MAX, _BIAS_MAX))

    def spend_usd(self, worth_usd: float) -> float:
        """What a request like those of the window would cost at this dial, mean USD."""
        if not self._rows:
            return 0.0
        appeal, cost = (np.stack(part) for part in zip(*self._rows, strict=True))
        return self._spend(appeal, cost, worth_usd)

    def _solve(self, allowance_usd: float) -> float:
        """The dial whose spend is the allowance; of two whose spends enclose it, each for its share of the time."""
        appeal, cost = (np.stack(part) for part in zip(*self._rows, strict=True))
        low, high = np.log(self.worth_low_usd), np.log(self.worth_high_usd)
        least, most = (self._spend(appeal, cost, float(np.exp(end))) for end in (low, high))
        if allowance_usd >= most or allowance_usd <= least:
            return self._bounded(float(np.exp(high if allowance_usd >= most else low)))
        for _ in range(_STEPS):
            middle = (low + high) / 2.0
            spend = self._spend(appeal, cost, float(np.exp(middle)))
            if spend > allowance_usd:
                high, most = middle, spend
            else:
                low, least = middle, spend
        self._owed += (allowance_usd - least) / (most - least)  # a coin whose flips are spread evenly
        upper = self._owed >= 1.0
        self._owed -= float(upper)
        return self._bounded(float(np.exp(high if upper else low)))

    def _spend(self, appeal: Floats, cost: Floats, worth_usd: float) -> float:
        eligible = np.isfinite(cost)
        paid = np.where(eligible, cost, 0.0)
        value = np.where(eligible, appeal, 0.0) - paid / worth_usd
        probability = self.rule.probabilities(value, eligible)
        return self.bias * float((probability * paid).sum() / len(paid))

    def _bounded(self, worth_usd: float) -> float:
        return float(np.clip(worth_usd, self.worth_low_usd, self.worth_high_usd))

    def state(self) -> dict[str, Any]:
        """Everything learned, as JSON: a pacer of the same settings that restores it goes on as this one would."""
        return {
            "worth_usd": self.worth_usd,
            "decided": self._decided,
            "owed": self._owed,
            "expected_usd": self._expected_usd,
            "settled_usd": self._settled_usd,
            "rows": [[_json(appeal), _json(cost)] for appeal, cost in self._rows],
            "plan": self.plan.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`. Raises SnapshotMismatch, and changes nothing, when it is not such a state."""
        try:
            worth_usd = float(state["worth_usd"])
            numbers = [float(state[name]) for name in ("expected_usd", "settled_usd", "owed")]
            decided = int(state["decided"])
            rows = [(_array(appeal, -np.inf), _array(cost, np.inf)) for appeal, cost in state["rows"]]
            if not 0 < worth_usd < np.inf or not np.isfinite(numbers).all() or min(*numbers, decided) < 0:
                raise ValueError("numbers out of range")
            if len({len(part) for row in rows for part in row}) > 1:
                raise ValueError("rows of different lengths")
            self.plan.restore(state["plan"])
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotMismatch(f"not a saved BudgetPacer: {error}", hint="start with an empty state") from error
        self.worth_usd, self._decided = self._bounded(worth_usd), decided
        self._expected_usd, self._settled_usd, self._owed = numbers
        self._rows = deque(rows, maxlen=self.window)


def expected_usd(decision: Decision) -> float:
    """What the chosen endpoint was expected to cost; 0 where nothing was estimated."""
    if decision.endpoint not in decision.endpoints:
        return 0.0
    return decision.cost_usd[decision.endpoints.index(decision.endpoint)]


def _json(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _array(values: list[float | None], missing: float) -> Floats:
    return np.array([missing if v is None else float(v) for v in values], dtype=np.float64)
