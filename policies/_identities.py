"""Where an endpoint stands among the factors of queries: logistic regression with a Gaussian prior, and what to ask."""

from __future__ import annotations

import numpy as np

from router_gateway.core.types import Floats, Ints

_NEWTON_MAX = 30
_STEP_MIN = 1e-3  # a step halved below this share has found the mode, to rounding


def sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))


def place(
    features: Floats, offset: Floats, quality: Floats, weight: Floats, mean: Floats, precision: Floats
) -> tuple[Floats, Floats]:
    """One endpoint's identity after outcomes, by Newton's method: posterior mode (D,) and precision (D, D).

    Minimises sum weight * cross-entropy(quality, sigmoid(features @ theta + offset)) + (theta - mean)' precision
    (theta - mean) / 2; the precision returned is the Hessian there (Laplace's approximation).
    features (R, D), offset, quality, weight (R,), all float64
    """

    def loss_at(theta: Floats) -> float:
        logit, away = features @ theta + offset, theta - mean
        return float(weight @ (np.logaddexp(0.0, logit) - quality * logit) + away @ precision @ away / 2)

    theta = mean
    loss = loss_at(theta)
    for _ in range(_NEWTON_MAX):
        chance = sigmoid(features @ theta + offset)
        slope = features.T @ (weight * (chance - quality)) + precision @ (theta - mean)
        curved = precision + (features * (weight * chance * (1 - chance))[:, None]).T @ features
        step = np.linalg.solve(curved, slope)
        scale = 1.0
        while scale > _STEP_MIN and (new := loss_at(theta - scale * step)) > loss:
            scale /= 2
        if scale <= _STEP_MIN or slope @ step < 1e-12:
            break
        theta, loss = theta - scale * step, new
    chance = sigmoid(features @ theta + offset)
    curved = precision + (features * (weight * chance * (1 - chance))[:, None]).T @ features
    return theta, (curved + curved.T) / 2


def most_informative(features: Floats, weight: Floats, precision: Floats, n: int) -> Ints:
    """Rows that, greedily, raise the determinant of precision + sum weight z z' most: min(n, R) of them, in order."""
    left = np.linalg.solve(precision, features.T).T  # rows A^-1 z
    gain = weight * np.einsum("rd,rd->r", features, left)
    chosen: list[int] = []
    for _ in range(min(n, len(features))):
        row = int(np.argmax(gain))
        chosen.append(row)
        # Sherman-Morrison: A^-1 loses w (A^-1 z)(A^-1 z)' / (1 + w z'A^-1 z).
        reach, share = left[row].copy(), weight[row] / (1.0 + weight[row] * features[row] @ left[row])
        along = features @ reach
        left -= share * along[:, None] * reach
        gain = gain - weight * share * along**2
        gain[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)
