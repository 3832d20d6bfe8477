"""The map from embeddings to factors that all endpoints share, learned from their outcomes together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from policies._identities import sigmoid
from router_gateway.core.types import Floats

_STEPS_MAX = 300  # of L-BFGS
_SETTLED = (
    3e-6  # share of the loss below which a step ends it: with 1e-7, twice the steps, held-out errors are the same
)
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
    with threadpool_limits(limits=1):  # several threads add in the order in which they finish
        centre = embedding.mean(axis=0, dtype=np.float64)
        away = embedding - centre.astype(np.float32)
        axes = np.linalg.eigh((away.T @ away).astype(np.float64))[1]
        points = away @ axes.astype(np.float32)
        objective = _Objective(
            points,
            quality,
            count,
            rank=rank,
            penalty=penalty,
            difficulty_penalty=difficulty_penalty,
            kl_weight=kl_weight,
        )
        options = {"maxiter": _STEPS_MAX, "ftol": _SETTLED, "gtol": 1e-4}
        found = minimize(objective, objective.start(), jac=True, method="L-BFGS-B", options=options)
        loading, identity, _, ease, _ = objective.parts(found.x)
        # An identity's prior is round, so factors may be turned: so turned, W'W and P'P are diagonal at the optimum.
        left, length, turn = np.linalg.svd(loading, full_matrices=False)
        spent = ((identity @ turn.T) ** 2).sum(axis=0)  # P'P
        kept = length * np.sqrt(spent) > _KEPT
        told = objective.information(found.x)[:, None]
        weights = axes @ np.concatenate([left[:, kept] * length[kept], ease[:, None]], axis=1)
    by_factor = 1.0 / (penalty**2 + told * spent[kept])
    of_ease = (
        np.zeros_like(told) if difficulty_penalty is None else 1.0 / (difficulty_penalty + told * quality.shape[1])
    )
    return SharedMap(centre=centre, weights=weights, axes=axes, unsure=np.concatenate([by_factor, of_ease], axis=1))


def _nothing(width: int) -> SharedMap:
    """The map that tells no queries apart, where there was nothing to learn from."""
    none = np.zeros((width, 1))
    return SharedMap(centre=np.zeros(width), weights=none, axes=np.eye(width), unsure=none)


class _Objective:
    """What `learn_map` minimises, and its gradient, over (W, P, b, -beta, log sigma) in one vector.

    Each number is laid out in units of about the length over which the loss curves, so that L-BFGS finds its way
    however strong the penalties and uneven the directions are; what is not to be learned has unit 0.
    """

    def __init__(
        self,
        points: Floats,
        quality: Floats,
        count: Floats,
        *,
        rank: int,
        penalty: float,
        difficulty_penalty: float | None,
        kl_weight: float | None,
    ) -> None:
        self._points = np.ascontiguousarray(points, dtype=np.float32)
        self._transposed = np.ascontiguousarray(self._points.T)
        self._quality = np.where(count > 0, quality, 0.5).astype(np.float32)
        self._count = count.astype(np.float32)
        self._spread_out = kl_weight is not None
        self._weight = 1.0 if kl_weight is None else kl_weight
        self._penalty, self._difficulty_penalty = penalty**2, difficulty_penalty or 0.0
        width, endpoints = points.shape[1], count.shape[1]
        rank = min(rank, width, endpoints)
        self._shapes = [(width, rank), (endpoints, rank), (endpoints,), (width,), (endpoints * self._spread_out, rank)]
        # A logistic loss curves by at most a quarter of the squared input; of factors a quarter is taken for typical.
        across = count.sum(axis=1) @ self._points.astype(np.float64) ** 2 / 4
        each = count.sum(axis=0) / 4
        ease_unit = np.zeros(width) if difficulty_penalty is None else 1 / np.sqrt(difficulty_penalty + across)
        units = [1 / np.sqrt(self._penalty + across), 1 / np.sqrt(self._weight + each / 4), 1 / np.sqrt(1 + each)]
        units = [np.repeat(units[0], rank), np.repeat(units[1], rank), units[2], ease_unit]
        self._unit = np.concatenate([*units, np.ones(endpoints * rank * self._spread_out)])

    def start(self) -> Floats:
        """Every endpoint at its mean, small factors along the steepest directions: no randomness needed."""
        rank = self._shapes[0][1]
        good = (self._count * self._quality).sum(axis=0, dtype=np.float64)
        mean = (good + 0.5) / (self._count.sum(axis=0, dtype=np.float64) + 1.0)
        steepest = self._gathered(self._count * (self._quality - mean))
        if self._difficulty_penalty:
            steepest = steepest - steepest.mean(axis=1, keepdims=True)
        left, length, right = np.linalg.svd(steepest, full_matrices=False)
        size = _START * np.sqrt(length[:rank] / max(length.max(initial=0.0), 1e-12))
        parts = [left[:, :rank] * size / np.sqrt(self._penalty), right[:rank].T * size, np.log(mean / (1 - mean))]
        rest = [np.zeros(self._shapes[3]), np.full(self._shapes[4], -0.5)]
        flat = np.concatenate([part.ravel() for part in (*parts, *rest)])
        return flat / np.where(self._unit > 0, self._unit, 1.0)

    def parts(self, flat: Floats) -> list[Floats]:
        """W (d, r), P (E, r), b (E,), -beta (d,), log sigma (E, r) or (0, r)."""
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self._shapes])[:-1]
        pieces = np.split(flat * self._unit, ends)
        return [piece.reshape(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def information(self, flat: Floats) -> Floats:
        """float64 (d,), sum q (1 - q) x² over the outcomes of a mean endpoint, q their predicted quality."""
        loading, identity, level, ease, _ = self.parts(flat)
        chance = sigmoid(self._read(loading @ identity.T + ease[:, None], level))
        told = (self._count * chance * (1 - chance)).sum(axis=1, dtype=np.float64) / len(level)
        return np.asarray(told @ self._points.astype(np.float64) ** 2)

    def __call__(self, flat: Floats) -> tuple[float, Floats]:
        loading, identity, level, ease, spread = self.parts(flat)
        logit = self._read(loading @ identity.T + ease[:, None], level)
        rest = np.exp(-np.abs(logit))  # of the two chances the smaller one, before it is divided by their sum
        chance = np.where(logit > 0, 1.0, rest) / (1.0 + rest)
        cross = np.log(1.0 + rest) + np.maximum(logit, 0.0) - self._quality * logit
        loss = float((self._count * cross).sum(dtype=np.float64))
        loss += float((np.logaddexp(0.0, level) - level / 2).sum())  # one imagined answer, half good, at the centre
        loss += float(self._penalty * (loading**2).sum() + self._weight * (identity**2).sum()) / 2
        loss += self._difficulty_penalty * float((ease**2).sum()) / 2
        error = self._count * (chance - self._quality)
        by_loading, by_spread = self._penalty * loading, np.zeros_like(spread)
        if self._spread_out:
            # E[softplus] over N(logit, v) to second order: half of v times the curvature at the mean.
            read, square = self._read(loading).astype(np.float64), np.exp(2 * spread)
            variance, curvature = read**2 @ square.T, chance * (1 - chance)
            by_variance = self._count * curvature / 2
            loss += float((by_variance * variance).sum() + self._weight * (square / 2 - spread - 0.5).sum())
            error = error + by_variance * variance * (1 - 2 * chance)
            by_loading = by_loading + self._gathered(2 * read * (by_variance @ square))
            by_spread = 2 * square * (by_variance.T @ read**2) + self._weight * (square - 1)
        steep = self._gathered(error)
        by_loading = by_loading + steep @ identity
        by_identity = steep.T @ loading + self._weight * identity
        by_level = error.sum(axis=0, dtype=np.float64) + sigmoid(level) - 0.5
        by_ease = steep.sum(axis=1) + self._difficulty_penalty * ease
        parts = (by_loading, by_identity, by_level, by_ease, by_spread)
        return loss, np.concatenate([part.ravel() for part in parts]) * self._unit

    def _read(self, directions: Floats, level: Floats | float = 0.0) -> Floats:
        """float32 (Q, E) or (Q, r); single precision is what the points have, and twice as fast."""
        return np.asarray(self._points @ directions.astype(np.float32) + np.asarray(level, dtype=np.float32))

    def _gathered(self, values: Floats) -> Floats:
        return np.asarray(self._transposed @ values.astype(np.float32, copy=False), dtype=np.float64)
