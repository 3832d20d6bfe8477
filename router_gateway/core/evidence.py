"""Evidence that bounded outcomes are, in the mean, less than they were said to be: an e-detector."""

from __future__ import annotations

import numpy as np

from router_gateway.core.types import Floats

STAKES = np.array([0.1, 0.25, 0.5, 0.9])
"""Parts of the largest bet that cannot lose everything; the size of a change is not known, so they are averaged."""


def nothing(*shape: int) -> Floats:
    """No evidence yet, float64 (*shape, K), one per stake."""
    return np.zeros((*shape, len(STAKES)))


def grown(evidence: Floats, excess: float, least: float) -> Floats:
    """Evidence (K,) after one more outcome, which exceeded what was said by `excess` >= -least, least > 0.

        M <- (M + 1) (1 + stake · excess / least)

    As long as the excess is at most 0 in the mean, whatever went before, the mean over stakes grows by at most 1 per
    outcome. So where an alarm is raised when it reaches N, false alarms are at least N outcomes apart in the mean,
    whatever the distribution (Shin, Ramdas and Rinaldo, 2024, "E-detectors: a nonparametric framework for sequential
    change detection", arXiv 2203.03532; the Shiryaev-Roberts form, with predictable bets).
    """
    return np.asarray((evidence + 1.0) * (1.0 + STAKES * (excess / least)))
