"""Whether an endpoint's answers are still what was predicted of them."""

from __future__ import annotations

import numpy as np

from router_gateway.core.evidence import grown
from router_gateway.core.types import Floats

TOLERANCE = 0.05
"""By how much answers may differ from what is predicted, in the mean, without having changed."""


def weighed(evidence: Floats, predicted: float, quality: float) -> Floats:
    """An endpoint's evidence (2, K), for worse and for better, after one more outcome; both in [0, 1]."""
    worse, better = predicted - quality - TOLERANCE, quality - predicted - TOLERANCE
    return np.stack(
        [
            grown(evidence[0], worse, 1.0 - predicted + TOLERANCE),
            grown(evidence[1], better, predicted + TOLERANCE),
        ]
    )
