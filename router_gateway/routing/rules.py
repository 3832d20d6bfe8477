"""Values to probabilities. Each rule is exact about the chance it gives every endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from router_gateway.core.types import Bools, Floats


def _best(value: Floats, eligible: Bools) -> Floats:
    """One-hot float64 (Q, E) of the first largest eligible value in each row."""
    masked = np.where(eligible, value, -np.inf)
    one_hot = np.zeros(value.shape, dtype=np.float64)
    one_hot[np.arange(len(value)), masked.argmax(axis=1)] = 1.0
    return one_hot


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy:
    """All probability on the best value."""

    name: ClassVar[str] = "greedy"

    def probabilities(self, value: Floats, eligible: Bools) -> Floats:
        return _best(value, eligible)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonGreedy:
    """`epsilon` spread evenly over the eligible endpoints, the rest on the best value."""

    name: ClassVar[str] = "epsilon_greedy"
    epsilon: float = 0.05

    def probabilities(self, value: Floats, eligible: Bools) -> Floats:
        even = eligible / eligible.sum(axis=1, keepdims=True)
        return np.asarray((1 - self.epsilon) * _best(value, eligible) + self.epsilon * even)


@dataclass(frozen=True, slots=True, kw_only=True)
class InverseGap:
    """Inverse-gap weighting: a worse endpoint gets 1 / (n + gamma · gap), the best one the rest.

    n is the number of eligible endpoints and gap the distance to the best value, so endpoints that are
    almost as good are tried often and poor ones rarely (Abe and Long 1999; Foster and Rakhlin 2020,
    "Beyond UCB", where gamma sets the regret). gamma 0 is uniform; infinity is greedy, exact ties shared.
    """

    name: ClassVar[str] = "inverse_gap"
    gamma: float = 200.0

    def probabilities(self, value: Floats, eligible: Bools) -> Floats:
        masked, row = np.where(eligible, value, -np.inf), np.arange(len(value))
        best = masked.argmax(axis=1)
        gap = masked[row, best][:, None] - value
        n = eligible.sum(axis=1, keepdims=True)
        # Infinity · 0 is no number.
        penalty = self.gamma * np.maximum(gap, 0.0) if self.gamma < np.inf else np.where(gap > 0, np.inf, 0.0)
        probability = np.where(eligible, 1.0 / (n + penalty), 0.0)
        probability[row, best] = 0.0
        probability[row, best] = 1.0 - probability.sum(axis=1)
        return probability
