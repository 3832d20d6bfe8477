"""Mean, spread and doubt of an endpoint from counts and sums, shared by the policies that need them."""

from __future__ import annotations

import numpy as np

from router_gateway.core.types import Floats


def shrunk(count: Floats, total: Floats, square: Floats) -> tuple[Floats, Floats, Floats]:
    """Shrunk mean, variance of one outcome, and standard error of the mean; all of the shape given.

    count, total, square : number of outcomes in [0, 1], their sum and the sum of their squares

    One imagined observation, half good and half bad, is added, so that an endpoint never seen has mean
    0.5 and doubt 0.5 (what `Scores.align` assumes too) and one lucky answer does not make a winner:

        mean = (total + 1/2) / (count + 1)
        variance = (square + 1/2) / (count + 1) - mean²
        standard error = sqrt(variance / (count + 1))
    """
    mean = (total + 0.5) / (count + 1.0)
    variance = np.maximum((square + 0.5) / (count + 1.0) - mean**2, 0.0)
    return mean, variance, np.sqrt(variance / (count + 1.0))
