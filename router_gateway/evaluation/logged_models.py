"""Models of what a draw would have brought, for doubly robust estimates: never of an outcome they have seen."""

from __future__ import annotations

import numpy as np

from router_gateway import registry
from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.logged_outcomes import LoggedOutcomes

OUTCOME_MODEL = "linear"
_FOLDS = 5


def folds(cluster: Ints, seed: int) -> Ints:
    """int64 (n,): the fold of each row; a cluster is in one fold whole."""
    return np.asarray(np.random.default_rng(seed).permutation(int(cluster.max()) + 1)[cluster] % _FOLDS)


def cross_fitted(
    outcomes: LoggedOutcomes, learned: Ints, asked: Ints, cluster: Ints, *, seed: int
) -> tuple[Floats, Floats]:
    """Quality and cost if drawn, float64 (n, E): from the training half and the other folds of the asked one.

    Folds are whole sessions, so no prediction has seen an outcome that depends on its own (cross-fitting:
    Chernozhukov et al., 2018, "Double/debiased machine learning", arXiv:1608.00060).

    learned, asked : rows of `outcomes`, all rated; cluster : int64 (n,), of the asked ones
    """
    quality = np.empty((len(asked), len(outcomes.endpoints)))
    cost_usd = np.empty_like(quality)
    fold, unfitted = folds(cluster, seed), registry.create(OUTCOME_MODEL, {})
    for number in np.unique(fold):
        own = fold == number
        seen = np.concatenate([learned, asked[~own]])
        model = unfitted.fit(outcomes.experience(seen, credit_drawn=True))
        quality[own] = model.score(outcomes.queries.take(asked[own])).align(outcomes.endpoints).quality
        cost_usd[own] = outcomes.expected_cost_usd[asked[own]] * cost_factor(outcomes, seen)
    return quality, cost_usd


def cost_factor(outcomes: LoggedOutcomes, rows: Ints) -> Floats:
    """float64 (E,): what a draw of each endpoint cost, by what the gateway expected; all endpoints' where none was."""
    drawn, count = outcomes.drawn[rows], len(outcomes.endpoints)
    spent = np.bincount(drawn, weights=outcomes.cost_usd[rows], minlength=count)
    expected = np.bincount(drawn, weights=outcomes.expected_cost_usd[rows, drawn], minlength=count)
    overall = spent.sum() / expected.sum() if expected.sum() > 0 else 0.0
    return np.asarray(np.divide(spent, expected, out=np.full(count, overall), where=expected > 0))
