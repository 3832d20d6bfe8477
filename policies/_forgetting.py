"""Bayesian regressions of many endpoints that forget: what they learn of a drift, and how sure they are of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from policies._changes import weighed
from router_gateway.core import evidence
from router_gateway.core.types import Floats, Ints

STALE_MAX = 4.0
"""Silence multiplies a variance by at most this."""
_NOISE_MIN = 1e-6
_WATCHED_FROM = 10.0  # outcomes of an endpoint before anything can be said to have changed
_KEPT = 5.0  # outcomes that an endpoint's changed answers count for at first
_LATELY = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solved:
    """What residuals say: coefficients theta (E, D), and var = noise · z' inverse z.

    inverse : float64 (E, D, D), A^-1
    noise : float64 (E,), s2 times what silence makes of it
    gram : the sums it was solved from, to tell which endpoints changed since
    """

    theta: Floats
    inverse: Floats
    noise: Floats
    gram: Floats


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
    lately : float64 (E,), mean of the newest r, about ten of them
    evidence : float64 (E, 2, K), see `policies._changes`
    alarms : int64 (E,), changes found so far
    """

    penalty: float
    pooled: bool
    alarm_outcomes: float
    gram: Floats
    moment: Floats
    count: Floats
    square: Floats
    last: Ints
    clock: Ints
    lately: Floats
    evidence: Floats
    alarms: Ints

    @classmethod
    def nothing(
        cls, *, endpoints: int, features: int, penalty: float, pooled: bool = False, alarm_outcomes: float = 0.0
    ) -> Self:
        """What is known of `endpoints` endpoints before any outcome."""
        return cls(
            penalty=penalty,
            pooled=pooled,
            alarm_outcomes=alarm_outcomes,
            gram=np.zeros((endpoints, features, features)),
            moment=np.zeros((endpoints, features)),
            count=np.zeros(endpoints),
            square=np.zeros(endpoints),
            last=np.zeros(endpoints, dtype=np.int64),
            clock=np.zeros((), dtype=np.int64),
            lately=np.zeros(endpoints),
            evidence=evidence.nothing(endpoints, 2),
            alarms=np.zeros(endpoints, dtype=np.int64),
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
        arrays = {name: np.concatenate([getattr(self, name), getattr(new, name)]) for name in PACKED if name != "clock"}
        return replace(self, **arrays)  # type: ignore[arg-type]

    def learn(
        self, features: Floats, endpoint: Ints, residual: Floats, *, gamma: float, before: Floats | None = None
    ) -> Residuals:
        """With N more outcomes, oldest first: z (N, D), `endpoint` (N,) of E, r (N,).

        before : (N,), the earlier estimate; with it, and where `alarm_outcomes` is set, changes are looked for
        """
        draft = _Draft(self)
        for row, e, left, estimate in zip(
            features, endpoint, residual, residual if before is None else before, strict=True
        ):
            if before is not None and self.alarm_outcomes:
                draft.watch(e, row, float(left), float(estimate))
            draft.add(e, row, float(left), gamma)
        return draft.residuals()

    def common(self) -> tuple[float, float]:
        """Mean and variance of what the earlier estimate leaves over, of all endpoints together.

        One imagined outcome has none left over, and a scatter of 1/4.
        """
        weight = 1.0 + float(self.count.sum())
        mean = float(self.moment[:, 0].sum()) / weight
        return mean, max((0.25 + float(self.square.sum())) / weight - mean**2, _NOISE_MIN)

    def solved(self, *, gamma: float, before: Solved | None = None) -> Solved:
        """Coefficients and doubt; of `before`, solved from the same residuals but later outcomes, what still holds."""
        inverse = self._inverse(np.diag(_precision(self.moment.shape[1], self.penalty)), before)
        mean, scatter = self.common() if self.pooled else (0.0, 0.25)
        moment = self.moment.copy()
        moment[:, 0] += mean
        theta = np.matmul(inverse, moment[:, :, None])[:, :, 0]
        left = self.square + mean**2 - (theta * moment).sum(axis=1)
        noise = (scatter + np.maximum(left, 0.0)) / (1.0 + self.count)
        with np.errstate(over="ignore"):
            stale = np.minimum(gamma ** -(self.clock - self.last).astype(np.float64), STALE_MAX)
        return Solved(theta=theta, inverse=inverse, noise=noise * stale, gram=self.gram)

    def _inverse(self, prior: Floats, before: Solved | None) -> Floats:
        if before is None or before.gram.shape[1:] != self.gram.shape[1:]:
            return np.asarray(np.linalg.inv(self.gram + prior))
        known = len(before.gram)
        changed = np.ones(len(self.gram), dtype=bool)
        changed[:known] = (self.gram[:known] != before.gram).any(axis=(1, 2))
        inverse = np.empty_like(self.gram)
        inverse[:known] = before.inverse
        inverse[changed] = np.linalg.inv(self.gram[changed] + prior)
        return inverse

    def packed(self) -> dict[str, Floats]:
        """Everything but the penalty as arrays to save."""
        return {name: getattr(self, name) for name in PACKED}


def _precision(features: int, penalty: float) -> Floats:
    """The diagonal of P."""
    precision = np.full(features, float(penalty))
    precision[0] = 1.0
    return precision


class _Draft:
    """Copies of the sums, written in place until all outcomes are in."""

    def __init__(self, old: Residuals) -> None:
        self._old = old
        self._gram, self._moment = old.gram.copy(), old.moment.copy()
        self._count, self._square = old.count.copy(), old.square.copy()
        self._last, self._lately = old.last.copy(), old.lately.copy()
        self._evidence, self._alarms = old.evidence.copy(), old.alarms.copy()
        self._clock = int(old.clock)
        self._prior = np.diag(_precision(old.moment.shape[1], old.penalty))

    def add(self, e: int, z: Floats, residual: float, gamma: float) -> None:
        self._gram[e] = gamma * self._gram[e] + z[:, None] * z
        self._moment[e] = gamma * self._moment[e] + residual * z
        self._count[e] = gamma * self._count[e] + 1.0
        self._square[e] = gamma * self._square[e] + residual * residual
        self._clock += 1
        self._last[e] = self._clock
        self._lately[e] += (residual - self._lately[e]) / min(self._count[e], _LATELY)

    def watch(self, e: int, z: Floats, residual: float, before: float) -> None:
        """Count the outcome as evidence of a change; where that is enough, forget what was known of the endpoint."""
        if self._count[e] < _WATCHED_FROM:
            return
        moment = self._moment[e].copy()
        if self._old.pooled:
            moment[0] += self._moment[:, 0].sum() / (1.0 + self._count.sum())
        expected = float(np.linalg.solve(self._gram[e] + self._prior, moment) @ z)
        predicted, quality = min(max(before + expected, 0.0), 1.0), min(max(before + residual, 0.0), 1.0)
        self._evidence[e] = weighed(self._evidence[e], predicted, quality)
        if self._evidence[e].mean() >= self._old.alarm_outcomes:
            self._forget(e)

    def _forget(self, e: int) -> None:
        """As if a few outcomes like the newest were all that is known."""
        kept = min(1.0, _KEPT / self._count[e])
        noise = max(self._square[e] - self._moment[e, 0] ** 2 / self._count[e], 0.0) / self._count[e]
        lately = self._lately[e]
        self._gram[e] *= kept
        self._moment[e] = lately * self._gram[e, :, 0]
        self._count[e] *= kept
        self._square[e] = self._count[e] * (noise + lately**2)
        self._evidence[e], self._alarms[e] = 0.0, self._alarms[e] + 1

    def residuals(self) -> Residuals:
        return replace(
            self._old,
            gram=self._gram,
            moment=self._moment,
            count=self._count,
            square=self._square,
            last=self._last,
            clock=np.asarray(self._clock, dtype=np.int64),
            lately=self._lately,
            evidence=self._evidence,
            alarms=self._alarms,
        )


PACKED = ("gram", "moment", "count", "square", "last", "clock", "lately", "evidence", "alarms")
"""Names of the arrays of `Residuals.packed`."""


def effective_outcomes(gamma: float, horizon: float) -> float:
    """How many outcomes an earlier estimate must count for to weigh as much as `horizon` later ones, once they are in.

    n gamma^T = 1 + gamma + ... + gamma^(T-1), so n = (gamma^-T - 1) / (1 - gamma); T where nothing is forgotten.
    """
    if gamma == 1.0:
        return horizon
    with np.errstate(over="ignore"):
        return float(np.expm1(-horizon * np.log(gamma)) / (1.0 - gamma))
