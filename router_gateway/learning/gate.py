"""Whether what was learned may serve: it must not predict recent answers worse than what it replaces."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from router_gateway.core.experience import Experience
from router_gateway.core.protocols import Policy
from router_gateway.core.types import Floats

_PROPENSITY_MIN = 0.05  # a row counts twenty times at most
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How much worse the new policy predicts: a difference of mean squared errors, in squared quality.

    worse : positive where the new policy is worse; stderr : its standard error; rows : on which both were judged
    """

    worse: float
    stderr: float
    rows: int

    def refuses(self, *, z: float, rows_min: int) -> bool:
        """Whether it is worse by more than `z` standard errors, on at least `rows_min` rows."""
        return self.rows >= rows_min and self.worse > max(z * self.stderr, _ROUNDING)


def judge(serving: Policy, candidate: Policy, held_out: Experience) -> Judgement:
    """Compare two fitted policies on outcomes that neither learned from.

    With p_i and c_i what the serving policy and the candidate expect of row i, y_i its quality and w_i one over the
    propensity (at least 0.05), so that an endpoint counts as if it had been asked as often as the others:

        d_i = (c_i - y_i)² - (p_i - y_i)²        worse = sum w_i d_i / sum w_i

    The standard error is the ratio estimator's, by queries: rows of one query are not independent. Rows without
    propensity (pins, fallbacks) are left out.
    """
    rows = held_out.select(held_out.propensity > 0)
    if not len(rows):
        return Judgement(worse=0.0, stderr=0.0, rows=0)
    target = rows.quality.astype(np.float64)
    difference = (_expected(candidate, rows) - target) ** 2 - (_expected(serving, rows) - target) ** 2
    weight = 1 / np.maximum(rows.propensity.astype(np.float64), _PROPENSITY_MIN)
    worse = float(weight @ difference / weight.sum())
    by_query = np.bincount(rows.query, weights=weight * (difference - worse))
    return Judgement(worse=worse, stderr=sqrt(float(by_query @ by_query)) / float(weight.sum()), rows=len(rows))


def _expected(policy: Policy, rows: Experience) -> Floats:
    """float64 (N,), the quality expected of each row's endpoint; an endpoint unknown to the policy has the prior."""
    scores = policy.score(rows.queries).align(rows.endpoints)
    return scores.quality[rows.query, rows.endpoint].astype(np.float64)
