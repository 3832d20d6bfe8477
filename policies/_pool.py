"""Which endpoints to keep when not all can be kept: an exact answer by mixed-integer programming."""

from __future__ import annotations

import numpy as np

from router_gateway.core.errors import BadParameters
from router_gateway.core.types import Bools, Floats


def best_pool(
    quality: Floats, traffic: Floats, *, endpoints_max: int | None, sizes: Floats, size_max: float | None
) -> Bools:
    """The endpoints, bool (E,), that serve best when each category goes to the best endpoint that is kept.

        maximise    sum_k traffic_k sum_m quality_km z_km
        subject to  sum_m z_km = 1,  0 <= z_km <= y_m,  y_m in {0, 1},
                    sum_m y_m <= endpoints_max,  sum_m sizes_m y_m <= size_max

    For given y some best z is integer, so only y is searched. An endpoint that no category needs is not kept, although
    it might fit.

    quality : (K, E); traffic : (K,) >= 0; sizes : (E,) >= 0, in the unit of `size_max`
    Raises BadParameters if not a single endpoint fits.
    """
    from scipy import sparse  # seconds of import, and only here
    from scipy.optimize import Bounds, LinearConstraint, milp

    categories, endpoints = quality.shape
    fits = np.ones(endpoints, dtype=bool) if size_max is None else sizes <= size_max
    if not fits.any():
        raise BadParameters(f"size_max {size_max:g}: no endpoint is that small", hint="allow more, or correct `sizes`")
    pairs = categories * endpoints
    each, all_kept = sparse.eye_array(pairs), np.ones(endpoints)
    per_category = sparse.kron(sparse.eye_array(categories), all_kept[None, :])
    kept = sparse.kron(np.ones((categories, 1)), sparse.eye_array(endpoints))
    limits = [
        LinearConstraint(sparse.hstack([sparse.csr_array((categories, endpoints)), per_category]), 1, 1),
        LinearConstraint(sparse.hstack([-kept, each]), -np.inf, 0),
    ]
    rooms = [(all_kept, endpoints_max), (sizes, size_max)]
    for room, most in rooms:
        if most is not None:
            limits.append(LinearConstraint(np.concatenate([room, np.zeros(pairs)])[None, :], -np.inf, most))
    weight = traffic / traffic.sum() if traffic.any() else np.full(categories, 1.0 / categories)
    found = milp(
        np.concatenate([np.zeros(endpoints), -(weight[:, None] * quality).ravel()]),
        constraints=limits,
        integrality=np.concatenate([np.ones(endpoints), np.zeros(pairs)]),
        bounds=Bounds(0, np.concatenate([fits.astype(np.float64), np.ones(pairs)])),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise RuntimeError(f"no pool was found: {found.message}")
    candidates = np.where(found.x[:endpoints] > 0.5, quality, -np.inf)
    pool = np.zeros(endpoints, dtype=bool)
    pool[candidates.argmax(axis=1)] = True
    return pool
