"""The map from embeddings to factors that all endpoints share, learned from their outcomes together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from policies._identities import sigmoid
from router_gateway.core.types import Floats

_STEPS_MAX = 300  # of L-BFGS
_START = 0.1  # length of the first factors against that of the null model's gradient, whose directions they take
_KEPT = 1e-3  # a factor that moves no logit of a unit vector by more than this is dropped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedMap:
    """Of a query x: its factors u = W'(x - centre) and its difficulty beta'(x - centre).

    centre : float64 (d,)
    weights : float64 (d, r + 1), the columns of W and then -beta
    axes : float64 (d, d), orthogonal directions in which what was asked determines the weights independently
    unsure : float64 (d, r + 1), variance of each weight along each axis
    """

    centre: Floats
    weights: Floats
    axes: Floats
    unsure: Floats

    def read(self, embedding: Floats) -> tuple[Floats, Floats]:
        """Features z = [1, u], float64 (R, 1 + r), and the offset, minus the difficulty, (R,)."""
        # One product per query, so that a batch gives the bits its rows would.
        read = np.matmul((embedding.astype(np.float64) - self.centre)[:, None, :], self.weights)[:, 0]
        return np.concatenate([np.ones((len(read), 1)), read[:, :-1]], axis=1), read[:, -1]

    def doubt(self, embedding: Floats) -> Floats:
        """Variance of u and of the offset, float64 (R, r + 1): how well this map is known at these queries."""
        along = np.matmul((embedding.astype(np.float64) - self.centre)[:, None, :], self.axes)
        return np.asarray(np.matmul(along**2, self.unsure)[:, 0])


def learn_map(
    embedding: Floats,
    quality: Floats,
    count: Floats,
    *,
    rank: int,
    penalty: float,
    difficulty_penalty: float | None,
    kl_weight: float | None,
) -> SharedMap:
    """The map that explains a table best; formulas and meaning of the parameters in `policies.factors`.

    quality, count : float64 (Q, E), mean and number of the outcomes of a cell; a cell with none may hold anything
    """
    from scipy.optimize import minimize  # only fitting needs it, and it takes a while to import

    if not quality.size:
        return _nothing(embedding.shape[1])
    centre = embedding.mean(axis=0, dtype=np.float64)
    points = embedding - centre.astype(np.float32)
    objective = _Objective(points, quality, count, penalty, difficulty_penalty, kl_weight)
    with threadpool_limits(limits=1):  # several threads add in the order in which they finish
        start = objective.start(min(rank, quality.shape[1], embedding.shape[1]))
        found = minimize(
            objective, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS_MAX, "ftol": 1e-7, "gtol": 1e-3}
        )
        # An identity's prior is round, so factors may be turned: in these axes W'W and P'P are diagonal at the optimum.
        loading, identity, _, ease, _ = objective.parts(found.x)
        left, length, turn = np.linalg.svd(loading, full_matrices=False)
        spent = ((identity @ turn.T) ** 2).sum(axis=0)  # P'P
        kept = length * np.sqrt(spent) > _KEPT
        reach, axes = np.linalg.eigh(objective.information(found.x))
    evidence = np.maximum(reach, 0.0)[:, None]
    unsure = np.full((len(axes), int(kept.sum()) + 1), 0.0)
    unsure[:, :-1] = 1.0 / (penalty**2 + evidence * spent[kept])
    if difficulty_penalty is not None:
        unsure[:, -1] = 1.0 / (difficulty_penalty + evidence[:, 0] * quality.shape[1])
    weights = np.concatenate([left[:, kept] * length[kept], ease[:, None]], axis=1)
    return SharedMap(centre=centre, weights=weights, axes=axes, unsure=unsure)


def _nothing(width: int) -> SharedMap:
    """The map that tells no queries apart, where there was nothing to learn from."""
    none = np.zeros((width, 1))
    return SharedMap(centre=np.zeros(width), weights=none, axes=np.eye(width), unsure=none)


class _Objective:
    """What `learn_map` minimises, and its gradient, over (p W, P, b, -sqrt(p_d) beta, log sigma) in one vector.

    Scaled like this every penalty is 1, so that L-BFGS finds its way however strong they are.
    """

    def __init__(
        self,
        points: Floats,
        quality: Floats,
        count: Floats,
        penalty: float,
        difficulty_penalty: float | None,
        kl_weight: float | None,
    ) -> None:
        self._points = np.ascontiguousarray(points, dtype=np.float32)
        self._transposed = np.ascontiguousarray(self._points.T)
        self._quality = np.where(count > 0, quality, 0.5)
        self._count = count
        self._penalty, self._kl_weight = penalty, kl_weight
        self._ease_scale = None if difficulty_penalty is None else np.sqrt(difficulty_penalty)
        self._rank = 0

    def start(self, rank: int) -> Floats:
        """Every endpoint at its mean, small factors along the steepest directions, no randomness needed."""
        self._rank, width, endpoints = rank, self._points.shape[1], self._quality.shape[1]
        total = (self._count * self._quality).sum(axis=0)
        mean = (total + 0.5) / (self._count.sum(axis=0) + 1.0)
        steepest = self._gathered(self._count * (self._quality - mean))
        if self._ease_scale is not None:
            steepest = steepest - steepest.mean(axis=1, keepdims=True)
        left, length, right = np.linalg.svd(steepest, full_matrices=False)
        size = _START * np.sqrt(length[:rank] / max(length.max(initial=0.0), 1e-12))
        parts = [left[:, :rank] * size, right[:rank].T * size, np.log(mean / (1 - mean)), np.zeros(width)]
        if self._kl_weight is not None:
            parts.append(np.full((endpoints, rank), -0.5))
        return np.concatenate([np.ravel(part) for part in parts])

    def parts(self, flat: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """W (d, r), P (E, r), b (E,), -beta (d,), log sigma (E, r) or (0, r)."""
        width, endpoints, rank = self._points.shape[1], self._quality.shape[1], self._rank
        ends = np.cumsum([width * rank, endpoints * rank, endpoints, width])
        loading, identity, level, ease, spread = np.split(flat, ends)
        return (
            loading.reshape(width, rank) / self._penalty,
            identity.reshape(endpoints, rank),
            level,
            ease / (self._ease_scale or 1.0),
            spread.reshape(len(spread) and endpoints, rank),
        )

    def information(self, flat: Floats) -> Floats:
        """float64 (d, d), sum q (1 - q) x x' over the outcomes of a mean endpoint, q their predicted quality."""
        loading, identity, level, ease, _ = self.parts(flat)
        chance = sigmoid(self._read(loading @ identity.T + ease[:, None]) + level)
        told = (self._count * chance * (1 - chance)).sum(axis=1) / max(1, len(level))
        return self._gathered(told[:, None] * self._points)

    def __call__(self, flat: Floats) -> tuple[float, Floats]:
        loading, identity, level, ease, spread = self.parts(flat)
        logit = self._read(loading @ identity.T + ease[:, None]) + level
        chance = sigmoid(logit)
        loss = float((self._count * (np.logaddexp(0.0, logit) - self._quality * logit)).sum())
        loss += float((np.logaddexp(0.0, level) - level / 2).sum())  # one imagined answer, half good, at the centre
        error = self._count * (chance - self._quality)
        by_loading = np.zeros_like(loading)
        by_spread = np.zeros_like(spread)
        weight = 1.0 if self._kl_weight is None else self._kl_weight
        if self._kl_weight is not None:
            # E[softplus] over N(logit, v) to second order: half of v times the curvature at the mean.
            read, square = self._read(loading), np.exp(2 * spread)
            variance, curvature = read**2 @ square.T, chance * (1 - chance)
            by_variance = self._count * curvature / 2
            loss += float((by_variance * variance).sum() + weight * (square / 2 - spread - 0.5).sum())
            error = error + by_variance * variance * (1 - 2 * chance)
            by_loading += self._gathered(2 * read * (by_variance @ square))
            by_spread += 2 * square * (by_variance.T @ read**2) + weight * (square - 1)
        steep = self._gathered(error)
        by_loading += steep @ identity
        by_loading = by_loading / self._penalty + self._penalty * loading  # by p W, as laid out
        by_identity = steep.T @ loading + weight * identity
        loss += float(self._penalty**2 * (loading**2).sum() + weight * (identity**2).sum()) / 2
        by_level = error.sum(axis=0) + sigmoid(level) - 0.5
        by_ease = np.zeros_like(ease)
        if self._ease_scale is not None:
            by_ease = steep.sum(axis=1) / self._ease_scale + self._ease_scale * ease
            loss += float(((self._ease_scale * ease) ** 2).sum()) / 2
        parts = (by_loading, by_identity, by_level, by_ease, by_spread)
        return loss, np.concatenate([part.ravel() for part in parts])

    def _read(self, directions: Floats) -> Floats:
        return np.asarray(self._points @ directions.astype(np.float32), dtype=np.float64)

    def _gathered(self, values: Floats) -> Floats:
        return np.asarray(self._transposed @ values.astype(np.float32), dtype=np.float64)
