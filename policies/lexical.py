"""Lexical: quality as a linear function of a request's words and looks, one ridge regression per endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._looks import Measured
from policies._ngrams import Ngrams
from policies._ridge import PACKED, Ridge, with_intercept
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Queries, Scores

_WORDS = ("place", "rarity", "axes")
_MEASURED = ("centre", "spread")


@dataclass(kw_only=True)
class Lexical:
    """Ridge regression of quality on [1, v, looks u], v the words of the request in `dimensions` latent dimensions.

        quality = clip(z' theta, 0, 1)          z = [1, v, looks u], v from `policies._ngrams`, u from `policies._looks`
        stddev² = s2 z' A^-1 z, at most 1/4     the posterior's, see `policies._ridge`

    u is what the text looks like (length, lines, digits, words, options) in deviations from known texts.

    It reads the text, not the embedding, and so sees what an encoder was trained to overlook: the format that is
    asked for, the wording of a task, the tail of a prompt that is longer than the encoder's window. As the penalty
    grows it becomes `BestOnAverage`, doubt included. An empty text is v = u = 0, which has the mean of queries that
    say nothing in particular; where no text was kept to learn from, every query gets the endpoint's mean.

    `partial_fit` updates the regressions; the dimensions stay as `fit` found them. Beside its own vocabulary it
    grows by nothing: 4 bytes a term and dimension, at most 64 Ki terms. What the texts last learned from consist of
    is remembered for the next fit, of any policy: hashed terms, at most 24 MB.

    The penalty and the number of dimensions were chosen by cross-validation inside the training parts of four sets
    of real outcomes, among penalties 3 and 10 and 128 and 192 dimensions; `looks`, with penalties 3, 8 and 20, among
    0, 0.03 and 0.1.

    Hoerl & Kennard, 1970, "Ridge regression: biased estimation for nonorthogonal problems"; for the dimensions see
    `policies._ngrams`.
    """

    dimensions: Annotated[int, Ge(1), Le(512), doc("latent dimensions that texts are reduced to, at most")] = 128
    penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly an endpoint is held to its mean quality")] = 3.0
    looks: Annotated[float, Ge(0), Le(100), doc("weight of what a text looks like beside its words; 0 = none")] = 0.03
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other rounding of the dimensions")] = 0

    def __post_init__(self) -> None:
        self.model_: _Model | None = None

    def fit(self, experience: Experience) -> Self:
        queries = experience.queries
        texts = [queries.text[row] for row in np.unique(experience.query) if queries.text[row]]
        ngrams = Ngrams.of(texts, width=self.dimensions, seed=self.seed)
        return self._learned(experience, _Reader(ngrams, Measured.of(texts if self.looks else ()), self.looks))

    def refit(self, experience: Experience) -> Self:
        """Learn from these outcomes alone, in the dimensions found before."""
        return self._learned(experience, self._model().reader)

    def _learned(self, experience: Experience, reader: _Reader) -> Self:
        queries = experience.queries
        prior = Ridge.prior(endpoints=len(experience.endpoints), features=1 + reader.width, penalty=self.penalty)
        empty = _Model(experience.endpoints, queries.space, queries.embedding.shape[1], reader, prior)
        self.model_ = empty.learn(experience)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        self.model_ = self._model().learn(experience)
        return self

    def score(self, queries: Queries) -> Scores:
        return self._model().score(queries)

    def save(self, directory: Path) -> None:
        model = self._model()
        facts = {"endpoints": list(model.endpoints), "space": model.space, "width": model.width}
        words: dict[str, Any] = {name: getattr(model.reader.ngrams, name) for name in _WORDS}
        measured: dict[str, Any] = {name: getattr(model.reader.measured, name) for name in _MEASURED}
        write_state(directory, self, facts=facts, arrays={**model.ridge.packed(), **words, **measured})

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(
            directory, cls, facts=("endpoints", "space", "width"), arrays=(*_WORDS, *_MEASURED, *PACKED)
        )
        ngrams = Ngrams(**{name: arrays.pop(name) for name in _WORDS})  # type: ignore[arg-type]
        measured = Measured(**{name: arrays.pop(name) for name in _MEASURED})
        ridge = Ridge.unpacked(policy.penalty, arrays)
        reader = _Reader(ngrams, measured, policy.looks)
        policy.model_ = _Model(tuple(facts["endpoints"]), facts["space"], facts["width"], reader, ridge)
        return policy

    def _model(self) -> _Model:
        if self.model_ is None:
            raise NotFitted("Lexical has learned nothing yet", hint="call fit first")
        return self.model_


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """Texts as features: words, then looks by their weight."""

    ngrams: Ngrams
    measured: Measured
    looks: float

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.ngrams.axes.shape[1]) + len(self.measured.centre)

    def read(self, texts: Sequence[str], *, alone: bool = True) -> Floats:
        """float32 (Q, width), each row as it would be alone; where that does not matter, faster, other last bits."""
        words = self.ngrams.vectors(texts) if alone else self.ngrams.together(texts)
        return np.concatenate([words, np.float32(self.looks) * self.measured.vectors(texts)], axis=1)


class _Model:
    """Dimensions, regressions and what is derived from them. Never changed once built, so copies share it."""

    def __init__(self, endpoints: tuple[str, ...], space: str, width: int, reader: _Reader, ridge: Ridge) -> None:
        self.endpoints = endpoints
        self.space, self.width = space, width  # not read, but a policy of another encoder is not this one
        self.reader = reader
        self.ridge = ridge
        self._coefficients = ridge.coefficients()
        self._noise = ridge.noise(self._coefficients)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Model:
        return self

    def learn(self, experience: Experience) -> _Model:
        """With the outcomes of `experience` added, over the union of both pools."""
        experience.queries.expect(space=self.space, width=self.width)
        names = (*self.endpoints, *(name for name in experience.endpoints if name not in self.endpoints))
        column = np.array([names.index(name) for name in experience.endpoints], dtype=np.int64)
        seen, row = np.unique(experience.query, return_inverse=True)
        vectors = self.reader.read([experience.queries.text[i] for i in seen], alone=False)
        ridge = self.ridge.widened(len(names)).learn(vectors, row, column[experience.endpoint], experience.quality)
        return _Model(names, self.space, self.width, self.reader, ridge)

    def score(self, queries: Queries) -> Scores:
        """One product per query, so that a batch gives the bits its rows would."""
        queries.expect(space=self.space, width=self.width)
        quality = np.empty((len(queries), len(self.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for i, z in enumerate(with_intercept(self.reader.read(queries.text))):
            spread = np.maximum((self.ridge.inverse @ z) @ z, 0.0)  # (G,)
            quality[i] = np.minimum(np.maximum(z @ self._coefficients, 0.0), 1.0)
            stddev[i] = np.minimum(np.sqrt(spread[self.ridge.group] * self._noise), 0.5)
        return Scores(endpoints=self.endpoints, quality=quality, stddev=stddev)
