"""A table of kinds of query and endpoints: each cell's mean quality, shrunk to the endpoint's own, and its doubt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies._moments import shrunk
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShrunkCells:
    """K kinds of query, E endpoints, from counts n, sums t and sums of squares u of outcomes in [0, 1].

    With m, v and m_2 the endpoint's shrunk mean, variance and mean of squares (`policies._moments`), g the kind's
    share of the queries and s = prior_weight; the observation that shrinking imagines is spread over the kinds by g:

        N       = n + g
        quality = (t + g/2 + s m) / (N + s)
        y       = (u + g/2 + s m_2) / (N + s) - quality²      variance of one outcome

    A cell is a mean of N outcomes, drawn to m by h = s / (N + s), whose expectation scatters around m with variance
    v / (s + 1), as in a Beta distribution of mass s. With r = N / (n_all + 1), the part of m that the cell itself
    contributes:

        own²    = (1 - h + h r)² y / N + h² (1 - r)² v / (s + 1)
        common  = h sqrt((1 - r) v / (n_all + 1))             the error of m, which all cells of an endpoint share

    With one kind this is the endpoint's shrunk mean and standard error, whatever s.

    quality, own_variance, common_error : float64 (K, E)
    mean, mean_error : float64 (E,), of the endpoint over all kinds
    """

    quality: Floats
    own_variance: Floats
    common_error: Floats
    mean: Floats
    mean_error: Floats

    @classmethod
    def of(cls, moments: Floats, share: Floats, prior_weight: float) -> ShrunkCells:
        """From moments (3, K, E) and shares (K,) > 0 that sum to 1."""
        s, part_of_one = prior_weight, share[:, None]
        count, total, square = moments
        whole = count.sum(axis=0)
        mean, variance, mean_error = shrunk(whole, total.sum(axis=0), square.sum(axis=0))
        evidence = count + part_of_one
        quality = (total + part_of_one / 2 + s * mean) / (evidence + s)
        spread = (square + part_of_one / 2 + s * (variance + mean**2)) / (evidence + s) - quality**2
        drawn, part = s / (evidence + s), evidence / (whole + 1.0)
        away = drawn * (1.0 - part)
        return cls(
            quality=quality,
            own_variance=(1.0 - away) ** 2 * np.maximum(spread, 0.0) / evidence + away**2 * variance / (s + 1.0),
            common_error=drawn * np.sqrt(np.maximum(1.0 - part, 0.0)) * mean_error,
            mean=mean,
            mean_error=mean_error,
        )


def add_outcomes(moments: Floats, kind: Ints, column: Ints, quality: Floats) -> None:
    """Count N outcomes into moments (3, K, E), in place: number, sum and sum of squares."""
    quality = quality.astype(np.float64)
    for sums, values in zip(moments, (np.ones_like(quality), quality, quality**2), strict=True):
        np.add.at(sums, (kind, column), values)


def union(known: tuple[str, ...], experience: Experience) -> tuple[tuple[str, ...], Ints]:
    """Names of both pools, the known ones first, and where each outcome's endpoint stands among them, (N,)."""
    names = (*known, *(name for name in experience.endpoints if name not in known))
    position = np.array([names.index(name) for name in experience.endpoints], dtype=np.int64)
    return names, position[experience.endpoint]
