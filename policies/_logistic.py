"""Multinomial logistic regression on embeddings: fitted by scikit-learn, read by numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from router_gateway.core.types import Floats, Ints

ROWS_MAX = 4_000
"""More rows than this are thinned out evenly: a boundary between kinds of query is known well before."""
_TOLERANCE = 1e-4
_STEPS_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Logistic:
    """K classes, softmax(x slope + intercept). Never written in place.

    slope : float64 (d, K)
    intercept : float64 (K,)
    """

    slope: Floats
    intercept: Floats

    @classmethod
    def fit(cls, embedding: Floats, label: Ints, *, penalty: float) -> Self:
        """Of labels (R,) in 0..K-1, each of which occurs; K = 1, certain of it, where there is nothing to tell apart.

        penalty : of the squared slopes, in units of one query's log likelihood
        """
        classes = int(label.max()) + 1 if len(label) else 1
        if classes == 1:
            return cls(slope=np.zeros((embedding.shape[1], 1)), intercept=np.zeros(1))
        from sklearn.linear_model import LogisticRegression  # only fitting needs it

        regression = LogisticRegression(C=1.0 / penalty, tol=_TOLERANCE, max_iter=_STEPS_MAX)
        with threadpool_limits(limits=1):  # several threads would add in the order in which they finish
            regression.fit(embedding.astype(np.float32), label)
        slope, intercept = regression.coef_.T.astype(np.float64), regression.intercept_.astype(np.float64)
        if classes == 2:  # scikit-learn keeps the second class only, against a first that is zero
            slope, intercept = np.pad(slope, ((0, 0), (1, 0))), np.pad(intercept, (1, 0))
        return cls(slope=np.ascontiguousarray(slope), intercept=intercept)

    def __len__(self) -> int:
        return len(self.intercept)

    def classify(self, embedding: Floats) -> tuple[Ints, Floats]:
        """The likeliest class of each row and its probability, (Q,) each."""
        # One product per query, so that a batch gives the bits its rows would.
        logit = np.matmul(embedding.astype(np.float64)[:, None, :], self.slope)[:, 0] + self.intercept
        best = logit.argmax(axis=1)
        above = logit - np.take_along_axis(logit, best[:, None], axis=1)
        return best, 1.0 / np.exp(above).sum(axis=1)


def thinned(rows: int) -> Ints:
    """At most ROWS_MAX of `rows` positions, evenly spread."""
    return np.linspace(0, max(rows - 1, 0), min(rows, ROWS_MAX)).round().astype(np.int64)
