"""A dial that keeps a promise: routed quality of at least so much, with a stated confidence, for any distribution.

Learn then test (Angelopoulos, Bates, Candès, Jordan and Lei 2021, arXiv 2110.01052). "This dial breaks the
promise" is a null hypothesis for every dial. They are tested in an order fixed beforehand, from the dearest dial
to the cheapest, each at level 1 - confidence, and testing stops at the first that is not rejected. A broken dial
is then among the certified ones with probability at most 1 - confidence over the draw of the calibration queries:
for every number of queries, every policy, and although quality need not fall evenly with the dial (which
conformal risk control, arXiv 2208.02814, would ask for).

What it takes: calibration queries drawn independently from the traffic that is meant, in an order that has nothing
to do with their outcomes, and a policy that has learned from none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_gateway.core.errors import RequestError
from router_gateway.core.types import Floats

REFERENCES = ("best-single", "oracle", "absolute")
"""What a promise can compare with, besides an endpoint by its name."""

_STAKE_MAX = 0.75  # share of the capital that one query can cost; below 1, so that it is never all lost
_GROWTH_STAKES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """E[routed quality] ≥ `floor` · E[reference quality], with probability at least `confidence`.

    of : the reference: "best-single" (the endpoint that was best where the policy learned), "oracle" (the best
        answer to each query), "absolute" (1, so that the floor is a quality), or an endpoint's name

    Raises RequestError for a floor or a confidence that cannot be meant.
    """

    floor: float
    of: str = "best-single"
    confidence: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor < np.inf:
            raise RequestError("the quality floor must be a number from 0", param="quality_floor")
        if self.floor > 1.0 and self.of in ("oracle", "absolute"):
            raise RequestError(f"nothing is better than {self.floor:g} of {self.of}", param="quality_floor")
        if not 0.0 < self.confidence < 1.0:
            raise RequestError("the confidence must lie between 0 and 1, both excluded", param="confidence")

    @property
    def level(self) -> float:
        """The probability of being wrong that is accepted."""
        return 1.0 - self.confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What testing D dials in order came to.

    certified : how many dials, counted from the first, keep the promise; 0 when nothing could be certified
    p_values : of the dials that were tested: the certified ones and the first that failed, if any
    queries_needed : when nothing was certified, roughly how many calibration queries like these would do for the
        first dial; None where no number would, because on these queries it does not keep the promise
    """

    certified: int
    p_values: tuple[float, ...]
    queries_needed: int | None = None


def certify(quality: Floats, reference: Floats, promise: Promise) -> Certificate:
    """Test dials in the order of the rows of `quality` until one fails.

    quality : (D, n) in [0, 1], what the router is expected to bring to each of n calibration queries at each dial
    reference : (n,) in [0, 1], what the reference brought to them
    """
    p_values: list[float] = []
    for row in quality:
        p_values.append(p_value(row - promise.floor * reference, floor=promise.floor, level=promise.level))
        if p_values[-1] > promise.level:
            break
    certified = sum(p <= promise.level for p in p_values)
    needed = None
    if len(quality) and not certified:
        margin = quality[0] - promise.floor * reference
        needed = queries_needed(margin, floor=promise.floor, level=promise.level)
        needed = needed and max(needed, len(reference) + 1)  # these were not enough
    return Certificate(certified=certified, p_values=tuple(p_values), queries_needed=needed)


def p_value(margin: Floats, *, floor: float, level: float) -> float:
    """Of the hypothesis that the mean of n independent margins is below 0: valid for every n and distribution.

        K_t = Π (1 + λ_i · margin_i) over i ≤ t,   p = min(1, 1 / max_t K_t)
        λ_i = min(√(2 · ln(1/level) / (n · σ²_{i-1})), 0.75 / floor)

    A bet against the hypothesis: σ²_{i-1} is the variance seen before query i, so under the hypothesis the capital
    K is a nonnegative supermartingale, and exceeds 1/level with probability at most `level` (Ville's inequality).
    Betting and stake after Waudby-Smith and Ramdas 2024 (arXiv 2010.09686, "Estimating means of bounded random
    variables by betting"). It pays for the variance of the margin, which is small because router and reference
    answer the same queries; Hoeffding's and Bentkus' bounds would pay for its range.

    margin : (n,) in [-floor, 1], in an order that does not depend on the outcomes
    floor : ≥ 0; at 0 no margin is below 0 and the p-value is 0
    level : the level that the stakes are laid out for; the p-value is valid whatever it is
    """
    if floor == 0.0:
        return 0.0
    count = len(margin)
    if count == 0:
        return 1.0
    values = margin.astype(np.float64)
    stake = np.minimum(
        np.sqrt(2.0 * np.log(1.0 / level) / (count * _variance_before(values, floor))), _STAKE_MAX / floor
    )
    capital = np.cumsum(np.log1p(stake * values))
    return float(np.exp(-max(0.0, capital.max())))


def _variance_before(values: Floats, floor: float) -> Floats:
    """float64 (n,) > 0: the variance of the values before each one, with one pseudo-value of the widest spread."""
    seen = np.arange(1, len(values) + 1)
    mean = np.cumsum(values) / (seen + 1)
    spread = np.cumsum((values - mean) ** 2)
    prior = ((1.0 + floor) / 2) ** 2
    return (prior + np.concatenate([[0.0], spread[:-1]])) / seen


def queries_needed(margin: Floats, *, floor: float, level: float) -> int | None:
    """Roughly how many queries like these it would take to reject; None where their mean is not above 0.

    ln(1/level) over the fastest growth of log capital that a constant stake has on these queries.
    """
    if not len(margin) or margin.mean() <= 0 or floor == 0.0:
        return None
    stakes = np.geomspace(1e-4, 1.0, _GROWTH_STAKES) * _STAKE_MAX / floor
    growth = max(float(np.log1p(stake * margin).mean()) for stake in stakes)
    return int(np.ceil(np.log(1.0 / level) / growth)) if growth > 0 else None
