"""What a request will cost, before it is sent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from router_gateway.core.types import Attempt, Endpoint, Floats, Query

_USD_PER_MTOK = 1e-6


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
        self._input_usd = np.array([float(e.price_input_usd_per_mtok) for e in self.endpoints]) * _USD_PER_MTOK
        self._output_usd = np.array([float(e.price_output_usd_per_mtok) for e in self.endpoints]) * _USD_PER_MTOK

    @property
    def output_tokens(self) -> Floats:
        """float64 (E,), the present estimate of a call's output tokens."""
        return self._mean

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        """float64 (Q, E), USD per call."""
        sent = np.array([query.tokens_input for query in queries], dtype=np.float64)
        limit = np.array([np.inf if q.tokens_output_max is None else q.tokens_output_max for q in queries])
        answered = np.minimum(self._mean[None, :], limit[:, None])
        return np.asarray(sent[:, None] * self._input_usd + answered * self._output_usd)

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
