"""Routes a benchmark offline, with the Router that serves live requests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np

from router_gateway.core.body import Body
from router_gateway.core.types import Decision, Floats, Ints, Query
from router_gateway.dispatch.usage import count_request_tokens
from router_gateway.embedding.conversation import query_text
from router_gateway.evaluation.benchmark import Benchmark

_BATCH = 1024


class Routes(Protocol):
    """What `routing.Router` offers."""

    def route(self, queries: Sequence[Query], embedding: Floats) -> list[Decision]:
        """One decision per query."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The decisions, and as `chosen` int64 (Q,) their positions in the benchmark's endpoints."""

    decisions: tuple[Decision, ...]
    chosen: Ints


def route_offline(
    router: Routes, benchmark: Benchmark, embedding: Floats, *, ids: Sequence[UUID] | None = None
) -> Replay:
    """Decide every query of `benchmark`, in batches; a decision does not depend on its batch.

    embedding : float32 (Q, d) in the router's space
    ids : Q ids, from which the router draws; by default `query_ids`, so that a replay can be repeated

    Raises ValueError when the router chooses an endpoint of which the table has no outcomes.
    """
    ids = query_ids(benchmark) if ids is None else ids
    if not len(ids) == len(embedding) == len(benchmark):
        raise ValueError(f"{len(benchmark)} queries, {len(embedding)} embeddings and {len(ids)} ids must be as many")
    queries = [query_of(prompt, id_) for prompt, id_ in zip(benchmark.prompts, ids, strict=True)]
    decisions: list[Decision] = []
    for start in range(0, len(queries), _BATCH):
        decisions += router.route(queries[start : start + _BATCH], embedding[start : start + _BATCH])
    if strangers := {d.endpoint for d in decisions} - set(benchmark.endpoints):
        raise ValueError(f"the table has no outcomes of {', '.join(sorted(strangers))}")
    position = {name: i for i, name in enumerate(benchmark.endpoints)}
    chosen = np.array([position[decision.endpoint] for decision in decisions], dtype=np.int64)
    return Replay(decisions=tuple(decisions), chosen=chosen)


def query_ids(benchmark: Benchmark, *, seed: int = 0) -> tuple[UUID, ...]:
    """Q ids that depend on `seed`, dataset and sample_id alone (UUID version 8, RFC 9562)."""
    keys = zip(benchmark.datasets, benchmark.sample_ids, strict=True)
    return tuple(_uuid8(f"{seed}\x00{dataset}\x00{sample_id}") for dataset, sample_id in keys)


def _uuid8(key: str) -> UUID:
    value = int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    return UUID(int=value & ~(0b11 << 62) | 0b10 << 62)


def query_of(prompt: str, id_: UUID) -> Query:
    """The prompt as the API would read it from a request with one user message: same text, same token count."""
    messages = [{"role": "user", "content": prompt}]
    tokens_input = count_request_tokens(Body.of({"messages": messages}))
    return Query(id=id_, text=query_text(messages), tokens_input=tokens_input)
