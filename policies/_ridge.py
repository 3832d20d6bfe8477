"""Ridge regressions of many endpoints on the same features, in closed form and learned row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from router_gateway.core.types import Floats, Ints

_BLOCK_ROWS = 4096  # rows turned into float64 at a time
_STALE_SHARE = 8  # rows added by low-rank updates before the inverse is made anew, in units of D


def with_intercept(embedding: Floats) -> Floats:
    """The features z = [1, x], float64 (R, 1 + d), of embeddings x (R, d)."""
    return np.concatenate([np.ones((len(embedding), 1)), embedding.astype(np.float64)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ridge:
    """E linear regressions on D = 1 + d features z = [1, x]. Nothing here is ever written in place.

    For an endpoint with outcomes y_i in [0, 1] of the rows z_i:

        A = diag(1, p, ..., p) + sum_i z_i z_i'      b = (1/2, 0, ..., 0) + sum_i z_i y_i
        theta = A^-1 b                               the ridge estimate, p = penalty
        s2    = (1/2 + sum_i y_i² - b' theta) / (n + 1)
        var   = s2 z' A^-1 z                         of the expectation z' theta, not of one answer

    The intercept is not penalised, but for one imagined answer, half good and half bad, as in
    `policies._moments`; what the penalty shrinks is the deviation from the endpoint's own mean. So as p grows
    every query gets that mean and its standard error, and an endpoint never seen has 1/2 and about 1/2. It is
    Bayesian regression with a normal-inverse-gamma prior (Bishop, 2006, "Pattern Recognition and Machine
    Learning", 3.3; the posterior mean of the noise stands for the noise).

    Endpoints that saw the same rows share A and its inverse, which full tables do; live traffic gives each
    endpoint its own. New rows enter the inverse by Woodbury's identity (Sherman-Morrison for one row); after
    many rows, or with too many at once for that to pay, it is computed from A. Memory: 16 D² bytes a group.

    penalty : p
    group : int64 (E,), which of the G matrices is the endpoint's
    gram, inverse : float64 (G, D, D), A and A^-1, symmetric to the bit
    stale : int64 (G,), rows that entered the inverse by identity since it was computed
    count, square : float64 (E,), n + 1 and 1/2 + sum of y²
    moment : float64 (E, D), b
    """

    penalty: float
    group: Ints
    gram: Floats
    inverse: Floats
    stale: Ints
    count: Floats
    square: Floats
    moment: Floats

    @classmethod
    def prior(cls, *, endpoints: int, features: int, penalty: float) -> Self:
        """What is believed of `endpoints` endpoints before any outcome."""
        diagonal = np.full(features, float(penalty))
        diagonal[0] = 1.0
        moment = np.zeros((endpoints, features))
        moment[:, 0] = 0.5
        return cls(
            penalty=penalty,
            group=np.zeros(endpoints, dtype=np.int64),
            gram=np.diag(diagonal)[None],
            inverse=np.diag(1.0 / diagonal)[None],
            stale=np.zeros(1, dtype=np.int64),
            count=np.ones(endpoints),
            square=np.full(endpoints, 0.5),
            moment=moment,
        )

    def widened(self, endpoints: int) -> Ridge:
        """The same with endpoints nobody has seen added at the end, up to `endpoints` of them in all."""
        more = endpoints - len(self.count)
        if more <= 0:
            return self
        new = Ridge.prior(endpoints=more, features=self.moment.shape[1], penalty=self.penalty)
        return replace(
            self,
            group=np.concatenate([self.group, new.group + len(self.gram)]),
            gram=np.concatenate([self.gram, new.gram]),
            inverse=np.concatenate([self.inverse, new.inverse]),
            stale=np.concatenate([self.stale, new.stale]),
            count=np.concatenate([self.count, new.count]),
            square=np.concatenate([self.square, new.square]),
            moment=np.concatenate([self.moment, new.moment]),
        )

    def learn(self, embedding: Floats, row: Ints, endpoint: Ints, quality: Floats) -> Ridge:
        """With N more outcomes: `row` (N,) of `embedding` (R, d), `endpoint` (N,) of E, `quality` (N,) in [0, 1]."""
        quality = quality.astype(np.float64)
        count, square, moment = self.count.copy(), self.square.copy(), self.moment.copy()
        np.add.at(count, endpoint, 1.0)
        np.add.at(square, endpoint, quality**2)
        group = np.empty_like(self.group)
        matrices: list[tuple[Floats, Floats, int]] = []
        order = np.lexsort((row, endpoint))
        row, quality, first = row[order], quality[order], np.searchsorted(endpoint[order], np.arange(len(count) + 1))
        for old, rows, members in _patterns(self.group, row, first):
            group[members] = len(matrices)
            outcomes = np.stack([quality[first[e] : first[e + 1]] for e in members], axis=1)
            gram = self.gram[old].copy()
            for block in _blocks(len(rows)):
                features = with_intercept(embedding[rows[block]])
                gram += features.T @ features
                moment[members] += outcomes[block].T @ features
            matrices.append((gram, *self._inverse(old, gram, embedding[rows])))
        return replace(
            self,
            group=group,
            gram=np.stack([gram for gram, _, _ in matrices]) if matrices else self.gram,
            inverse=np.stack([inverse for _, inverse, _ in matrices]) if matrices else self.inverse,
            stale=np.array([stale for _, _, stale in matrices], dtype=np.int64) if matrices else self.stale,
            count=count,
            square=square,
            moment=moment,
        )

    def _inverse(self, old: int, gram: Floats, embedding: Floats) -> tuple[Floats, int]:
        """Inverse of `gram`, which is group `old` and the rows of `embedding`; and how stale it is."""
        rows, features = len(embedding), len(gram)
        stale = int(self.stale[old]) + rows
        if rows > features // 4 or stale > _STALE_SHARE * features:
            return _inverted(gram), 0
        return _woodbury(self.inverse[old], with_intercept(embedding)), stale

    def coefficients(self) -> Floats:
        """theta, float64 (D, E)."""
        pairs = zip(self.group, self.moment, strict=True)
        each = [self.inverse[group] @ moment for group, moment in pairs]
        return np.stack(each, axis=1) if each else np.zeros((self.moment.shape[1], 0))

    def noise(self, coefficients: Floats) -> Floats:
        """s2, float64 (E,): how much single answers scatter around the regression."""
        explained = np.einsum("ed,de->e", self.moment, coefficients)
        return np.asarray(np.maximum(self.square - explained, 0.0) / self.count)

    def packed(self) -> dict[str, Floats]:
        """Everything but the penalty as arrays to save; the matrices by their upper triangles."""
        upper = np.triu_indices(self.gram.shape[1])
        vectors = {name: getattr(self, name) for name in ("group", "stale", "count", "square", "moment")}
        return {**vectors, "gram": self.gram[:, *upper], "inverse": self.inverse[:, *upper]}

    @classmethod
    def unpacked(cls, penalty: float, arrays: dict[str, Floats]) -> Self:
        """What `packed` gave, bit for bit."""
        features = arrays["moment"].shape[1]
        matrices = {name: _symmetric(arrays[name], features) for name in ("gram", "inverse")}
        return cls(penalty=penalty, **{**arrays, **matrices})  # type: ignore[arg-type]


PACKED = ("group", "stale", "count", "square", "moment", "gram", "inverse")
"""Names of the arrays of `Ridge.packed`."""


def _patterns(group: Ints, row: Ints, first: Ints) -> Iterator[tuple[int, Ints, list[int]]]:
    """Endpoints of one group that saw the same new rows: (old group, rows, endpoints)."""
    found: dict[tuple[int, bytes], list[int]] = {}
    for e, old in enumerate(group.tolist()):
        found.setdefault((old, row[first[e] : first[e + 1]].tobytes()), []).append(e)
    for (old, _), members in found.items():
        yield old, row[first[members[0]] : first[members[0] + 1]], members


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _BLOCK_ROWS):
        yield slice(start, start + _BLOCK_ROWS)


def _inverted(gram: Floats) -> Floats:
    """A^-1 by Cholesky, symmetric to the bit because it is a product of a matrix and its transpose."""
    half = np.linalg.solve(np.linalg.cholesky(gram), np.eye(len(gram)))
    return np.asarray(half.T @ half)


def _woodbury(inverse: Floats, features: Floats) -> Floats:
    """(A + Z'Z)^-1 = A^-1 - V'V with V = L^-1 Z A^-1 and L L' = I + Z A^-1 Z', Z the new rows (k, D)."""
    if not len(features):
        return inverse
    reach = features @ inverse
    half = np.linalg.cholesky(np.eye(len(features)) + reach @ features.T)
    step = np.linalg.solve(half, reach)
    return np.asarray(inverse - step.T @ step)


def _symmetric(triangle: Floats, size: int) -> Floats:
    """float64 (G, size, size) from upper triangles (G, size · (size + 1) / 2)."""
    full = np.zeros((len(triangle), size, size))
    upper = np.triu_indices(size)
    full[:, *upper] = triangle
    full[:, upper[1], upper[0]] = triangle
    return full
