"""Coordinates for regressions of several endpoints, in which their losses bend about alike in all directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from router_gateway.core.types import Floats


class Coordinates(Protocol):
    """Steps of M endpoints' coefficients (M, D) away from what was believed, as one vector `flat` (M D,).

    A step is U v, v the endpoint's part of the vector, with U U' the inverse of about its loss's curvature
    P + w Z'Z: P the precision of what was believed, Z (R, D) the queries' features and w a weight per row.
    """

    def strength(self, flat: Floats) -> Floats:
        """What the steps add for each query: float64 (R, M)."""
        ...

    def gathered(self, slope: Floats) -> Floats:
        """The gradient with respect to `flat`, given the one with respect to `strength`, (R, M)."""
        ...

    def held(self, flat: Floats) -> tuple[float, Floats]:
        """Half of step' P step, summed over endpoints, and its gradient with respect to `flat`."""
        ...

    def theta(self, flat: Floats) -> Floats:
        """The steps themselves, float64 (M, D)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Basis:
    """What the coordinates of endpoints that are believed alike have in common, as before anything is known.

    vectors : float64 (D, D), B with B'PB = I and B'Z'ZB diagonal, `bend` (D,)
    features : float32 (R, D), ZB
    """

    vectors: Floats
    bend: Floats
    features: Floats

    @classmethod
    def of(cls, features: Floats, precision: Floats) -> Self:
        """For features Z (R, D) and a precision P (D, D)."""
        half = np.linalg.inv(np.linalg.cholesky(precision))
        bend, turn = np.linalg.eigh(half @ (features.T @ features) @ half.T)
        vectors = half.T @ turn
        return cls(vectors=vectors, bend=np.maximum(bend, 0.0), features=(features @ vectors).astype(np.float32))


def coordinates(features: Floats, precision: Floats, weight: Floats, basis: Basis | None = None) -> Coordinates:
    """For features Z (R, D), precisions P (M, D, D) and weights w (M,), all float64; M > 0.

    basis : of these features and of the one precision that all have, where it is known already
    """
    if basis is None and (precision == precision[0]).all():
        basis = Basis.of(features, precision[0])
    if basis is not None:
        return _Common(basis=basis, scale=1.0 / np.sqrt(1.0 + weight[:, None] * basis.bend))
    unit = np.linalg.inv(np.linalg.cholesky(precision + weight[:, None, None] * (features.T @ features)))
    return _Own(features=features, precision=precision, unit=np.ascontiguousarray(unit.swapaxes(1, 2)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Own:
    """Each endpoint believed in its own way: a matrix each."""

    features: Floats
    precision: Floats
    unit: Floats

    def strength(self, flat: Floats) -> Floats:
        return np.asarray(self.features @ self.theta(flat).T)

    def gathered(self, slope: Floats) -> Floats:
        return self._turned(slope.T @ self.features)

    def held(self, flat: Floats) -> tuple[float, Floats]:
        step = self.theta(flat)
        pulled = np.matmul(self.precision, step[:, :, None])[:, :, 0]
        return 0.5 * float(np.vdot(step, pulled)), self._turned(pulled)

    def theta(self, flat: Floats) -> Floats:
        parts = flat.reshape(len(self.unit), -1, 1)
        return np.asarray(np.matmul(self.unit, parts)[:, :, 0])

    def _turned(self, slope: Floats) -> Floats:
        return np.asarray(np.matmul(slope[:, None, :], self.unit)[:, 0].ravel())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Common:
    """All believed alike: in one basis every curvature is diagonal. U = B diag(scale), scale (M, D)."""

    basis: Basis
    scale: Floats

    def strength(self, flat: Floats) -> Floats:
        steps = flat.reshape(self.scale.shape) * self.scale
        return np.asarray(self.basis.features @ steps.T.astype(np.float32), dtype=np.float64)

    def gathered(self, slope: Floats) -> Floats:
        return np.asarray(((slope.T.astype(np.float32) @ self.basis.features) * self.scale).ravel())

    def held(self, flat: Floats) -> tuple[float, Floats]:
        square = self.scale.ravel() ** 2
        return 0.5 * float(square @ flat**2), square * flat

    def theta(self, flat: Floats) -> Floats:
        return np.asarray((flat.reshape(self.scale.shape) * self.scale) @ self.basis.vectors.T)
