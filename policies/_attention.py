"""Attention over profiles: what it is made of, and how it is learned from endpoints that are not named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from threadpoolctl import threadpool_limits

from policies._adam import Adam
from router_gateway.core.types import Floats

_PROFILE_MIN, _PROFILE_MAX = 100, 500  # queries in a profile drawn in training
_ASKED = 256  # queries predicted from it in a step
_ROWS_MIN = 40  # fewer queries teach nothing that would hold elsewhere
_HIDDEN_SHARE = 0.5  # endpoints left out of a step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attention:
    """Weights of `policies.profile`, without any endpoint's.

    projection : float32 (d, r), W' times the root of the sharpness
    gain, general, bias : weights of the attended outcome, of the profile's mean and of nothing
    """

    projection: Floats
    gain: float
    general: float
    bias: float

    PACKED: ClassVar[tuple[str, ...]] = ("projection", "weights")

    @classmethod
    def start(cls, embedding: Floats, *, width: int, sharpness: float) -> Self:
        """Before training: the identity, or the first `width` principal axes (about the origin) of `embedding`."""
        d = embedding.shape[1]
        if width >= d:
            axes = np.eye(d)
        else:
            wide = embedding.astype(np.float64)
            axes = np.linalg.eigh(wide.T @ wide)[1][:, ::-1][:, :width]
            axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(width)] < 0, -1.0, 1.0)
        projection = np.ascontiguousarray(axes * np.sqrt(sharpness), dtype=np.float32)
        return cls(projection=projection, gain=2.0, general=0.0, bias=0.0)

    def project(self, embedding: Floats) -> Floats:
        """float32 (Q, r); a row does not depend on the others."""
        return np.asarray(np.matmul(embedding.astype(np.float32)[:, None, :], self.projection)[:, 0])

    def packed(self) -> dict[str, Floats]:
        """As arrays to save."""
        return {"projection": self.projection, "weights": np.array([self.gain, self.general, self.bias])}

    @classmethod
    def unpacked(cls, arrays: dict[str, Floats]) -> Self:
        """What `packed` gave, bit for bit."""
        gain, general, bias = (float(weight) for weight in arrays["weights"])
        return cls(projection=arrays["projection"], gain=gain, general=general, bias=bias)


def trained(start: Attention, embedding: Floats, quality: Floats, *, steps: int, rate: float, seed: int) -> Attention:
    """Learned on queries (Q, d) and outcomes (Q, E), NaN = not observed; `start` where there are too few."""
    if steps == 0 or len(embedding) < _ROWS_MIN:
        return start
    rng = np.random.default_rng(seed)
    weights = np.array([start.gain, start.general, start.bias], dtype=np.float32)
    arrays = {"projection": start.projection.copy(), "weights": weights}
    adam = Adam({"projection": arrays["projection"]}, rate=rate, steps=steps)
    slow = Adam({"weights": weights}, rate=10 * rate, steps=steps)  # three numbers of order 1: they have further to go
    points, table = embedding.astype(np.float32), quality.astype(np.float32)
    with threadpool_limits(limits=1):  # sums of several threads differ in their last bits
        for _ in range(steps):
            order = rng.permutation(len(points))[: _PROFILE_MAX + _ASKED]
            size = min(int(rng.integers(_PROFILE_MIN, _PROFILE_MAX + 1)), len(order) // 2)
            profile, asked = order[:size], order[size : size + _ASKED]
            shown = np.flatnonzero(rng.random(table.shape[1]) >= _HIDDEN_SHARE)
            _, gradients = loss(
                arrays, points[asked], table[np.ix_(asked, shown)], points[profile], table[np.ix_(profile, shown)]
            )
            adam.step({"projection": gradients["projection"]})
            slow.step({"weights": gradients["weights"]})
    return Attention.unpacked(arrays)


def loss(
    arrays: dict[str, Floats], asked: Floats, truth: Floats, profile: Floats, outcome: Floats
) -> tuple[float, dict[str, Floats]]:
    """Mean cross-entropy of `truth` (B, E) of queries (B, d) given `outcome` (P, E) of the profile (P, d); gradients.

    Cells of `truth` that are NaN, and those of endpoints without a profile, count for nothing.
    """
    projection, (gain, general, bias) = arrays["projection"], arrays["weights"]
    known = np.isfinite(outcome)
    vote = np.where(known, 2.0 * outcome - 1.0, 0.0).astype(np.float32)
    mean = vote.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    query, key = asked @ projection, profile @ projection
    logit = query @ key.T
    weight = np.exp(logit - logit.max(axis=1, keepdims=True))  # (B, P)
    total = weight @ known.astype(np.float32) + np.float32(1e-30)
    local = (weight @ vote) / total
    graded = np.isfinite(truth) & known.any(axis=0)
    z = bias + gain * local + general * mean
    target = np.where(graded, truth, 0.0)
    count = max(1, int(graded.sum()))
    value = float(np.where(graded, np.logaddexp(0.0, z) - target * z, 0.0).sum() / count)
    slope = np.where(graded, 1.0 / (1.0 + np.exp(-z)) - target, 0.0) / np.float32(count)
    # d local / d logit = weight / total (vote - local), summed over endpoints
    pulled = slope * gain / total
    towards = weight * (pulled @ vote.T - (pulled * local) @ known.T.astype(np.float32))  # (B, P)
    gradient = asked.T @ (towards @ key) + profile.T @ (towards.T @ query)
    weights = np.array([(slope * local).sum(), (slope * mean).sum(), slope.sum()], dtype=np.float32)
    return value, {"projection": gradient, "weights": weights}
