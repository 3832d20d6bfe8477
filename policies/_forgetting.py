"""Bayesian regressions of many endpoints that forget: what they learn of a drift, and how sure they are of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from router_gateway.core.types import Floats, Ints

STALE_MAX = 4.0
"""Silence multiplies a variance by at most this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Residuals:
    """E linear regressions on D features z = [1, ...] of what an earlier estimate left over, r = y - that estimate.

    Nothing here is ever written in place. An endpoint's outcome weighs w_i = gamma^j once j later ones of that
    endpoint are known, and

        A = P + sum_i w_i z_i z_i'      b = sum_i w_i r_i z_i      P = diag(1, p, ..., p)
        theta = A^-1 b
        s2    = (1/4 + sum_i w_i r_i² - b' theta) / (1 + sum_i w_i)
        var   = s2 z' A^-1 z · min(gamma^-k, 4)      k outcomes of other endpoints since its own last one

    Outcomes are forgotten and P is not. So A stays well conditioned however long one kind of query is all there
    is, and an endpoint that nobody asks returns to the earlier estimate. The imagined answer in P and s2, half
    good and half bad, is that of `policies._moments`: without any outcome the variance is at least 1/4.

    penalty : p
    gram : float64 (E, D, D), A - P
    moment : float64 (E, D), b
    count, square : float64 (E,), sums of w and of w r²
    last : int64 (E,), the clock at the endpoint's last outcome
    clock : int64 (), outcomes of all endpoints so far
    """

    penalty: float
    gram: Floats
    moment: Floats
    count: Floats
    square: Floats
    last: Ints
    clock: Ints

    @classmethod
    def nothing(cls, *, endpoints: int, features: int, penalty: float) -> Self:
        """What is known of `endpoints` endpoints before any outcome."""
        return cls(
            penalty=penalty,
            gram=np.zeros((endpoints, features, features)),
            moment=np.zeros((endpoints, features)),
            count=np.zeros(endpoints),
            square=np.zeros(endpoints),
            last=np.zeros(endpoints, dtype=np.int64),
            clock=np.zeros((), dtype=np.int64),
        )

    def confirmed(self, features: Floats, endpoint: Ints, *, most: float, noise: Floats) -> Residuals:
        """As if `most` outcomes per endpoint, or all if fewer, had come out as the earlier estimate says.

        features : float64 (N, D), z of the outcomes that estimate was made from, and their `endpoint` (N,)
        noise : float64 (E,), the scatter of single answers around it
        """
        seen = np.bincount(endpoint, minlength=len(self.count))
        weight = np.minimum(seen, most)
        gram = np.zeros_like(self.gram)
        for e in np.flatnonzero(seen):
            own = features[endpoint == e]
            gram[e] = own.T @ own * (weight[e] / seen[e])
        return replace(self, gram=gram, count=weight, square=weight * noise)

    def widened(self, endpoints: int) -> Residuals:
        """The same with endpoints nobody has seen added at the end, up to `endpoints` of them in all."""
        more = endpoints - len(self.count)
        if more <= 0:
            return self
        new = Residuals.nothing(endpoints=more, features=self.moment.shape[1], penalty=self.penalty)
        arrays = {
            name: np.concatenate([getattr(self, name), getattr(new, name)])
            for name in ("gram", "moment", "count", "square", "last")
        }
        return replace(self, **arrays)  # type: ignore[arg-type]

    def learn(self, features: Floats, endpoint: Ints, residual: Floats, *, gamma: float) -> Residuals:
        """With N more outcomes, oldest first: z (N, D), `endpoint` (N,) of E, r (N,)."""
        gram, moment, last = self.gram.copy(), self.moment.copy(), self.last.copy()
        count, square = self.count.copy(), self.square.copy()
        for e in np.unique(endpoint):
            at = np.flatnonzero(endpoint == e)
            kept = gamma ** len(at)
            half = np.sqrt(gamma) ** np.arange(len(at) - 1, -1, -1)
            own, left = features[at] * half[:, None], residual[at] * half  # half the weight on each factor
            gram[e] = kept * gram[e] + own.T @ own
            moment[e] = kept * moment[e] + left @ own
            count[e] = kept * count[e] + half @ half
            square[e] = kept * square[e] + left @ left
            last[e] = self.clock + at[-1] + 1
        clock = np.asarray(self.clock + len(endpoint), dtype=np.int64)
        return replace(self, gram=gram, moment=moment, count=count, square=square, last=last, clock=clock)

    def solved(self, *, gamma: float) -> tuple[Floats, Floats]:
        """Coefficients theta (E, D), and S (E, D, D) with var = z' S z."""
        prior = np.full(self.moment.shape[1], float(self.penalty))
        prior[0] = 1.0
        inverse = np.linalg.inv(self.gram + np.diag(prior))
        theta = np.matmul(inverse, self.moment[:, :, None])[:, :, 0]
        left = self.square - np.einsum("ed,ed->e", theta, self.moment)
        noise = (0.25 + np.maximum(left, 0.0)) / (1.0 + self.count)
        with np.errstate(over="ignore"):
            stale = np.minimum(gamma ** -(self.clock - self.last).astype(np.float64), STALE_MAX)
        return theta, inverse * (noise * stale)[:, None, None]

    def packed(self) -> dict[str, Floats]:
        """Everything but the penalty as arrays to save."""
        return {name: getattr(self, name) for name in PACKED}


PACKED = ("gram", "moment", "count", "square", "last", "clock")
"""Names of the arrays of `Residuals.packed`."""


def effective_outcomes(gamma: float, horizon: float) -> float:
    """How many outcomes an earlier estimate must count for to weigh as much as `horizon` later ones, once they are in.

    n gamma^T = 1 + gamma + ... + gamma^(T-1), so n = (gamma^-T - 1) / (1 - gamma); T where nothing is forgotten.
    """
    if gamma == 1.0:
        return horizon
    with np.errstate(over="ignore"):
        return float(np.expm1(-horizon * np.log(gamma)) / (1.0 - gamma))
