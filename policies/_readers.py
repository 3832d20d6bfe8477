"""Where a table of kinds is read from: points that start as the centroids and move to where reading predicts best."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from policies._adam import Adam
from router_gateway.core.types import Floats, Ints

_BATCH = 256
_RATE = 2e-3  # of unit vectors with some hundred components
_EDGE = 0.02  # a prediction nearer to 0 or 1 pulls no harder than one here


def learned_readers(
    embedding: Floats,
    home: Ints,
    quality: Floats,
    count: Floats,
    *,
    centres: Floats,
    prior: Floats,
    prior_weight: Floats,
    top: int,
    sharpness: float,
    steps: int,
    hold: float,
    seed: int,
) -> Floats:
    """Readers r_k, float32 (K, d), that lessen the cross-entropy of sum_k w_k x_k against the outcomes.

    x is the table of cells, w the soft reading of the `top` nearest readers, both as in `policies.clusters`. A
    query's own outcomes are taken out of the cell it reads: it would else learn to recognise itself.

    embedding, home : (Q, d) and the nearest centre (Q,) of each query
    quality, count : float64 (Q, E), mean and number of the outcomes of a cell; mean 0 where there are none
    prior, prior_weight : float64 (K, E) and (K, 1), what a cell is drawn to and how many outcomes that counts for
    steps, hold : of Adam, each on a few hundred queries; how strongly readers are drawn back to the centres
    """
    moved = np.zeros_like(centres, dtype=np.float32)
    total, number = (_sums(home, values, len(centres)) for values in (count * quality, count))
    pulled = prior * prior_weight
    table = (total + pulled) / (number + prior_weight)
    own = (total[home] - count * quality + pulled[home]) / np.maximum(number[home] - count + prior_weight[home], 1e-9)
    rng = np.random.default_rng(seed)
    adam = Adam({"moved": moved}, rate=_RATE, steps=max(steps, 1), decay=hold)
    order = np.zeros(0, dtype=np.int64)
    with threadpool_limits(limits=1):  # several threads add in the order in which they finish
        for _ in range(steps if len(embedding) else 0):
            if len(order) < min(_BATCH, len(embedding)):
                order = rng.permutation(len(embedding))
            batch, order = order[:_BATCH], order[_BATCH:]
            readers, points = centres + moved, embedding[batch]
            kind, weight = _read(points, readers, top, sharpness)
            cells = np.where((kind == home[batch, None])[:, :, None], own[batch, None], table[kind])
            predicted = (weight[:, :, None] * cells).sum(axis=1)
            slack = np.maximum(predicted * (1 - predicted), _EDGE)
            pull = count[batch] * (predicted - quality[batch]) / slack
            by_weight = (cells * pull[:, None]).sum(axis=2)
            by_logit = weight * (by_weight - (weight * by_weight).sum(axis=1, keepdims=True)) / count[batch].sum()
            dense = np.zeros((len(batch), len(centres)), dtype=np.float32)
            np.put_along_axis(dense, kind, by_logit.astype(np.float32), axis=1)
            adam.step({"moved": sharpness * (dense.T @ points - dense.sum(axis=0)[:, None] * readers)})
    return centres + moved


def _read(points: Floats, readers: Floats, top: int, sharpness: float) -> tuple[Ints, Floats]:
    """The nearest `top` readers of each point and their weights, (B, top)."""
    nearness = points @ readers.T - (readers**2).sum(axis=1) / 2
    kind = np.argsort(-nearness, axis=1, kind="stable")[:, :top]
    logit = sharpness * np.take_along_axis(nearness, kind, axis=1).astype(np.float64)
    weight = np.exp(logit - logit[:, :1])
    return kind, weight / weight.sum(axis=1, keepdims=True)


def _sums(group: Ints, values: Floats, groups: int) -> Floats:
    """float64 (groups, E): values (Q, E) added up by group (Q,)."""
    sums = np.zeros((groups, values.shape[1]))
    np.add.at(sums, group, values)
    return sums
