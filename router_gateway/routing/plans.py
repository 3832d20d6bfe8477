"""Plans: how much the next request may cost for a budget to be met, per request or per hour, day or month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from router_gateway.core.types import Floats

_ALLOWED_MAX = 1.2
"""An allowance leaves the plan's own rate by at most this factor: thrift for a while costs more than it saves."""
_PERIOD_MIN, _PERIOD_MAX = 2.0 / 3.0, 4.0
"""The same for a period, whose requests may be few today: thrift is bounded as above, generosity hardly."""


class Plan(Protocol):
    """Keeps account of what may be spent: `usd` a request or a period; it may be set to another value at any time."""

    usd: float

    def routed(self, expected_usd: float, *, at_s: float) -> None:
        """A request arrived and is expected to cost this."""
        ...

    def settled(self, difference_usd: float, *, at_s: float) -> None:
        """It came to this much more than expected."""
        ...

    def allowance_usd(self, *, at_s: float) -> float:
        """What the next request may cost on average, USD > 0."""
        ...

    def account_usd(self, *, at_s: float) -> tuple[float, float]:
        """What was spent, and what the plan would have spent by now: in this period, else since the start."""
        ...

    def state(self) -> dict[str, Any]:
        """The account, as JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`. Raises KeyError, TypeError or ValueError for anything else."""
        ...


@dataclass(kw_only=True)
class PerRequest:
    """So many USD per request, for as long as there are requests.

        allowance = usd + (usd · requests - spent) / horizon, between usd / 1.2 and 1.2 usd

    What was saved or overspent is thus made good over the next `horizon` requests, whatever their number. What is
    never spent is not saved up beyond `horizon` requests' worth, or a price cut after a year would be a spree; nor
    is a debt, or an endpoint that was dear once would be paid for by weeks of bad answers.
    """

    usd: float
    horizon: float = 60.0
    _saved_usd: float = field(init=False, repr=False, default=0.0)
    _account_usd: tuple[float, float] = field(init=False, repr=False, default=(0.0, 0.0))

    def __post_init__(self) -> None:
        if not 0 < self.usd < np.inf:
            raise ValueError(f"usd must be positive, not {self.usd}")
        if not self.horizon >= 1:
            raise ValueError(f"horizon must be at least 1 request, not {self.horizon}")

    def routed(self, expected_usd: float, *, at_s: float) -> None:
        self._save(self.usd - expected_usd)
        self._book(expected_usd, self.usd)

    def settled(self, difference_usd: float, *, at_s: float) -> None:
        self._save(-difference_usd)
        self._book(difference_usd, 0.0)

    def account_usd(self, *, at_s: float) -> tuple[float, float]:
        return self._account_usd

    def _book(self, spent_usd: float, planned_usd: float) -> None:
        spent, planned = self._account_usd
        self._account_usd = spent + spent_usd, planned + planned_usd

    def _save(self, usd: float) -> None:
        most = 2.0 * self.horizon * self.usd
        self._saved_usd = min(max(self._saved_usd + usd, -5.0 * most), most)

    def allowance_usd(self, *, at_s: float) -> float:
        return _limited(self.usd + self._saved_usd / self.horizon, self.usd, 1.0 / _ALLOWED_MAX, _ALLOWED_MAX)

    def state(self) -> dict[str, Any]:
        return {"saved_usd": self._saved_usd}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._saved_usd = _finite(state["saved_usd"])


def _limited(allowance_usd: float, rate_usd: float, least: float, most: float) -> float:
    return min(max(allowance_usd, rate_usd * least), rate_usd * most)


def _finite(value: Any) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


@dataclass(kw_only=True)
class PerPeriod:
    """So many USD per hour, day or any other period, shared out over the requests that are still to come.

        allowance = (usd + carried - spent) / requests still expected, between two thirds of and four times the usual

    How many are expected is learned: the period is cut into `bins` parts, each of which remembers its requests as an
    exponential mean over periods, and what came so far today scales what is left of today. What is left over
    is carried into the next period up to a share `carry` of the budget, what was overspent up to `debt`; the rest is
    forgotten.

    requests : a guess at the requests of the first period
    """

    usd: float
    period_s: float = 86_400.0
    requests: float = 1_000.0
    bins: int = 24
    carry: float = 0.1
    debt: float = 0.5
    memory: float = 0.3
    _profile: Floats = field(init=False, repr=False)
    _counts: Floats = field(init=False, repr=False)
    _period: int = field(init=False, repr=False, default=0)
    _known: bool = field(init=False, repr=False, default=False)  # whether the profile is of traffic, not the guess
    _first: int = field(init=False, repr=False, default=0)  # bin in which this period's requests began to be counted
    _carried_usd: float = field(init=False, repr=False, default=0.0)
    _left_usd: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("usd", "period_s", "requests"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.bins < 1 or not 0 <= self.carry <= 1 or not 0 <= self.debt <= 1 or not 0 < self.memory <= 1:
            raise ValueError("bins must be at least 1, carry and debt in [0, 1] and memory in (0, 1]")
        self._profile = np.full(self.bins, self.requests / self.bins)
        self._counts = np.zeros(self.bins)
        self._left_usd = self.usd

    def routed(self, expected_usd: float, *, at_s: float) -> None:
        self._roll(at_s)
        self._counts[self._bin(at_s)] += 1.0
        self._left_usd -= expected_usd

    def settled(self, difference_usd: float, *, at_s: float) -> None:
        self._roll(at_s)
        self._left_usd -= difference_usd

    def allowance_usd(self, *, at_s: float) -> float:
        self._roll(at_s)
        rate = self.usd / max(float(self._profile.sum()), 1.0)
        return _limited(self._left_usd / max(self.expected_requests(at_s=at_s), 1.0), rate, _PERIOD_MIN, _PERIOD_MAX)

    def expected_requests(self, *, at_s: float) -> float:
        """How many requests are still to come in this period."""
        self._roll(at_s)
        now = self._bin(at_s)
        passed = at_s / self.period_s % 1.0 * self.bins - now
        before = float(self._profile[:now].sum() + passed * self._profile[now])
        after = float((1.0 - passed) * self._profile[now] + self._profile[now + 1 :].sum())
        doubt = 0.1 * float(self._profile.sum())  # one request more or less early on says little
        return after * (float(self._counts.sum()) + doubt) / (before + doubt)

    def _bin(self, at_s: float) -> int:
        return min(int(at_s / self.period_s % 1.0 * self.bins), self.bins - 1)

    def _roll(self, at_s: float) -> None:
        """Close the periods that have ended. Time that goes backwards stays in the present one."""
        ended = int(at_s // self.period_s) - self._period
        if ended <= 0:
            return
        self._learn(self._counts, self._first)
        self._carried_usd = self._carried(self._left_usd) if ended == 1 else 0.0
        self._left_usd = self.usd + self._carried_usd
        self._counts, self._first = np.zeros(self.bins), 0
        self._period += ended

    def _carried(self, left_usd: float) -> float:
        return min(max(left_usd, -self.debt * self.usd), self.carry * self.usd)

    def _learn(self, counts: Floats, first: int = 0) -> None:
        """Take a closed period's requests into the profile; bins before `first` were not seen."""
        seen = counts.copy()
        seen[:first] = counts[first:].mean()
        weight = self.memory if self._known else 1.0
        self._profile = np.maximum((1.0 - weight) * self._profile + weight * seen, 1e-3)
        self._known = True

    def resume(
        self, *, at_s: float, past: Sequence[Floats], counts: Floats, spent_usd: float, spent_before_usd: float | None
    ) -> None:
        """Go on where a ledger says that the traffic stands at `at_s`.

        past : requests per bin of the periods before, (bins,) each, oldest first; those without requests teach nothing
        counts : of this period so far, (bins,)
        spent_usd, spent_before_usd : in this period, and in the one before; None where nothing is known of that
        """
        for period in past:
            if period.sum() > 0:
                self._learn(period)
        self._period = int(at_s // self.period_s)
        self._first = 0 if self._known else self._bin(at_s)
        self._carried_usd = 0.0 if spent_before_usd is None else self._carried(self.usd - spent_before_usd)
        self.recount(at_s=at_s, counts=counts, spent_usd=spent_usd)

    def recount(self, *, at_s: float, counts: Floats, spent_usd: float) -> None:
        """What all processes together did in this period, in place of what this one saw."""
        self._roll(at_s)
        self._counts = np.asarray(counts, dtype=np.float64).copy()
        self._left_usd = self.usd + self._carried_usd - spent_usd

    def account_usd(self, *, at_s: float) -> tuple[float, float]:
        """Spent in this period so far, and what the plan would have spent by now."""
        self._roll(at_s)
        now = self._bin(at_s)
        passed = at_s / self.period_s % 1.0 * self.bins - now
        before = float(self._profile[:now].sum() + passed * self._profile[now])
        available = self.usd + self._carried_usd
        return available - self._left_usd, available * before / float(self._profile.sum())

    def state(self) -> dict[str, Any]:
        return {
            "profile": self._profile.tolist(),
            "counts": self._counts.tolist(),
            "period": self._period,
            "known": self._known,
            "first": self._first,
            "carried_usd": self._carried_usd,
            "left_usd": self._left_usd,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        profile, counts = (np.array(state[name], dtype=np.float64) for name in ("profile", "counts"))
        if profile.shape != (self.bins,) or counts.shape != (self.bins,):
            raise ValueError(f"expected {self.bins} bins")
        if not np.isfinite(profile).all() or not np.isfinite(counts).all() or min(profile.min(), counts.min()) < 0:
            raise ValueError("requests out of range")
        period, first, known = int(state["period"]), int(state["first"]), bool(state["known"])
        left, carried = _finite(state["left_usd"]), _finite(state["carried_usd"])
        self._profile, self._counts, self._period = profile, counts, period
        self._first, self._known, self._left_usd, self._carried_usd = first, known, left, carried
