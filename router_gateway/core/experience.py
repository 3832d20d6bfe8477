"""What a policy learns from: observed outcomes of answers, in long form, missing cells simply absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Bools, Floats, Ints, Queries


def _no_comparisons() -> Ints:
    return np.zeros((0, 3), dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """N observed outcomes of E endpoints on Q distinct queries, oldest first.

    queries : the Q queries with their embeddings
    endpoints : E names
    query : int64 (N,), row of `queries`
    endpoint : int64 (N,), position in `endpoints`
    quality : float32 (N,) in [0, 1]
    cost_usd : float64 (N,), NaN where unknown
    propensity : float32 (N,) in [0, 1]; 0 = not the rule's choice, 1 in full-information data
    comparisons : int64 (M, 3), rows (query, better endpoint, worse endpoint)
    answers : float32 (N, w), a vector of what each answer said, a row of zeros where that is unknown; None
        where nothing is known of any. For learning alone: whoever scores a query has no answer yet
    """

    queries: Queries
    endpoints: tuple[str, ...]
    query: Ints
    endpoint: Ints
    quality: Floats
    cost_usd: Floats
    propensity: Floats
    comparisons: Ints = field(default_factory=_no_comparisons)
    answers: Floats | None = None

    def __len__(self) -> int:
        return len(self.query)

    def __post_init__(self) -> None:
        lengths = {len(a) for a in (self.query, self.endpoint, self.quality, self.cost_usd, self.propensity)}
        if len(lengths) != 1:
            raise ValueError(f"columns of an Experience differ in length: {sorted(lengths)}")
        if len(self) and not np.isfinite(self.quality).all():
            raise ValueError("quality must be finite: leave an unknown outcome out instead")
        if len(self) and (self.quality.min() < 0 or self.quality.max() > 1):
            raise ValueError("quality must lie in [0, 1]")
        if len(self) and (self.query.min() < 0 or self.query.max() >= len(self.queries)):
            raise ValueError("`query` points outside `queries`")
        if len(self) and (self.endpoint.min() < 0 or self.endpoint.max() >= len(self.endpoints)):
            raise ValueError("`endpoint` points outside `endpoints`")
        if self.answers is not None and (self.answers.ndim != 2 or len(self.answers) != len(self)):
            raise ValueError(f"answers have shape {self.answers.shape}, expected ({len(self)}, w)")
        if self.answers is not None and not np.isfinite(self.answers).all():
            raise ValueError("answers must be finite: give an unknown one a row of zeros instead")

    @classmethod
    def from_table(
        cls,
        queries: Queries,
        endpoints: Sequence[str],
        quality: Floats,
        cost_usd: Floats | None = None,
        answers: Floats | None = None,
    ) -> Experience:
        """From arrays `quality` (Q, E), `cost_usd` (Q, E) and `answers` (Q, E, w); NaN quality = not observed."""
        row, column = np.nonzero(~np.isnan(quality))
        unknown = np.full(len(row), np.nan)
        return cls(
            queries=queries,
            endpoints=tuple(endpoints),
            query=row.astype(np.int64),
            endpoint=column.astype(np.int64),
            quality=quality[row, column].astype(np.float32),
            cost_usd=unknown if cost_usd is None else cost_usd[row, column].astype(np.float64),
            propensity=np.ones(len(row), dtype=np.float32),
            answers=None if answers is None else answers[row, column].astype(np.float32),
        )

    def table(self) -> tuple[Floats, Floats]:
        """`quality` float32 (Q, E) and `cost_usd` float64 (Q, E), means of repeated cells, NaN where unobserved."""
        return self._pivot(self.quality).astype(np.float32), self._pivot(self.cost_usd)

    def _pivot(self, values: Floats) -> Floats:
        shape = (len(self.queries), len(self.endpoints))
        total, count = np.zeros(shape), np.zeros(shape)
        known = ~np.isnan(values)
        at = (self.query[known], self.endpoint[known])
        np.add.at(total, at, values[known])
        np.add.at(count, at, 1.0)
        with np.errstate(invalid="ignore"):
            return total / np.where(count > 0, count, np.nan)

    def select(self, rows: Bools | Ints) -> Experience:
        """The named observations; the queries stay as they are."""
        return replace(
            self,
            query=self.query[rows],
            endpoint=self.endpoint[rows],
            quality=self.quality[rows],
            cost_usd=self.cost_usd[rows],
            propensity=self.propensity[rows],
            answers=None if self.answers is None else self.answers[rows],
        )

    def align(self, endpoints: Sequence[str]) -> Experience:
        """The same outcomes over `endpoints`; outcomes of endpoints not named are dropped."""
        position = {name: i for i, name in enumerate(endpoints)}
        new = np.array([position.get(name, -1) for name in self.endpoints], dtype=np.int64)
        kept = self.select(new[self.endpoint] >= 0) if len(self) else self
        compared = kept.comparisons.copy()
        compared[:, 1:] = new[compared[:, 1:]]
        return replace(
            kept,
            endpoints=tuple(endpoints),
            endpoint=new[kept.endpoint],
            comparisons=compared[(compared[:, 1:] >= 0).all(axis=1)],
        )

    def concatenate(self, later: Experience) -> Experience:
        """These outcomes and then `later`'s, over the union of both pools."""
        later.queries.expect(space=self.queries.space, width=self.queries.embedding.shape[1])
        names = (*self.endpoints, *(name for name in later.endpoints if name not in self.endpoints))
        first, second = self.align(names), later.align(names)
        shifted = second.comparisons + np.array([len(self.queries), 0, 0])
        return Experience(
            queries=Queries(
                text=first.queries.text + second.queries.text,
                embedding=np.concatenate([first.queries.embedding, second.queries.embedding]),
                tokens_input=np.concatenate([first.queries.tokens_input, second.queries.tokens_input]),
                space=self.queries.space,
            ),
            endpoints=names,
            query=np.concatenate([first.query, second.query + len(self.queries)]),
            endpoint=np.concatenate([first.endpoint, second.endpoint]),
            quality=np.concatenate([first.quality, second.quality]),
            cost_usd=np.concatenate([first.cost_usd, second.cost_usd]),
            propensity=np.concatenate([first.propensity, second.propensity]),
            comparisons=np.concatenate([first.comparisons, shifted]),
            answers=_joined(first, second),
        )


def _joined(first: Experience, second: Experience) -> Floats | None:
    """The answers of both; zeros for a side that knows none. Raises SnapshotMismatch when the widths differ."""
    known = [part.answers for part in (first, second) if part.answers is not None]
    if not known:
        return None
    widths = {answers.shape[1] for answers in known}
    if len(widths) > 1:
        raise SnapshotMismatch(f"answers are vectors of different widths: {sorted(widths)}")
    empty = (np.zeros((len(part), *widths), dtype=np.float32) for part in (first, second))
    sides = zip((first, second), empty, strict=True)
    return np.concatenate([zeros if part.answers is None else part.answers for part, zeros in sides])
