"""Routes that people write: what they say, and how alike a query is to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Gt, Le, MaxLen, MinLen, doc

from router_gateway.core.types import Bools, Floats, Ints, Queries

BEST_EXAMPLES = 3
_QUANTILE = 0.05
_TEMPERATURES = np.geomspace(0.01, 1.0, 41)
_TEMPERATURE_UNKNOWN = 0.1  # where no example says better

Text = Annotated[str, MinLen(1), MaxLen(4_000)]


@dataclass(frozen=True, kw_only=True)
class Route:
    """A kind of request, in words, and the endpoints its author would have answer it, the best first."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: Annotated[Text, doc("what decisions and reports call it")]
    description: Annotated[Text, doc("what such requests are about, in a sentence")]
    examples: Annotated[tuple[Text, ...], MaxLen(50), doc("requests as users would put them")] = ()
    endpoints: Annotated[tuple[str, ...], MaxLen(100), doc("who should answer, the best first")] = ()

    @classmethod
    def of(cls, route: Route | Mapping[str, Any]) -> Route:
        """From what JSON or YAML would say of it."""
        if isinstance(route, Route):
            return route
        lists = {key: tuple(route[key]) for key in ("examples", "endpoints") if key in route}
        return cls(**{**route, **lists})

    @property
    def texts(self) -> tuple[str, ...]:
        """The description and then the examples."""
        return (self.description, *self.examples)


@dataclass(frozen=True, kw_only=True)
class HostedModel:
    """A language model that names the route, behind an OpenAI-compatible URL."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    base_url: Annotated[str, MinLen(8), MaxLen(2_000), doc("https://host/v1; /chat/completions follows it")]
    model: Annotated[str, MinLen(1), MaxLen(200), doc("what the server calls it")]
    api_key_env: Annotated[str, MinLen(1), MaxLen(200), doc("the variable that holds its key")] | None = None
    timeout_ms: Annotated[float, Gt(0), Le(10_000), doc("after which the route is found without it")] = 500.0

    @classmethod
    def of(cls, model: HostedModel | Mapping[str, Any]) -> Self:
        """From what JSON or YAML would say of it."""
        return cls(**(vars(model) if isinstance(model, HostedModel) else model))

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")) or "@" in self.base_url:
            raise ValueError("base_url must start with http:// or https://, and hold no password")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matcher:
    """How alike queries are to R routes, and how alike is enough. Never written in place.

    vector : float32 (R, 1 + J, d), descriptions first, then examples; zero where a route has fewer than J
    column : float64 (d, R (1 + J)), the same as columns, which is what every query reads
    known : bool (R, 1 + J), where there is a text
    similarity_min : below it a query belongs to no route
    temperature : of the softmax that turns similarities into probabilities
    """

    vector: Floats
    column: Floats
    known: Bools
    similarity_min: float
    temperature: float

    @classmethod
    def of(cls, texts: Floats, routes: Iterable[Route], similarity_min: float | None) -> Self:
        """From the vectors, (T, d), of all routes' texts one after the other.

        What is not told is learned from the examples, each matched as if it were not one: at least `_QUANTILE` of
        them should be like their route, and the temperature makes their routes most likely. Where nobody gave an
        example, nothing is unlike enough.
        """
        counts = [len(route.texts) for route in routes]
        vector = np.zeros((len(counts), max(counts, default=1), texts.shape[1]), dtype=np.float32)
        known = np.zeros(vector.shape[:2], dtype=bool)
        ends = np.cumsum(counts, dtype=np.int64)
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            vector[row, :count] = texts[end - count : end]
            known[row, :count] = True
        column = np.ascontiguousarray(vector.reshape(-1, vector.shape[2]).T, dtype=np.float64)
        route, place = np.nonzero(known[:, 1:])
        if not len(route):
            enough = -1.0 if similarity_min is None else similarity_min
            return cls(
                vector=vector, column=column, known=known, similarity_min=enough, temperature=_TEMPERATURE_UNKNOWN
            )
        others = np.repeat(known[None], len(route), axis=0)
        others[np.arange(len(route)), route, place + 1] = False
        alike = _best(_cosines(vector[route, place + 1], column, known.shape), others)
        own = alike[np.arange(len(route)), route]
        loss = [-np.log(softmax(alike / t)[np.arange(len(route)), route] + 1e-12).mean() for t in _TEMPERATURES]
        learned = float(np.quantile(own, _QUANTILE))
        return cls(
            vector=vector,
            column=column,
            known=known,
            similarity_min=learned if similarity_min is None else similarity_min,
            temperature=float(_TEMPERATURES[int(np.argmin(loss))]),
        )

    def __len__(self) -> int:
        return len(self.vector)

    def similarity(self, embedding: Floats) -> Floats:
        """float64 (Q, R): the cosine with the description, or the mean of the nearest examples' if that is more."""
        return _best(_cosines(embedding, self.column, self.known.shape), self.known)

    def match(self, similarity: Floats, margin_min: float) -> Ints:
        """The likest route of each row, (Q,), or R where none is like enough or two are about as like."""
        if not len(self):
            return np.zeros(len(similarity), dtype=np.int64)
        ranked = -np.sort(-similarity, axis=1)
        clear = ranked[:, 0] >= self.similarity_min
        if len(self) > 1:
            clear &= ranked[:, 0] - ranked[:, 1] >= margin_min
        return np.where(clear, similarity.argmax(axis=1), len(self))

    def follow(
        self, queries: Queries, held: Ints, *, fading: float, advantage_min: float, margin_min: float
    ) -> tuple[Floats, Ints]:
        """Similarity (Q, R) of the conversations and their routes (Q,), R for none, turn by turn.

        held : (Q,), the route each was on before, -1 for none. A conversation stays on its route unless another is
        liker by `advantage_min`, by which the similarity of the route it was on is raised here. "None" counts as being
        as like as `similarity_min`.
        """
        rows = np.arange(len(queries))
        alike: Floats = np.zeros((len(queries), len(self)))
        route = held
        for vector, there in blends(queries, fading):
            held = route
            alike = self.similarity(vector)
            wide = np.concatenate([alike, np.full((len(rows), 1), self.similarity_min)], axis=1)
            found = self.match(alike, margin_min)
            stays = (held >= 0) & (wide[rows, found] - wide[rows, held] < advantage_min)
            route = np.where(there, np.where(stays, held, found), held)
        on = np.flatnonzero((held >= 0) & (held < len(self)))
        alike[on, held[on]] += advantage_min
        return alike, route

    def probability(self, similarity: Floats) -> Floats:
        """float64 (Q, R), rows sum to 1."""
        return softmax(similarity / self.temperature)


def blends(queries: Queries, fading: float) -> Iterator[tuple[Floats, Bools]]:
    """After each turn, oldest first: the conversations so far as vectors, (Q, d), and which have a turn there, (Q,).

    A conversation is sum_t fading^age_t turn_t as a unit vector, where the newest turn has age 0. One of a single turn
    is that turn.
    """
    earlier = queries.earlier
    if earlier is not None:
        total, turns = np.zeros(queries.embedding.shape), np.zeros(len(queries), dtype=np.int64)
        for turn in (*np.moveaxis(earlier, 1, 0), queries.embedding):
            there = turn.any(axis=1)
            total = fading * total + turn
            turns += there
            length = np.sqrt((total**2).sum(axis=1, keepdims=True))
            several = (turns[:, None] > 1) & (length > 0)
            yield np.divide(total, length, out=turn.astype(np.float64), where=several), there
    else:
        yield queries.embedding, np.ones(len(queries), dtype=bool)


def softmax(logit: Floats) -> Floats:
    """Over the last axis, which is not empty."""
    above = np.exp(logit - logit.max(axis=-1, keepdims=True))
    return np.asarray(above / above.sum(axis=-1, keepdims=True))


def _cosines(embedding: Floats, column: Floats, shape: tuple[int, ...]) -> Floats:
    """float64 (Q, R, 1 + J), where R, 1 + J is `shape`."""
    # One product per query, so that a batch gives the bits its rows would.
    product = np.matmul(embedding.astype(np.float64)[:, None, :], column)[:, 0]
    return np.asarray(product.reshape(len(embedding), *shape))


def _best(cosine: Floats, known: Bools) -> Floats:
    """(Q, R) from cosines (Q, R, 1 + J), of those that are known."""
    examples = np.where(known[..., 1:], cosine[..., 1:], -np.inf)
    nearest = -np.sort(-examples, axis=-1)[..., :BEST_EXAMPLES]
    there = np.isfinite(nearest)
    count = there.sum(axis=-1)
    mean = np.where(there, nearest, 0.0).sum(axis=-1) / np.maximum(count, 1)
    return np.maximum(cosine[..., 0], np.where(count > 0, mean, -np.inf))
