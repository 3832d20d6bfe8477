"""Contrastive losses: how far queries are from the endpoints that serve them well, and from queries unlike them.

Each takes similarities and answers (value, gradient), the gradient with respect to the similarities and of their
shape. Values are means over the queries from which something can be learned; 0 where there are none.
"""

from __future__ import annotations

import numpy as np

from router_gateway.core.types import Bools, Floats, Ints

_STRANGERS = 3  # queries of other kinds that a query is told from at a time
_NOTHING = -1e30  # a logit that counts for nothing, and leaves exp and differences finite


def sample_endpoint(
    similarity: Floats, positive: Bools, negative: Bools, *, temperature: float
) -> tuple[float, Floats]:
    """RouterDC's sample-LLM loss: each positive endpoint of a query against all its negative ones.

    With x = similarity / temperature, (Q, E):

        loss = mean over queries of  sum_{i positive} -log( e^{x_i} / (e^{x_i} + sum_{j negative} e^{x_j}) ) / positives

    Chen et al., 2024, "RouterDC: Query-based router by dual contrastive learning" (arXiv 2409.19886).
    """
    learnable: Bools = np.asarray(positive.any(axis=1) & negative.any(axis=1))
    logit = similarity / temperature
    against = np.where(negative, logit, _NOTHING)
    total = _log_sum_exp(against)  # (Q, 1)
    both = np.logaddexp(logit, total)
    weight = np.where(positive & learnable[:, None], 1.0, 0.0) / max(1, int(learnable.sum()))
    weight /= np.maximum(positive.sum(axis=1, keepdims=True), 1)
    value = float((weight * (both - logit)).sum())
    missed = weight * np.exp(np.minimum(total - both, 0.0))  # what each positive falls short of probability 1
    pushed = np.exp(against - total) * missed.sum(axis=1, keepdims=True)
    return value, ((pushed - missed) / temperature).astype(similarity.dtype)


def top_and_bottom(quality: Floats, order: Floats, *, top: int, bottom: int) -> tuple[Bools, Bools]:
    """The endpoints that `sample_endpoint` contrasts, by quality (Q, E), NaN = not observed: (positive, negative).

    Positive are the `top` best with quality above 0, negative the `bottom` worst with quality at most 1/2 that are not
    positive. `order` (Q, E) breaks ties: with right and wrong answers alone most are, and columns must not decide.
    """
    known = np.isfinite(quality)
    ranked = np.lexsort((order, -np.where(known, quality, -1.0)), axis=1)
    place = np.empty_like(ranked)
    np.put_along_axis(place, ranked, np.arange(quality.shape[1])[None, :], axis=1)
    positive = known & (place < top) & (np.where(known, quality, 0.0) > 0.0)
    last = known.sum(axis=1, keepdims=True)
    negative = known & (place >= last - bottom) & (np.where(known, quality, 1.0) <= 0.5) & ~positive
    return positive, negative


def sample_sample(similarity: Floats, positive: Ints, negative: Ints, *, temperature: float) -> tuple[float, Floats]:
    """RouterDC's sample-sample loss: a query nearer to one of its own kind than to some of other kinds.

    similarity : (Q, Q) of the queries of a batch; positive (Q,) and negative (Q, H) point at rows of it

        loss = mean over queries of  -log( e^{x_positive} / (e^{x_positive} + sum_{h} e^{x_negative h}) )
    """
    rows = np.arange(len(similarity))[:, None]
    columns = np.concatenate([positive[:, None], negative], axis=1)
    logit = similarity[rows, columns] / temperature
    share = np.exp(logit - _log_sum_exp(logit))
    value = float(-np.log(np.maximum(share[:, 0], 1e-30)).mean())
    share[:, 0] -= 1.0
    gradient = np.zeros_like(similarity)
    np.add.at(gradient, (rows, columns), share / (temperature * len(similarity)))
    return value, gradient


def partners(kind: Ints, rng: np.random.Generator) -> tuple[Ints, Ints] | None:
    """For each query of a batch, one of its kind (Q,) and three of others (Q, 3), at random; None if there are none.

    A query alone of its kind gets itself, which draws it nowhere.
    """
    alike = kind[:, None] == kind
    chance = rng.random(alike.shape)
    if (~alike).sum(axis=1).min() < _STRANGERS:
        return None
    np.fill_diagonal(chance, -0.5)
    positive = np.where(alike, chance, -1.0).argmax(axis=1)
    strange, rows = np.where(alike, 2.0, chance), np.arange(len(kind))
    strangers = np.zeros((len(kind), _STRANGERS), dtype=np.int64)
    for column in strangers.T:  # the least, the next, ...: for so few, faster than to partition
        column[:] = strange.argmin(axis=1)
        strange[rows, column] = 2.0
    return positive, strangers


def cost_banded(
    similarity: Floats,
    correct: Bools,
    known: Bools,
    *,
    band: Ints,
    temperature: Floats,
    cost: Floats,
    cost_penalty: float,
) -> tuple[float, Floats]:
    """CSCR's cost-banded InfoNCE: in each band of prices, the right endpoints against all.

    band (E,) : which of the K bands an endpoint is in; temperature (K,); cost (E,) in [0, 1]

        loss = mean over queries of the mean over bands k with a right endpoint of
               -log( sum_{m in k, right} e^{s_m / t_k} / sum_{m known} e^{(s_m - cost_penalty cost_m) / t_k} )

    With one band and no penalty this is InfoNCE with several positives. The penalty stands in the denominator alone,
    so the loss may be negative.

    "Cost-spectrum contrastive routing": Shirkavand et al., 2025, "Cost-aware contrastive routing for LLMs"
    (arXiv 2508.12491); InfoNCE: van den Oord et al., 2018 (arXiv 1807.03748).
    """
    hits = [correct & known & (band == k) for k in range(len(temperature))]
    bands = np.sum([hit.any(axis=1) for hit in hits], axis=0)
    weight = np.where(bands > 0, 1.0 / np.maximum(bands, 1), 0.0) / max(1, int((bands > 0).sum()))
    value, gradient = 0.0, np.zeros_like(similarity)
    for hit, t in zip(hits, temperature, strict=True):
        mine = np.where(hit, similarity / t, _NOTHING)
        everyone = np.where(known, (similarity - cost_penalty * cost) / t, _NOTHING)
        own, all_ = _log_sum_exp(mine), _log_sum_exp(everyone)
        share = np.where(hit.any(axis=1), weight, 0.0)[:, None]
        value += float((share * np.where(share > 0, all_ - own, 0.0)).sum())
        gradient += share / t * (np.exp(everyone - all_) - np.exp(mine - own))
    return value, gradient


def bands_of(cost_usd: Floats, *, bands: int) -> Ints:
    """Which of at most `bands` equally filled bands of prices each endpoint (E,) is in, cheapest first.

    Equal costs share a band; unknown ones (NaN) count as the median. A band has two endpoints or more where it can.
    """
    filled = np.where(np.isfinite(cost_usd), cost_usd, np.nanmedian(cost_usd) if np.isfinite(cost_usd).any() else 0.0)
    count = max(1, min(bands, len(filled) // 2))
    edges = np.quantile(filled, np.linspace(0, 1, count + 1)[1:-1])
    return np.unique(np.searchsorted(edges, filled, side="left"), return_inverse=True)[1]


def _log_sum_exp(logit: Floats) -> Floats:
    """(Q, 1) over the last axis."""
    most = logit.max(axis=1, keepdims=True)
    return np.asarray(most + np.log(np.exp(logit - most).sum(axis=1, keepdims=True)))
