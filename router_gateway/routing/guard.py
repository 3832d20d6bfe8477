"""Leave the default endpoint only on evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Bools, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Bounds on how little evidence may move a query away from the default endpoint f.

    z : endpoint e is admitted when  value[e] - value[f] >= z · sqrt(stddev[e]² + stddev[f]²);
        0 asks for no evidence beyond the estimate itself
    novelty_stddev_max : a query about which every endpoint's doubt exceeds this (nothing like it was ever
        seen) stays on the default endpoint; infinity switches the floor off
    """

    z: float = 0.0
    novelty_stddev_max: float = np.inf

    @property
    def admits_all(self) -> bool:
        """Whether both bounds are off, so that nothing need be counted."""
        return self.z <= 0 and self.novelty_stddev_max == np.inf

    def admits(self, value: Floats, stddev: Floats, default: int) -> Bools:
        """Bool (Q, E); the default endpoint's column is always true.

        value : (Q, E), no unit, doubt bonus excluded
        stddev : (Q, E)
        default : column of the default endpoint
        """
        admitted = np.ones(value.shape, dtype=bool)
        if self.z > 0:
            error = np.sqrt(stddev**2 + stddev[:, [default]] ** 2)
            admitted = value - value[:, [default]] >= self.z * error
        familiar = stddev.min(axis=1, keepdims=True) <= self.novelty_stddev_max
        admitted = np.asarray(admitted & familiar)
        admitted[:, default] = True
        return admitted
