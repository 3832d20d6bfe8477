"""The stream of `make online`: recorded outcomes at the list prices of their day, in an order drawn by the seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np

from router_gateway.core.experience import Experience
from router_gateway.core.types import Endpoint, Queries
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.online import Stream
from router_gateway.evaluation.prepared import load_tables, prepare

OFFLINE_SHARE = 0.3
_LIST_USD_PER_MTOK = {
    "llama": (0.10, 0.10),
    "mistral": (0.50, 1.50),
    "flash": (0.30, 2.50),
    "pro": (1.25, 10.0),
}
"""Input and output: of the models file that comes with paretobandit; flash, which it lacks, from its maker's list."""
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """Queries known before the stream, and their outcomes for those who may see them; `hidden` columns nobody saw."""

    stream: Stream
    hidden: tuple[int, ...] = ()

    def experience(self, *, outcomes: bool) -> Experience:
        """Full information, or the prompts alone."""
        stream = self.stream
        queries = Queries(
            text=tuple(query.text for query in stream.queries),
            embedding=stream.embedding,
            tokens_input=np.array([query.tokens_input for query in stream.queries], dtype=np.int64),
            space=stream.space,
        )
        quality = stream.quality.astype(np.float32).copy()
        quality[:, list(self.hidden)] = np.nan
        if not outcomes:
            quality[:] = np.nan
        return Experience.from_table(queries, [e.name for e in stream.endpoints], quality)

    def without(self, column: int) -> Offline:
        """As if nobody had heard of that endpoint."""
        return Offline(stream=self.stream, hidden=(*self.hidden, column))


def load(data: str) -> Stream:
    """All prompts in the file's order, else the validation half of the outcomes that come with paretobandit."""
    name, table = load_tables(data)[0] if Path(data).is_file() else load_tables("paretobandit")[0]
    prepared = prepare(name, table, encoder=Encoder(kind="onnx"), cache=default_cache())
    endpoints = tuple(_priced(endpoint) for endpoint in prepared.endpoints)
    usd = np.array([[float(e.price_input_usd_per_mtok), float(e.price_output_usd_per_mtok)] for e in endpoints]) * 1e-6
    sent = np.array([query.tokens_input for query in prepared.queries], dtype=np.float64)
    implied = (prepared.table.cost_usd - sent[:, None] * usd[:, 0]) / usd[:, 1]
    return Stream(
        queries=prepared.queries,
        embedding=prepared.embedding,
        space=prepared.space,
        endpoints=endpoints,
        quality=prepared.table.quality,
        cost_usd=prepared.table.cost_usd,
        tokens_output=np.maximum(implied, 1.0),
        available=np.ones(prepared.table.quality.shape, dtype=bool),
        at_s=np.arange(len(prepared), dtype=np.float64),
    )


def _priced(endpoint: Endpoint) -> Endpoint:
    word = next(word for word in _LIST_USD_PER_MTOK if word in endpoint.name.rsplit("/", 1)[-1])
    sent, answered = (Decimal(repr(price)) for price in _LIST_USD_PER_MTOK[word])
    return replace(endpoint, price_input_usd_per_mtok=sent, price_output_usd_per_mtok=answered)


def split(table: Stream, seed: int) -> tuple[Offline, Stream]:
    """Known beforehand, and the stream."""
    order = np.random.default_rng(seed).permutation(len(table))
    known = int(OFFLINE_SHARE * len(order))
    return Offline(stream=table.ordered(order[:known])), table.ordered(order[known:])


def month(stream: Stream, *, seed: int, per_day: int, days: int = 30) -> Stream:
    """Prompts drawn again and again at the hours people work: Poisson counts, weekends quiet."""
    rng = np.random.default_rng(seed)
    hour = 1.0 + 0.9 * np.sin((np.arange(24) - 8) / 24 * 2 * np.pi)
    at_s: list[np.ndarray] = []
    for day in range(days):
        busy = per_day * (0.4 if day % 7 in (5, 6) else 1.2)
        counts = rng.poisson(busy * hour / hour.sum())
        at_s += [(day * 24 + h + np.sort(rng.random(n))) * _DAY_S / 24 for h, n in enumerate(counts)]
    times = np.concatenate(at_s)
    rows = rng.integers(0, len(stream), len(times))
    drawn = stream.ordered(rows, times)
    queries = tuple(replace(q, id=UUID(int=seed << 64 | t)) for t, q in enumerate(drawn.queries))
    return replace(drawn, queries=queries)
