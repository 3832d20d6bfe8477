"""Random, Cheapest and BestOnAverage: what every policy must beat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from annotated_types import Ge, doc

from policies._moments import shrunk
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted, SnapshotMismatch
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Queries, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Sums per endpoint: `count`, `total`, `square`, float64 (E,), of some value; where they were learned."""

    endpoints: tuple[str, ...]
    space: str
    width: int
    sums: Floats  # (3, E)

    @classmethod
    def of(cls, experience: Experience, value: Floats) -> _Table:
        known = ~np.isnan(value)
        column, value = experience.endpoint[known], value[known].astype(np.float64)
        sums = np.zeros((3, len(experience.endpoints)))
        for row, term in zip(sums, (np.ones_like(value), value, value**2), strict=True):
            np.add.at(row, column, term)
        queries = experience.queries
        return cls(endpoints=experience.endpoints, space=queries.space, width=queries.embedding.shape[1], sums=sums)

    def plus(self, later: _Table) -> _Table:
        if (later.space, later.width) != (self.space, self.width):
            raise SnapshotMismatch(
                f"learned in {self.space!r} (width {self.width}), asked in {later.space!r} (width {later.width})",
                hint="fit the policy again after changing the embedder",
            )
        names = (*self.endpoints, *(name for name in later.endpoints if name not in self.endpoints))
        sums = np.zeros((3, len(names)))
        for part in (self, later):
            sums[:, [names.index(name) for name in part.endpoints]] += part.sums
        return _Table(endpoints=names, space=self.space, width=self.width, sums=sums)


@dataclass(kw_only=True)
class _Baseline:
    """What the three have in common: a table per endpoint, learned, added to, saved and loaded."""

    def __post_init__(self) -> None:
        self.table_: _Table | None = None

    def _value(self, experience: Experience) -> Floats:
        """The observed number, (N,), that is summed per endpoint; NaN where unknown."""
        return experience.quality

    def fit(self, experience: Experience) -> Self:
        self.table_ = _Table.of(experience, self._value(experience))
        return self

    def partial_fit(self, experience: Experience) -> Self:
        self.table_ = self._table().plus(_Table.of(experience, self._value(experience)))
        return self

    def save(self, directory: Path) -> None:
        table = self._table()
        facts = {"endpoints": list(table.endpoints), "space": table.space, "width": table.width}
        write_state(directory, self, facts=facts, arrays={"sums": table.sums})

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(directory, cls, facts=("endpoints", "space", "width"), arrays=("sums",))
        endpoints = tuple(facts["endpoints"])
        policy.table_ = _Table(endpoints=endpoints, space=facts["space"], width=facts["width"], **arrays)
        return policy

    def _table(self) -> _Table:
        if self.table_ is None:
            raise NotFitted(f"{type(self).__name__} has learned nothing yet", hint="call fit first")
        return self.table_

    def _asked(self, queries: Queries) -> _Table:
        table = self._table()
        queries.expect(space=table.space, width=table.width)
        return table

    @staticmethod
    def _same_for_all(queries: Queries, table: _Table, quality: Floats, stddev: Floats) -> Scores:
        shape = (len(queries), len(table.endpoints))
        return Scores(
            endpoints=table.endpoints,
            quality=np.broadcast_to(quality.astype(np.float32), shape).copy(),
            stddev=np.broadcast_to(stddev.astype(np.float32), shape).copy(),
        )


@dataclass(kw_only=True)
class Random(_Baseline):
    """Knows nothing: any endpoint is as likely to be preferred as any other.

    A policy has no source of randomness of its own, so the quality of (query, endpoint) is a uniform number
    in [0, 1) computed from the embedding, the endpoint's name and `seed`: where money plays no part, `Greedy`
    then picks each endpoint equally often, a batch decides as its rows would, and a decision can be
    recomputed. Its doubt is 0.5 everywhere, the largest there is.
    """

    seed: Annotated[int, Ge(0), doc("another seed, another assignment")] = 0

    def score(self, queries: Queries) -> Scores:
        table = self._asked(queries)
        quality = np.empty((len(queries), len(table.endpoints)), dtype=np.float32)
        salts = [f"{self.seed}/{name}".encode() for name in table.endpoints]
        for i, vector in enumerate(np.asarray(queries.embedding, dtype=np.float32)):
            query = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
            for e, salt in enumerate(salts):
                digest = hashlib.blake2b(query + salt, digest_size=3).digest()
                quality[i, e] = int.from_bytes(digest, "big") / 2**24  # 24 bits: exact in float32, below 1
        return Scores(endpoints=table.endpoints, quality=quality, stddev=np.full_like(quality, 0.5))


@dataclass(kw_only=True)
class Cheapest(_Baseline):
    """Quality 1 for the endpoint whose observed calls cost least on average, 0 for the others, no doubt.

    An endpoint whose costs were never observed is not chosen; where no cost is known at all, all are equal
    at 0.5 with doubt 0.5, and the rule's own order decides.
    """

    def _value(self, experience: Experience) -> Floats:
        return experience.cost_usd

    def score(self, queries: Queries) -> Scores:
        table = self._asked(queries)
        count, total, _ = table.sums
        if not count.any():
            half = np.full(len(count), 0.5)
            return self._same_for_all(queries, table, half, half)
        mean_usd = np.where(count > 0, total / np.where(count > 0, count, 1.0), np.inf)
        quality = np.zeros(len(count))
        quality[np.argmin(mean_usd)] = 1.0
        return self._same_for_all(queries, table, quality, np.zeros_like(quality))


@dataclass(kw_only=True)
class BestOnAverage(_Baseline):
    """The same answer to every query: the endpoint's shrunk mean quality, and its standard error as doubt."""

    def score(self, queries: Queries) -> Scores:
        table = self._asked(queries)
        mean, _, standard_error = shrunk(*table.sums)
        return self._same_for_all(queries, table, mean, standard_error)
