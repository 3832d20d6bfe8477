"""Adam, for the policies that are trained by gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from router_gateway.core.types import Floats

_BETA_MEAN, _BETA_SQUARE = 0.9, 0.999
_EPSILON = 1e-8


class Adam:
    """Changes named arrays in place, by one step down their gradients at a time.

    Steps fall to zero along half a cosine over `steps`, so that the last batches do not decide where training ends;
    `decay` draws the arrays to zero in proportion to the rate, apart from the gradient (AdamW).

    Kingma & Ba, 2015, "Adam: a method for stochastic optimization" (arXiv 1412.6980); Loshchilov & Hutter, 2019,
    "Decoupled weight decay regularization" (arXiv 1711.05101).
    """

    def __init__(self, arrays: Mapping[str, Floats], *, rate: float, steps: int, decay: float = 0.0) -> None:
        self._arrays = dict(arrays)
        self._mean = {name: np.zeros_like(array) for name, array in arrays.items()}
        self._square = {name: np.zeros_like(array) for name, array in arrays.items()}
        self._rate, self._steps, self._decay = rate, steps, decay
        self._done = 0

    def step(self, gradients: Mapping[str, Floats]) -> None:
        rate = self._rate * 0.5 * (1.0 + np.cos(np.pi * self._done / self._steps))
        self._done += 1
        mean_share, square_share = 1.0 - _BETA_MEAN**self._done, 1.0 - _BETA_SQUARE**self._done
        for name, gradient in gradients.items():
            array, mean, square = self._arrays[name], self._mean[name], self._square[name]
            mean += (1.0 - _BETA_MEAN) * (gradient - mean)
            square += (1.0 - _BETA_SQUARE) * (gradient**2 - square)
            array -= (rate / mean_share) * mean / (
                np.sqrt(square / square_share) + _EPSILON
            ) + rate * self._decay * array
