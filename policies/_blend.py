"""How far to trust each of several estimates: non-negative weights on what they say beyond an endpoint's mean."""

from __future__ import annotations

import numpy as np

from router_gateway.core.types import Floats

_ROUNDS = 10_000
_SETTLED = 1e-12


def nonnegative_ridge(beyond: Floats, residual: Floats, *, prior: Floats, penalty: float) -> Floats:
    """Weights w >= 0, float64 (S,), that minimise sum_n (r_n - sum_s w_s x_ns)² + penalty t sum_s (w_s - prior_s)².

    Convex, and solved one weight at a time (coordinate descent), which for a handful of weights takes no time.

    beyond : x, float64 (N, S); residual : r, float64 (N,)
    prior : float64 (S,), the weights without any evidence
    penalty : how many outcomes the prior counts for, as t is the mean of all x²
    """
    size = float(np.mean(beyond**2)) if beyond.size else 0.0
    if size == 0.0:
        return prior.copy()
    gram = beyond.T @ beyond + penalty * size * np.eye(len(prior))
    target = beyond.T @ residual + penalty * size * prior
    weights = prior.copy()
    for _ in range(_ROUNDS):
        before = weights.copy()
        for s in np.flatnonzero(np.diag(gram) > 0):
            weights[s] = max(0.0, weights[s] + (target[s] - gram[s] @ weights) / gram[s, s])
        if np.abs(weights - before).max() <= _SETTLED:
            break
    return weights
