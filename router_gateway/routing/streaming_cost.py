"""What a request will cost, learned from the traffic itself: no recorded answers are needed beforehand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

import numpy as np

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Attempt, Endpoint, Floats, Query
from router_gateway.routing.cost import Prices, TokenLengthCost, TokenPriceCost, limits
from router_gateway.routing.lengths import FEATURES, features


@dataclass(kw_only=True)
class StreamingLengthCost:
    """Counted prompt tokens and output tokens predicted for this very request, from calls alone, times list prices.

        cost_usd[q, e] = tokens_input[q] · p_in[e] + min(c[e] · exp(f[q]' w[e]), tokens_output_max[q]) · p_out[e]

    f are the cues of `routing.lengths`. The regression of log tokens is kept as sums, so that a call costs O(F³)
    and no call is stored; a call weighs `gamma` once the next of its endpoint is known. Weights are held to those of
    one regression over all endpoints, with an intercept of its own for each, by `penalty`: what makes one model's
    answer long makes another's long, so an endpoint that is rarely asked is priced too. c is the ratio of tokens
    answered to tokens predicted (exp of a mean is not the mean of exp), which follows the traffic.

    Features of the last `remembered_max` queries are kept by id; a call whose query is gone teaches nothing.
    """

    endpoints: tuple[Endpoint, ...]
    prior_output_tokens: float = 300.0
    gamma: float = 0.998
    penalty: float = 3.0
    ratio_memory: float = 300.0
    remembered_max: int = 10_000
    _gram: Floats = field(init=False, repr=False)  # (E, F, F)
    _moment: Floats = field(init=False, repr=False)  # (E, F)
    _ratio: Floats = field(init=False, repr=False)  # (2, E): tokens answered and predicted, decayed sums
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not 0.0 < self.gamma <= 1.0:
            raise ValueError(f"gamma must lie in (0, 1], not {self.gamma}")
        self._column = {endpoint.name: i for i, endpoint in enumerate(self.endpoints)}
        self._prices = Prices(self.endpoints)
        self._recent: OrderedDict[UUID, Floats] = OrderedDict()
        count, width = len(self.endpoints), len(FEATURES)
        self._gram, self._moment = np.zeros((count, width, width)), np.zeros((count, width))
        self._ratio = np.full((2, count), 5.0 * self.prior_output_tokens)
        self._solve()

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        """float64 (Q, E), USD per call."""
        rows = features(queries)
        with self._lock:
            for query, row in zip(queries, rows, strict=True):
                self._recent[query.id] = row
                self._recent.move_to_end(query.id)
            while len(self._recent) > self.remembered_max:
                self._recent.popitem(last=False)
            answered = self._tokens(rows) * (self._ratio[0] / self._ratio[1])
        return self._prices.usd(queries, np.minimum(answered, limits(queries)))

    def fit(self, queries: Sequence[Query], tokens_output: Floats) -> Self:
        """Learn from recorded answers as if they had just been given, in order.

        tokens_output : (Q, E) in the order of `endpoints`, NaN where unknown
        """
        rows = features(queries)
        with self._lock:
            for row, tokens in zip(rows, tokens_output, strict=True):
                for column in np.flatnonzero(~np.isnan(tokens)).tolist():
                    self._learn(column, row, max(float(tokens[column]), 1.0))
                self._solve()
        return self

    def observe(self, attempts: Sequence[Attempt]) -> None:
        """Learn from answered calls that reported usage and were priced here."""
        with self._lock:
            learned = False
            for attempt in attempts:
                column, row = self._column.get(attempt.endpoint), self._recent.get(attempt.query_id)
                if attempt.usage is None or attempt.error is not None or column is None or row is None:
                    continue
                self._learn(column, row, max(attempt.usage.tokens_completion, 1))
                learned = True
            if learned:
                self._solve()

    def reprice(self, endpoints: Sequence[Endpoint]) -> None:
        """The same endpoints at new list prices. Lengths stay as learned: a price says nothing of them."""
        if [e.name for e in endpoints] != list(self._column):
            raise ValueError("reprice takes the same endpoints in the same order")
        self.endpoints = tuple(endpoints)
        self._prices = Prices(self.endpoints)

    def _learn(self, column: int, row: Floats, tokens: float) -> None:
        kept = 1.0 - 1.0 / self.ratio_memory
        self._ratio[:, column] *= kept
        self._ratio[:, column] += tokens, self._tokens(row[None, :])[0, column]
        self._gram[column] = self.gamma * self._gram[column] + np.outer(row, row)
        self._moment[column] = self.gamma * self._moment[column] + row * np.log(tokens)

    def _solve(self) -> None:
        """Weights (F, E): first one regression over all endpoints with an intercept each, then each held to it."""
        count, width = self._moment.shape
        joint = np.zeros((count + width - 1, count + width - 1))
        right = np.zeros(count + width - 1)
        at = np.arange(count)
        joint[at, at] = self._gram[:, 0, 0] + 1.0
        joint[:count, count:] = self._gram[:, 0, 1:]
        joint[count:, :count] = joint[:count, count:].T
        joint[count:, count:] = self._gram[:, 1:, 1:].sum(axis=0) + self.penalty * np.eye(width - 1)
        seen = self._gram[:, 0, 0].sum()
        prior = (self._moment[:, 0].sum() + np.log(self.prior_output_tokens)) / (seen + 1.0)
        right[:count] = self._moment[:, 0] + prior
        right[count:] = self._moment[:, 1:].sum(axis=0)
        pooled = np.linalg.solve(joint, right)
        towards = np.concatenate([pooled[:count, None], np.tile(pooled[count:], (count, 1))], axis=1)
        hold = self.penalty * np.eye(width)
        self._weights = np.linalg.solve(self._gram + hold, (self._moment + self.penalty * towards)[:, :, None])[
            :, :, 0
        ].T

    def _tokens(self, rows: Floats) -> Floats:
        # One product per query, so that a batch gives the bits its rows would.
        log = np.matmul(rows[:, None, :], self._weights)[:, 0]
        return np.asarray(np.exp(np.clip(log, 0.0, np.log(1e6))))

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON."""
        return {
            "features": list(FEATURES),
            "endpoints": {
                name: {
                    "gram": self._gram[i].tolist(),
                    "moment": self._moment[i].tolist(),
                    "ratio": self._ratio[:, i].tolist(),
                }
                for name, i in self._column.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `state()` of an earlier process; an endpoint it does not know starts anew.

        Raises SnapshotMismatch, and changes nothing, when it is not such a state.
        """
        if not state:  # of a time before anything was learned
            return
        gram, moment, ratio = self._gram.copy(), self._moment.copy(), self._ratio.copy()
        try:
            if tuple(state["features"]) != FEATURES:
                raise ValueError("it reads other features")
            for name, own in state["endpoints"].items():
                if name in self._column:
                    at = self._column[name]
                    gram[at], moment[at], ratio[:, at] = own["gram"], own["moment"], own["ratio"]
            if not all(np.isfinite(part).all() for part in (gram, moment, ratio)) or (ratio <= 0).any():
                raise ValueError("numbers out of range")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SnapshotMismatch(f"not a saved StreamingLengthCost: {error}", hint="start anew") from error
        with self._lock:
            self._gram, self._moment, self._ratio = gram, moment, ratio
            self._solve()


LearnedCost = TokenPriceCost | TokenLengthCost | StreamingLengthCost
"""The cost models that a configuration can name."""
