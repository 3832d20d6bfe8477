"""Strengths that explain who beat whom, linear in the query: contextual Bradley-Terry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from policies._coordinates import Basis, coordinates
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints

COMPARISONS_MAX = 300_000
"""Comparisons learned from at a time; of more, this many are drawn and weigh for the others."""

_STRENGTH_PRECISION = 0.1  # a strength is believed to lie within a few logits of 0: whoever always won stays finite
_UNTIL = {"maxiter": 200, "ftol": 1e-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """M comparisons: rows (query, better endpoint, worse endpoint), int64 (M, 3), and their weights, float64 (M,)."""

    rows: Ints
    weight: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, experience: Experience) -> Self:
        """What was compared, and for queries where nothing was, what their graded outcomes imply.

        Of two endpoints with outcomes of one query the one with the higher mean quality is the better; equals say
        nothing. A query with n graded endpoints implies up to n (n - 1) / 2 comparisons that are worth n - 1, so
        each weighs 2 / n.
        """
        said = experience.comparisons
        implied, weight = _implied(experience, said[:, 0])
        rows = np.concatenate([said, implied])
        weights = np.concatenate([np.ones(len(said)), weight])
        if len(rows) > COMPARISONS_MAX:
            drawn = np.sort(np.random.default_rng(0).choice(len(rows), COMPARISONS_MAX, replace=False))
            rows, weights = rows[drawn], weights[drawn] * (len(rows) / COMPARISONS_MAX)
        return cls(rows=rows, weight=weights)

    def select(self, kept: Ints) -> Comparisons:
        return Comparisons(rows=self.rows[kept], weight=self.weight[kept])


def _implied(experience: Experience, compared: Ints) -> tuple[Ints, Floats]:
    """Rows (query, better, worse) and weights from outcomes of the queries that are not in `compared`."""
    own = experience.select(~np.isin(experience.query, compared))
    quality, _ = own.table()
    graded = np.isfinite(quality).sum(axis=1)
    found, weights = [np.zeros((0, 3), dtype=np.int64)], [np.zeros(0)]
    for first in range(quality.shape[1]):
        for second in range(first + 1, quality.shape[1]):
            margin = quality[:, first] - quality[:, second]  # NaN where one of them is unknown
            for better, worse, query in ((first, second, margin > 0), (second, first, margin < 0)):
                at = np.flatnonzero(query)
                found.append(np.stack([at, np.full_like(at, better), np.full_like(at, worse)], axis=1))
                weights.append(2.0 / graded[at])
    return np.concatenate(found), np.concatenate(weights)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strengths:
    """What is believed of E endpoints' strengths s_e(x) = theta_e' z, z = [1, x]. Nothing is ever written in place.

        P(a beats b | x) = sigmoid(s_a(x) - s_b(x))

    A belief is a normal distribution per endpoint. `learn` moves to the most probable theta given new comparisons and
    adds their curvature to the precision (Laplace), so the belief after a batch is the prior of the next, as in
    Bayesian logistic regression (Bishop, 2006, "Pattern Recognition and Machine Learning", 4.5). Only differences of
    strengths are observed, and only the curvature's blocks of one endpoint each are kept: times n / (n - 1) for n
    endpoints, their differences have the variance of the whole where all pairs were compared alike, as with two.

    theta : float64 (E, D)
    precision : float64 (E, D, D)
    compared : float64 (E,), weight of the comparisons each endpoint took part in
    """

    theta: Floats
    precision: Floats
    compared: Floats

    @classmethod
    def prior(cls, *, endpoints: int, features: int, penalty: float) -> Self:
        """All equal: the penalty holds a strength to the same value for every query."""
        diagonal = np.full(features, float(penalty))
        diagonal[0] = _STRENGTH_PRECISION
        return cls(
            theta=np.zeros((endpoints, features)),
            precision=np.repeat(np.diag(diagonal)[None], endpoints, axis=0),
            compared=np.zeros(endpoints),
        )

    def widened(self, endpoints: int, *, penalty: float) -> Strengths:
        """The same with endpoints that were never compared added at the end, up to `endpoints` in all."""
        new = Strengths.prior(endpoints=endpoints - len(self.theta), features=self.theta.shape[1], penalty=penalty)
        return Strengths(
            theta=np.concatenate([self.theta, new.theta]),
            precision=np.concatenate([self.precision, new.precision]),
            compared=np.concatenate([self.compared, new.compared]),
        )

    def basis(self, features: Floats) -> Basis:
        """What `learn` and `most_probable` have in common before any comparison, for queries z (Q, D)."""
        return Basis.of(features, self.precision[0])

    def learn(self, features: Floats, comparisons: Comparisons, basis: Basis | None = None) -> Strengths:
        """With comparisons on the queries z (Q, D) added; `basis` of those, where nothing is known yet."""
        if not len(comparisons):
            return self
        theta = self.most_probable(features, comparisons, basis)
        query, better, worse = comparisons.rows.T
        strength = features @ theta.T
        chance = sigmoid(strength[query, better] - strength[query, worse])
        bend = np.zeros_like(strength)
        compared = self.compared.copy()
        for side in (better, worse):
            np.add.at(bend, (query, side), comparisons.weight * chance * (1.0 - chance))
            np.add.at(compared, side, comparisons.weight)
        met = np.flatnonzero(bend.any(axis=0))
        bend *= len(met) / (len(met) - 1)
        precision = self.precision.copy()
        single = features.astype(np.float32)  # curvature needs few digits, and is most of the work
        for e in met:
            seen = np.flatnonzero(bend[:, e])
            half = single[seen] * np.sqrt(bend[seen, e, None]).astype(np.float32)
            precision[e] += half.T @ half
        return Strengths(theta=theta, precision=precision, compared=compared)

    def most_probable(self, features: Floats, comparisons: Comparisons, basis: Basis | None = None) -> Floats:
        """theta, float64 (E, D), by L-BFGS in coordinates in which the loss bends about alike in all directions."""
        from scipy.optimize import minimize  # for learning alone

        if not len(comparisons):
            return self.theta
        query, better, worse = comparisons.rows.T
        met, sides = np.unique(np.stack([better, worse]), return_inverse=True)  # the others stay as they are
        cells = (len(features), len(met))
        won, lost = (np.ravel_multi_index((query, side), cells) for side in sides.reshape(2, -1))
        weight = np.bincount(sides.ravel(), np.tile(comparisons.weight, 2)) / (4.0 * len(features))
        steps = coordinates(features, self.precision[met], weight, basis)
        before = features @ self.theta[met].T

        def loss(flat: Floats) -> tuple[float, Floats]:
            strength = (before + steps.strength(flat)).ravel()
            margin = strength[won] - strength[lost]
            rest = np.exp(-np.abs(margin))  # P(the worse one wins), before it is divided by the sum of both
            pull = comparisons.weight * np.where(margin > 0, rest, 1.0) / (1.0 + rest)
            per_cell: Floats = np.bincount(lost, pull, len(strength)) * 1.0
            per_cell -= np.bincount(won, pull, len(strength))
            held, slope = steps.held(flat)
            value = comparisons.weight @ (np.log1p(rest) - np.minimum(margin, 0.0)) + held
            return float(value), slope + steps.gathered(per_cell.reshape(cells))

        flat = np.zeros(len(met) * features.shape[1])
        found = minimize(loss, flat, jac=True, method="L-BFGS-B", options=_UNTIL)
        theta = self.theta.copy()
        theta[met] += steps.theta(found.x)
        return theta


def sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))
