"""A set made ready: outcomes without gaps that would stop a sweep, queries as the gateway reads them, vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway.core.errors import DataError
from router_gateway.core.types import Bools, Endpoint, Floats, Ints, Preferences, Queries, Query
from router_gateway.evaluation.answers import answer_vectors
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.embeddings import Advance, Embedded, Encoder, embed_cached
from router_gateway.evaluation.fitting import read_source
from router_gateway.evaluation.replay import query_ids, query_of
from router_gateway.evaluation.routerbench import read_routerbench

EQUAL_COST_USD = 2.0**-10
"""What a call is said to cost where all cost the same, about 0.1 cent: a power of two, whose means are exact."""

_USD_PER_MTOK = 1e-6
_CONTEXT_TOKENS = 1 << 40  # recorded outcomes exist, so the prompt did fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Q queries and E endpoints with everything an evaluation asks of them.

    table : outcomes, each prompt once, costs known wherever quality is
    queries, embedding : as the gateway would read the prompts; float32 (Q, d) in `space`
    encoder : what embedded them
    endpoints : the pool, in the order of the table's columns
    priced : False where costs are unknown or all equal; every call then costs EQUAL_COST_USD
    answers : float32 (Q, E, w), what the recorded answers said, see `answer_vectors`; None where none is recorded
    """

    name: str
    table: Benchmark
    queries: tuple[Query, ...]
    embedding: Floats
    space: str
    encoder: Encoder
    endpoints: tuple[Endpoint, ...]
    priced: bool
    answers: Floats | None = None

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, rows: Ints | Bools) -> Queries:
        """The named rows as a policy sees them."""
        at = np.arange(len(self))[rows]
        return Queries(
            text=tuple(self.queries[i].text for i in at),
            embedding=self.embedding[at],
            tokens_input=np.array([self.queries[i].tokens_input for i in at], dtype=np.int64),
            space=self.space,
        )

    def asked(self, rows: Ints, columns: Ints) -> list[Query]:
        """The named rows as the router sees them, each confined to those of `columns` whose outcome is known.

        Greedy or not, a router cannot be judged by an answer nobody has.
        """
        known = np.isfinite(self.table.quality[np.ix_(rows, columns)])
        names = [self.table.endpoints[c] for c in columns]
        return [
            self.queries[i]
            if own.all()
            else replace(
                self.queries[i],
                preferences=Preferences(allowed=tuple(_literal(n) for n, k in zip(names, own, strict=True) if k)),
            )
            for i, own in zip(rows, known, strict=True)
        ]

    def fingerprint(self) -> str:
        """Changes whenever anything changes that a result could depend on."""
        digest = hashlib.blake2b(digest_size=16)
        table = self.table
        facts = (table.prompts, table.datasets, table.tasks, table.endpoints, self.endpoints, self.space, self.priced)
        digest.update(repr([repr(f).encode("utf-8", "surrogatepass") for f in facts]).encode())
        answers = () if self.answers is None else (self.answers,)
        for array in (table.quality, table.cost_usd, self.embedding, *answers):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_tables(source: str) -> list[tuple[str, Benchmark]]:
    """(name, outcomes) of a source: a file in the common schema, a RouterBench pickle, or `paretobandit`.

    Raises ConfigError for a name that is none of these, DataError with the line or row of everything wrong.
    """
    if source.lower().endswith((".pkl", ".pickle")):
        return [(Path(source).stem, read_routerbench(source))]
    tables = read_source(source)
    if Path(source.partition(":")[0]).suffix or len(tables) == 1:
        return [(_stem(source), table) for table in tables]
    return [(f"{source}-{table.splits[0]}", table) for table in tables]


def prepare(
    name: str,
    table: Benchmark,
    *,
    encoder: Encoder,
    cache: Path,
    pool: Sequence[Endpoint] = (),
    workers: int = 1,
    advance: Advance | None = None,
) -> Prepared:
    """Dedupe, fill or equalise costs, read the prompts as the API would, embed them.

    pool : endpoints of a configuration; their outcomes are kept, at their own prices where tokens are recorded
    Raises DataError when fewer than two endpoints or four queries remain.
    """
    table = table.deduplicated()
    if pool:
        table, endpoints = _own_prices(name, table, pool)
    table, priced = _with_costs(table)
    if not pool:
        endpoints = tuple(_recorded(endpoint) for endpoint in table.endpoints)
    endpoints = tuple(e for e in endpoints if e.name in table.endpoints)
    if len(table.endpoints) < 2 or len(table) < 4:
        raise DataError(
            [f"{name}: {len(table)} queries with outcomes of {len(table.endpoints)} endpoints"],
            hint="routing needs two endpoints, and four queries to split",
        )
    table, queries = _as_asked(table)
    vectors = embed_cached(encoder, [q.text for q in queries], folder=cache, workers=workers, advance=advance)
    return _assembled(name, table, queries, vectors, encoder, endpoints, priced)


def _assembled(
    name: str,
    table: Benchmark,
    queries: tuple[Query, ...],
    vectors: Embedded,
    encoder: Encoder,
    endpoints: tuple[Endpoint, ...],
    priced: bool,
) -> Prepared:
    return Prepared(
        name=name,
        table=replace(table, responses=None),  # texts are large, and nothing below reads them
        queries=queries,
        embedding=vectors.embedding,
        space=vectors.space,
        encoder=encoder,
        endpoints=endpoints,
        priced=priced,
        answers=answer_vectors(table.responses),
    )


def _as_asked(table: Benchmark) -> tuple[Benchmark, tuple[Query, ...]]:
    """The queries as the gateway reads them; prompts that it reads alike would leak from train to test."""
    queries = [query_of(p, i) for p, i in zip(table.prompts, query_ids(table), strict=True)]
    first: dict[str, int] = {}
    for row, query in enumerate(queries):
        first.setdefault(query.text, row)
    if dropped := len(queries) - len(first):
        note = f"dropped {dropped} of {len(queries)} queries: to the gateway their text was there already"
        table = replace(table.select(np.array([*first.values()], dtype=np.int64)), notes=(*table.notes, note))
    return table, tuple(queries[row] for row in first.values())


def _with_costs(table: Benchmark) -> tuple[Benchmark, bool]:
    """Costs wherever there is a quality: missing ones are the endpoint's mean; none at all makes them equal."""
    observed = np.asarray(np.isfinite(table.quality))
    known = np.asarray(observed & np.isfinite(table.cost_usd))
    if not known.any() or np.ptp(table.cost_usd[known]) <= 1e-9 * table.cost_usd[known].max():
        none = "no costs are recorded" if not known.any() else "all recorded costs are equal"
        note = f"{none}: every call is taken to cost the same, so only quality is compared"
        equal = np.where(observed, EQUAL_COST_USD, np.nan)
        return replace(table, cost_usd=equal, notes=(*table.notes, note)), False
    notes = list(table.notes)
    priceless = [table.endpoints[column] for column in np.flatnonzero(known.sum(axis=0) == 0)]
    if priceless:
        notes.append(f"left out, because no call of theirs has a cost: {', '.join(priceless)}")
        table = table.endpoints_subset([name for name in table.endpoints if name not in priceless])
        table = _answered(table)
        observed = np.asarray(np.isfinite(table.quality))
    lacking = observed & ~np.isfinite(table.cost_usd)
    if lacking.any():
        notes.append(f"{int(lacking.sum())} calls without a cost are taken at their endpoint's mean")
    cost = np.where(lacking, table.mean_cost_usd()[None, :], table.cost_usd)
    return replace(table, cost_usd=np.where(observed, cost, np.nan), notes=tuple(notes)), True


def _own_prices(name: str, table: Benchmark, pool: Sequence[Endpoint]) -> tuple[Benchmark, tuple[Endpoint, ...]]:
    """What this pool would have cost: recorded tokens at the configured prices.

    An endpoint finds its outcomes under its own name, else under its model's. Where tokens are not recorded
    the recorded cost stays, and a note says so.
    """
    columns = {e.name: n for e in pool for n in (e.model, e.name) if n in table.endpoints}
    if not columns:
        raise DataError(
            [f"{name}: none of the configured endpoints has outcomes here"],
            hint=f"the file has {', '.join(table.endpoints[:20])}",
        )
    kept = tuple(e for e in pool if e.name in columns)
    table = replace(table.endpoints_subset([columns[e.name] for e in kept]), endpoints=tuple(e.name for e in kept))
    cost = table.cost_usd.copy()
    unpriced = []
    for column, endpoint in enumerate(kept):
        sent, got = table.tokens_input[:, column], table.tokens_output[:, column]
        own = (sent * float(endpoint.price_input_usd_per_mtok) + got * float(endpoint.price_output_usd_per_mtok)) * (
            _USD_PER_MTOK
        )
        if not np.isfinite(own).any():
            unpriced.append(endpoint.name)
        cost[:, column] = np.where(np.isfinite(own), own, cost[:, column])
    note = f"costs as recorded, because no tokens are: {', '.join(unpriced)}"
    table = replace(table, cost_usd=cost, notes=(*table.notes, *([note] if unpriced else [])))
    return _answered(table), kept


def _answered(table: Benchmark) -> Benchmark:
    """The queries that any of the table's endpoints answered."""
    return table.select(np.asarray(np.isfinite(table.quality).any(axis=1)))


def _recorded(name: str) -> Endpoint:
    """An endpoint that exists only in a table of outcomes; what it costs is in the table, too."""
    zero: dict[str, Any] = {
        f"price_{kind}_usd_per_mtok": Decimal(0) for kind in ("input", "output", "cached_input", "cache_write")
    }
    return Endpoint(name=name, model=name, context_tokens_max=_CONTEXT_TOKENS, **zero)


def _literal(name: str) -> str:
    """The name as a glob that matches nothing else."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _stem(source: str) -> str:
    name = Path(source).name
    for suffix in (".parquet", ".csv", ".jsonl.gz", ".jsonl"):
        name = name.replace(suffix, "")
    return name.replace(":", "-")
