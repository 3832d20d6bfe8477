"""The newest decisions of a router, and what they would have cost at another dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from router_gateway.core.protocols import Rule
from router_gateway.core.types import Bools, Decision, Floats

_NEWEST = 32


class Mean(NamedTuple):
    """Of one endpoint over the requests it may answer."""

    quality: float
    stddev: float
    cost_usd: float


class Window:
    """What every endpoint would have brought and cost for the newest `size` requests; inf where it may not answer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._names: tuple[str, ...] = ()
        self._rows = np.empty((3, size, 0))
        self._count = 0

    def __len__(self) -> int:
        return min(self._count, self._size)

    def add(self, decision: Decision) -> None:
        """A scored decision; one of another pool begins anew."""
        if decision.endpoints != self._names:
            self._begin(decision.endpoints)
        self._put(decision.quality, decision.stddev, np.where(decision.eligible, decision.cost_usd, np.inf))

    def traffic(self, rule: Rule) -> Traffic:
        """The requests as they stand, for `rule` to choose among."""
        rows = self._rows[:, : len(self)]
        order = np.argsort(rows[2], axis=1, kind="stable")  # rules expect the cheapest first
        return Traffic(rule, *(np.take_along_axis(part, order, axis=1) for part in rows))

    def means(self) -> dict[str, Mean]:
        """By name, of the endpoints that may answer most of the newest requests: what is believed of them now."""
        newest = np.arange(self._count - min(len(self), _NEWEST), self._count) % self._size
        quality, stddev, cost = self._rows[:, newest]
        known = np.isfinite(cost)
        usual = np.flatnonzero(known.mean(axis=0) > 0.5).tolist() if len(self) else []
        return {
            self._names[e]: Mean(*(float(part[known[:, e], e].mean()) for part in (quality, stddev, cost)))
            for e in usual
        }

    def _begin(self, names: tuple[str, ...]) -> None:
        self._names, self._count = names, 0
        self._rows = np.empty((3, self._size, len(names)))

    def _put(self, *row: Any) -> None:
        self._rows[:, self._count % self._size] = row
        self._count += 1

    def state(self) -> dict[str, Any]:
        """Names and rows, as JSON."""
        newest = [(self._count - len(self) + i) % self._size for i in range(len(self))]
        return {"names": list(self._names), "rows": [[_json(part) for part in self._rows[:, i]] for i in newest]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`. Raises KeyError, TypeError or ValueError for anything else."""
        self._begin(tuple(str(name) for name in state["names"]))
        for row in state["rows"]:
            quality, stddev, cost = ([np.inf if v is None else float(v) for v in part] for part in row)
            self._put(quality, stddev, cost)


class Traffic:
    """Requests for which a rule chooses: quality, stddev and cost, each (W, E), the cheapest first."""

    def __init__(self, rule: Rule, quality: Floats, stddev: Floats, cost: Floats) -> None:
        self._rule, self._quality, self._stddev = rule, quality, stddev
        self._eligible: Bools = np.isfinite(cost)
        self._paid = np.where(self._eligible, cost, 0.0)

    def spend_usd(self, worth_usd: float, optimism: float) -> float:
        """Mean USD per request at that dial."""
        value = self._quality - self._paid / worth_usd
        if optimism:
            value = value + optimism * self._stddev
        return float((self._rule.probabilities(value, self._eligible) * self._paid).sum() / len(value))


def _json(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
