"""Online: a stream of queries, of whose outcomes only those of the chosen endpoints are ever shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from router_gateway.core.types import Bools, Endpoint, Floats, Ints, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """T queries in their order of arrival and what each of E endpoints would have answered.

    queries, embedding : T, and float32 (T, d) in `space`
    endpoints : the pool; its prices hold until `repriced` says otherwise
    quality : float32 (T, E) in [0, 1]
    cost_usd : float64 (T, E) >= 0
    tokens_output : float64 (T, E) >= 1
    available : bool (T, E); an endpoint can be asked where True
    repriced : (t, pool at new prices) pairs, in order of t
    at_s : float64 (T,), seconds since the start
    """

    queries: tuple[Query, ...]
    embedding: Floats
    space: str
    endpoints: tuple[Endpoint, ...]
    quality: Floats
    cost_usd: Floats
    tokens_output: Floats
    available: Bools
    at_s: Floats
    repriced: tuple[tuple[int, tuple[Endpoint, ...]], ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.queries), len(self.endpoints))
        for name in ("quality", "cost_usd", "tokens_output", "available"):
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if len(self.embedding) != shape[0] or self.at_s.shape != shape[:1]:
            raise ValueError(f"embedding and at_s must have {shape[0]} rows")
        if not (np.isfinite(self.quality).all() and np.isfinite(self.cost_usd).all()):
            raise ValueError("quality and cost_usd of a stream must be known everywhere")
        if not self.available.any(axis=1).all():
            raise ValueError("every query needs an endpoint that is available")

    def __len__(self) -> int:
        return len(self.queries)

    def ordered(self, rows: Ints, at_s: Floats | None = None) -> Stream:
        """The named queries in that order, at `at_s`, else at the times of the first as many.

        For streams without events: these stay where they were.
        """
        return replace(
            self,
            queries=tuple(self.queries[i] for i in rows),
            embedding=self.embedding[rows],
            quality=self.quality[rows],
            cost_usd=self.cost_usd[rows],
            tokens_output=self.tokens_output[rows],
            available=self.available[rows],
            at_s=self.at_s[: len(rows)] if at_s is None else at_s,
        )


class Learner(Protocol):
    """Whoever decides for a stream and learns from what came of it."""

    def choose(self, stream: Stream, t: int) -> int:
        """The endpoint for query t, one that is available. Reads nothing of the stream's outcomes."""
        ...

    def learn(self, stream: Stream, t: int, chosen: int, quality: float, cost_usd: float) -> None:
        """What the chosen endpoint's answer was worth and cost: the only outcomes ever shown."""
        ...

    def reprice(self, endpoints: Sequence[Endpoint]) -> None:
        """List prices changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a learner did with a stream.

    chosen : int64 (T,)
    quality, cost_usd : float64 (T,), of the answers given
    decide_s, learn_s : float64 (T,), wall time of `choose` and of `learn`
    """

    chosen: Ints
    quality: Floats
    cost_usd: Floats
    decide_s: Floats
    learn_s: Floats

    def __len__(self) -> int:
        return len(self.chosen)


def simulate(learner: Learner, stream: Stream) -> Trace:
    """Let `learner` answer the stream, one query after another, and show it what it chose and nothing else.

    Raises ValueError when it chooses an endpoint that is not available.
    """
    count = len(stream)
    chosen = np.zeros(count, dtype=np.int64)
    decide_s, learn_s = np.zeros(count), np.zeros(count)
    repriced = dict(stream.repriced)
    for t in range(count):
        if t in repriced:
            learner.reprice(repriced[t])
        started = time.perf_counter()
        own = learner.choose(stream, t)
        decided = time.perf_counter()
        if not stream.available[t, own]:
            raise ValueError(f"query {t}: {stream.endpoints[own].name} is not available")
        learner.learn(stream, t, own, float(stream.quality[t, own]), float(stream.cost_usd[t, own]))
        chosen[t], decide_s[t], learn_s[t] = own, decided - started, time.perf_counter() - decided
    at = np.arange(count)
    return Trace(
        chosen=chosen,
        quality=stream.quality[at, chosen].astype(np.float64),
        cost_usd=stream.cost_usd[at, chosen],
        decide_s=decide_s,
        learn_s=learn_s,
    )
