"""Exploring endpoints of which little is known: a fixed share of the requests, for a bounded number of them."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from router_gateway.core.protocols import Rule
from router_gateway.core.types import Bools, Floats


class NewcomerSettings(BaseModel):
    """The section `newcomers` of the configuration.

    An endpoint is new until `outcomes_min` of its answers were graded or it was called `requests_max` times; one that
    the policy was trained on, and the default endpoint, never are. While it is new it gets `share` of the requests
    that it could serve, together with other new ones, neither more nor less. Counted anew every `refresh_s` seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.05, gt=0, le=0.5)
    outcomes_min: int = Field(50, ge=1, le=100_000)
    requests_max: int = Field(500, ge=1, le=100_000)
    refresh_s: float = Field(5.0, gt=0, le=3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomers:
    """`share` of the requests for those that `names` gives; it is asked once a batch, and must not block."""

    share: float
    names: Callable[[], Set[str]]


def with_newcomers(rule: Rule, value: Floats, *, admitted: Bools, eligible: Bools, new: Bools, share: float) -> Floats:
    """The rule's probabilities over the endpoints that are known, and `share` in even parts over the new ones.

    value : float64 (Q, E); admitted, eligible : bool (Q, E), with and without the guard's say; new : bool (Q, E) too,
    since columns may be in another order in each row
    Returns float64 (Q, E), rows sum to 1:

        p = (1 - s) rule(value, known) + s new / |new|        s = share where a new endpoint is eligible, else 0

    so propensities are as exact as the rule's. The guard has no say in new endpoints: it asks for evidence, and there
    is none. Where no known endpoint is eligible the rule decides as if none were new.
    """
    open_ = eligible & new
    known = admitted & ~new
    known = np.where(known.any(axis=1, keepdims=True), known, eligible & ~new)
    mixed = known.any(axis=1, keepdims=True) & open_.any(axis=1, keepdims=True)
    base = rule.probabilities(value, np.where(mixed, known, admitted))
    even = open_ / np.maximum(open_.sum(axis=1, keepdims=True), 1)
    return np.where(mixed, (1.0 - share) * base + share * even, base)
