"""Routing between two endpoints, a weak and a strong one: PGR, APGR and CPT (RouteLLM, arXiv 2406.18665).

Cost is the share of calls that go to the strong endpoint. All of it is NaN where the strong endpoint is not
the better one, for there is then no gap to recover.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSweep:
    """What N thresholds brought, from never asking the strong endpoint to always asking it.

    strong_share : float64 (N,), rises from 0 to 1; quality : float64 (N,), mean quality at that share
    """

    strong_share: Floats
    quality: Floats

    def __post_init__(self) -> None:
        share = self.strong_share
        if share.ndim != 1 or share.shape != self.quality.shape or len(share) < 2:
            raise ValueError(
                f"shares {share.shape} and qualities {self.quality.shape} must be (N,) alike, N of 2 or more"
            )
        if share[0] != 0 or share[-1] != 1 or not (np.diff(share) >= 0).all():
            raise ValueError("the share of strong calls must rise from 0 to 1")

    @property
    def weak_quality(self) -> float:
        return float(self.quality[0])

    @property
    def strong_quality(self) -> float:
        return float(self.quality[-1])


def sweep_thresholds(strong_wins: Floats, weak_quality: Floats, strong_quality: Floats) -> PairSweep:
    """Every threshold that tells queries apart: the strong endpoint gets those with the highest score first.

    strong_wins : (Q,), the router's score, higher where the strong endpoint is worth more
    weak_quality, strong_quality : (Q,), outcomes of both

    Queries of equal score move together, as no threshold can part them; so N is at most Q + 1. Queries with a
    NaN are passed over. Raises ValueError when none is left.
    """
    known = np.isfinite(strong_wins) & np.isfinite(weak_quality) & np.isfinite(strong_quality)
    count = int(known.sum())
    if not count:
        raise ValueError("a sweep needs at least one query with a score and both outcomes")
    score = strong_wins[known]
    order = np.argsort(-score, kind="stable")
    gain = (strong_quality[known].astype(np.float64) - weak_quality[known])[order]
    weak = float(weak_quality[known].mean(dtype=np.float64))
    parted = np.append(np.diff(score[order]) != 0, True)  # the last of every run of equal scores
    asked = np.flatnonzero(parted) + 1
    return PairSweep(
        strong_share=np.concatenate([[0.0], asked / count]),
        quality=weak + np.concatenate([[0.0], gain.cumsum()[asked - 1] / count]),
    )


def pgr(quality: Floats | float, *, weak_quality: float, strong_quality: float) -> Floats:
    """Performance gap recovered: (quality - weak) / (strong - weak), float64 of the shape of `quality`."""
    gap = strong_quality - weak_quality
    return np.asarray((np.asarray(quality, dtype=np.float64) - weak_quality) / (gap if gap > 0 else np.nan))


def apgr(sweep: PairSweep) -> float:
    """Average PGR: the integral of PGR over the share of strong calls, from 0 to 1.

    A router that draws its calls at random has 0.5. RouteLLM's paper takes the mean at ten shares, its code
    the trapezoid over the shares its thresholds happened to reach; this is the trapezoid over all of [0, 1].
    """
    return float(np.trapezoid(_recovered(sweep), sweep.strong_share))


def cpt(sweep: PairSweep, recovered: float) -> float:
    """Call-performance threshold: the least share of strong calls with PGR of at least `recovered`, in [0, 1].

    Linear between the sweep's points after a running maximum. RouteLLM's code inverts the curve without one,
    which misreads every curve that is not increasing. inf where the PGR is never that high.
    """
    reached = np.maximum.accumulate(_recovered(sweep))
    if np.isnan(reached[-1]):
        return float("nan")
    if recovered > reached[-1]:
        return float("inf")
    at = int(np.searchsorted(reached, recovered))  # the first point as high
    if at == 0:
        return 0.0
    part = (recovered - reached[at - 1]) / (reached[at] - reached[at - 1])
    share = sweep.strong_share
    return float(share[at - 1] + part * (share[at] - share[at - 1]))


def _recovered(sweep: PairSweep) -> Floats:
    return pgr(sweep.quality, weak_quality=sweep.weak_quality, strong_quality=sweep.strong_quality)
