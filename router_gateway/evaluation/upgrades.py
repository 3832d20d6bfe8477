"""The best that can be bought, query by query: the steps from the cheapest answers to the best ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_gateway.core.types import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrades:
    """Where each of Q queries starts, and S steps up from there, those that buy most per dollar first.

    start_cost_usd, start_quality : float64 (Q,), the cheapest endpoint of each query
    query : int64 (S,), whose step it is
    cost_usd, quality : float64 (S,) > 0, what the step adds
    """

    start_cost_usd: Floats
    start_quality: Floats
    query: Ints
    cost_usd: Floats
    quality: Floats

    def frontier(self, weights: Floats) -> tuple[Floats, Floats]:
        """Mean cost and mean quality after 0, 1, … S steps, the queries weighted: float64 (..., 1 + S) each.

        weights : (..., Q), each row summing to 1. What a step buys per dollar does not depend on the weights,
        so neither does the order, and a resample of the queries costs two sums.
        """
        return (
            _climb(weights, self.start_cost_usd, self.query, self.cost_usd),
            _climb(weights, self.start_quality, self.query, self.quality),
        )


def _climb(weights: Floats, start: Floats, query: Ints, gain: Floats) -> Floats:
    steps = np.concatenate([(weights @ start)[..., None], weights[..., query] * gain], axis=-1)
    return np.asarray(steps.cumsum(axis=-1))


def upgrades(quality: Floats, cost_usd: Floats) -> Upgrades:
    """The steps along every query's own hull, in falling order of quality per USD.

    quality, cost_usd : (Q, E); an endpoint without either is no choice for that query

    A choice per query that maximises mean quality - λ · mean cost takes, for every query on its own, all steps
    that buy at least λ; taken in falling order the steps therefore pass through every such choice, for all λ.
    Raises ValueError without any query, and when a query has no endpoint with both.
    """
    known = np.isfinite(quality) & np.isfinite(cost_usd)
    if not len(known) or not known.any(axis=1).all():
        raise ValueError("every query, and at least one, needs an endpoint with known quality and cost")
    cost = np.where(known, cost_usd, np.inf).astype(np.float64)
    gain = np.where(known, quality, -np.inf).astype(np.float64)
    cheapest = cost == cost.min(axis=1, keepdims=True)
    at = np.where(cheapest, gain, -np.inf).argmax(axis=1)  # of equally cheap ones the best
    rows = np.arange(len(at))
    start_cost, start_gain = cost[rows, at], gain[rows, at]
    found: list[tuple[Ints, Floats, Floats]] = []
    while len(rows):
        run, rise = cost[rows] - cost[rows, at][:, None], gain[rows] - gain[rows, at][:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slope = np.where(rise > 0, rise / run, 0.0)
        steepest = slope.max(axis=1)
        up = steepest > 0
        rows, run, rise, slope, steepest = rows[up], run[up], rise[up], slope[up], steepest[up]
        at = np.where(slope == steepest[:, None], rise, 0.0).argmax(axis=1)  # of equally steep ones the farthest
        each = np.arange(len(rows))
        found.append((rows, run[each, at], rise[each, at]))
    query, dearer, better = (np.concatenate(parts) for parts in zip(*found, strict=True))
    with np.errstate(divide="ignore", over="ignore"):
        order = np.argsort(-better / dearer, kind="stable")
    return Upgrades(
        start_cost_usd=start_cost,
        start_quality=start_gain,
        query=query[order],
        cost_usd=dearer[order],
        quality=better[order],
    )
