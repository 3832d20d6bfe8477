"""What is expected of endpoints before any outcome is known."""

from __future__ import annotations

from dataclasses import dataclass

from router_gateway.core.types import Floats, Queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """An expectation of E endpoints that is linear in the query's vector.

    queries : Q typical queries, in whose space it holds
    endpoints : E names
    coefficients : float64 (1 + d, E); the quality expected is [1, x] @ coefficients, cut to [0, 1]
    noise : float64 (E,), variance of single answers around it
    outcomes : observed outcomes per endpoint that it is worth
    """

    queries: Queries
    endpoints: tuple[str, ...]
    coefficients: Floats
    noise: Floats
    outcomes: float
