"""What a request will cost, before it is sent."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

import numpy as np

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.prices import next_change, priced_at
from router_gateway.core.types import Attempt, Endpoint, Floats, Query
from router_gateway.routing.lengths import Lengths

_USD_PER_MTOK = 1e-6


def _now() -> datetime:
    return datetime.now(UTC)


class Prices:
    """List prices of a pool, USD per token, (E,) each; those in force now, where they have dates."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._take(_now())

    def _take(self, now: datetime) -> None:
        pool = [priced_at(endpoint, now) for endpoint in self._endpoints]
        input_usd = np.array([float(e.price_input_usd_per_mtok) for e in pool]) * _USD_PER_MTOK
        self._usd = input_usd, np.array([float(e.price_output_usd_per_mtok) for e in pool]) * _USD_PER_MTOK
        self._until = next_change(pool, now)

    def usd(self, queries: Sequence[Query], answered: Floats) -> Floats:
        """float64 (Q, E): the prompt as counted, and `answered` (Q, E) output tokens."""
        if self._until is not None and (now := _now()) >= self._until:
            self._take(now)
        input_usd, output_usd = self._usd
        sent = np.array([query.tokens_input for query in queries], dtype=np.float64)
        return np.asarray(sent[:, None] * input_usd + answered * output_usd)


def limits(queries: Sequence[Query]) -> Floats:
    """float64 (Q, 1): output tokens that the client allows."""
    limit = [np.inf if query.tokens_output_max is None else query.tokens_output_max for query in queries]
    return np.array(limit, dtype=np.float64).reshape(-1, 1)


@dataclass(kw_only=True)
class TokenPriceCost:
    """Counted prompt tokens and a learned mean of output tokens, times list prices.

        cost_usd[q, e] = tokens_input[q] · p_in[e] + min(out[e], tokens_output_max[q]) · p_out[e]
        out[e] = (prior_weight · prior_output_tokens + Σ observed) / (prior_weight + n[e])

    After `observations_max` calls the oldest count less and less, so that a model that turns chatty is
    noticed: n stays at that bound and the mean becomes an exponential one.
    """

    endpoints: tuple[Endpoint, ...]
    prior_output_tokens: float = 300.0
    prior_weight: float = 5.0
    observations_max: float = 2_000.0
    _count: Floats = field(init=False, repr=False)
    _mean: Floats = field(init=False, repr=False)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._count = np.full(len(self.endpoints), self.prior_weight, dtype=np.float64)  # an int would truncate
        self._mean = np.full(len(self.endpoints), self.prior_output_tokens, dtype=np.float64)
        self._column = {endpoint.name: i for i, endpoint in enumerate(self.endpoints)}
        self._prices = Prices(self.endpoints)

    @property
    def output_tokens(self) -> Floats:
        """float64 (E,), the present estimate of a call's output tokens."""
        return self._mean

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        """float64 (Q, E), USD per call."""
        return self._prices.usd(queries, np.minimum(self._mean[None, :], limits(queries)))

    def observe(self, attempts: Sequence[Attempt]) -> None:
        """Learn output lengths from calls that reported usage."""
        for attempt in attempts:
            if attempt.usage is not None and attempt.error is None:
                self.observe_output(attempt.endpoint, attempt.usage.tokens_completion)

    def observe_output(self, endpoint: str, tokens_output: float, *, calls: float = 1.0) -> None:
        """Learn from `calls` calls whose mean output was `tokens_output` tokens."""
        column = self._column.get(endpoint)
        if column is None or calls <= 0:
            return
        with self._lock:  # writers only: a reader sees the old mean or the new one
            count = min(self._count[column] + calls, self.observations_max)
            self._mean[column] += min(1.0, calls / count) * (tokens_output - self._mean[column])
            self._count[column] = count

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON."""
        return {e.name: [float(self._count[i]), float(self._mean[i])] for i, e in enumerate(self.endpoints)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over `state()` of an earlier process; endpoints it does not know keep their prior."""
        for name, (count, mean) in state.items():
            if name in self._column:
                self._count[self._column[name]] = count
                self._mean[self._column[name]] = mean


@dataclass(kw_only=True)
class TokenLengthCost:
    """Counted prompt tokens and output tokens predicted for this very request, times list prices.

        cost_usd[q, e] = tokens_input[q] · p_in[e] + min(c[e] · T[q, e], tokens_output_max[q]) · p_out[e]
        c[e] = mean tokens answered / mean tokens predicted, of the calls observed

    T comes from `Lengths`, fitted on recorded answers. The correction c follows the traffic: it starts at 1 with the
    weight of `prior_weight` calls of the length that was typical in training, and after `observations_max` calls the
    oldest count less and less. To know what was predicted for a call, the last `remembered_max` predictions are
    kept by query id; a call whose prediction is gone teaches nothing.
    """

    endpoints: tuple[Endpoint, ...]
    prior_output_tokens: float = 300.0
    prior_weight: float = 20.0
    observations_max: float = 2_000.0
    remembered_max: int = 10_000
    _lengths: Lengths = field(init=False, repr=False)
    _seen: Floats = field(init=False, repr=False)  # (3, E): calls, mean tokens answered, mean tokens predicted
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._column = {endpoint.name: i for i, endpoint in enumerate(self.endpoints)}
        self._prices = Prices(self.endpoints)
        self._recent: OrderedDict[UUID, Floats] = OrderedDict()
        self._begin(Lengths.prior(self.prior_output_tokens), np.full(len(self.endpoints), self.prior_output_tokens))

    def _begin(self, lengths: Lengths, typical: Floats) -> None:
        self._lengths = lengths
        self._seen = np.stack([np.full(len(typical), self.prior_weight, dtype=np.float64), typical, typical])
        self._recent.clear()

    def fit(self, queries: Sequence[Query], tokens_output: Floats) -> Self:
        """Learn from recorded answers and forget what was observed.

        tokens_output : (Q, E) in the order of `endpoints`, NaN where unknown
        """
        columns = {name: np.asarray(tokens_output, dtype=np.float64)[:, i] for name, i in self._column.items()}
        lengths = Lengths.fit(queries, columns, tokens_prior=self.prior_output_tokens)
        names = tuple(self._column)
        typical = lengths.tokens(queries, names).mean(axis=0) if len(queries) else self._seen[2]
        with self._lock:
            self._begin(lengths, typical)
        return self

    @property
    def correction(self) -> Floats:
        """float64 (E,) > 0, the factor c by which predictions are multiplied now."""
        return np.asarray(self._seen[1] / self._seen[2])

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        """float64 (Q, E), USD per call."""
        predicted, allowed = self._lengths.tokens(queries, tuple(self._column)), limits(queries)
        with self._lock:
            for query, row in zip(queries, np.maximum(np.minimum(predicted, allowed), 1.0), strict=True):
                self._recent[query.id] = row
                self._recent.move_to_end(query.id)
            while len(self._recent) > self.remembered_max:
                self._recent.popitem(last=False)
            correction = self.correction
        return self._prices.usd(queries, np.minimum(correction * predicted, allowed))

    def observe(self, attempts: Sequence[Attempt]) -> None:
        """Learn from answered calls that reported usage and were priced here."""
        with self._lock:
            for attempt in attempts:
                column, predicted = self._column.get(attempt.endpoint), self._recent.get(attempt.query_id)
                if attempt.usage is None or attempt.error is not None or column is None or predicted is None:
                    continue
                seen = self._seen[:, column]
                seen[0] = min(seen[0] + 1.0, self.observations_max)
                seen[1] += (max(attempt.usage.tokens_completion, 1) - seen[1]) / seen[0]
                seen[2] += (predicted[column] - seen[2]) / seen[0]

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON."""
        seen = {name: self._seen[:, i].tolist() for name, i in self._column.items()}
        return {"lengths": self._lengths.to_json(), "seen": seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `state()` of an earlier process; an endpoint it does not know is taken for an average one.

        Raises SnapshotMismatch, and changes nothing, when it is not such a state.
        """
        try:
            lengths, told = Lengths.from_json(state["lengths"]), dict(state["seen"])
            known = [values for values in told.values() if values[2] > 0]
            average = np.array([self.prior_weight, *[np.mean([v[2] for v in known]) if known else 1.0] * 2])
            seen = np.stack([np.array(told.get(name, average), dtype=np.float64) for name in self._column], axis=1)
            if seen.shape != self._seen.shape or not np.isfinite(seen).all() or (seen <= 0).any():
                raise ValueError("observations out of range")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise SnapshotMismatch(f"not a saved TokenLengthCost: {error}", hint="fit it again") from error
        with self._lock:
            self._begin(lengths, seen[2])
            self._seen = seen
