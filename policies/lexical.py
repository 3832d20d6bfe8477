"""Lexical: quality as a linear function of the words of the request, one ridge regression per endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._ngrams import Ngrams
from policies._ridge import PACKED, Ridge, with_intercept
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Queries, Scores


@dataclass(kw_only=True)
class Lexical:
    """Ridge regression of quality on [1, v], v the words of the request in `dimensions` latent dimensions.

        quality = clip(z' theta, 0, 1)          z = [1, v], v from `policies._ngrams`
        stddev² = s2 z' A^-1 z, at most 1/4     the posterior's, see `policies._ridge`

    It reads the text, not the embedding, and so sees what an encoder was trained to overlook: the format that is
    asked for, the wording of a task, the tail of a prompt that is longer than the encoder's window. As the penalty
    grows it becomes `BestOnAverage`, doubt included. An empty text is v = 0, which has the mean of queries that say
    nothing in particular; where no text was kept to learn from, every query gets the endpoint's mean.

    `partial_fit` updates the regressions; the dimensions stay as `fit` found them. Beside its own vocabulary it
    grows by nothing: 4 bytes a term and dimension, at most 64 Ki terms. What the texts last learned from consist of
    is remembered for the next fit, of any policy: hashed terms, at most 24 MB.

    The penalty and the number of dimensions were chosen by cross-validation inside the training parts of four sets
    of real outcomes, among penalties 3 and 10 and 128 and 192 dimensions.

    Hoerl & Kennard, 1970, "Ridge regression: biased estimation for nonorthogonal problems"; for the dimensions see
    `policies._ngrams`.
    """

    dimensions: Annotated[int, Ge(1), Le(512), doc("latent dimensions that texts are reduced to, at most")] = 128
    penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly an endpoint is held to its mean quality")] = 3.0
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other rounding of the dimensions")] = 0

    def __post_init__(self) -> None:
        self.model_: _Model | None = None

    def fit(self, experience: Experience) -> Self:
        queries = experience.queries
        texts = [queries.text[row] for row in np.unique(experience.query) if queries.text[row]]
        return self._learned(experience, Ngrams.of(texts, width=self.dimensions, seed=self.seed))

    def refit(self, experience: Experience) -> Self:
        """Learn from these outcomes alone, in the dimensions found before."""
        return self._learned(experience, self._model().ngrams)

    def _learned(self, experience: Experience, ngrams: Ngrams) -> Self:
        queries = experience.queries
        features = 1 + ngrams.axes.shape[1]
        prior = Ridge.prior(endpoints=len(experience.endpoints), features=features, penalty=self.penalty)
        empty = _Model(experience.endpoints, queries.space, queries.embedding.shape[1], ngrams, prior)
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
        words: dict[str, Any] = {"place": model.ngrams.place, "rarity": model.ngrams.rarity, "axes": model.ngrams.axes}
        write_state(directory, self, facts=facts, arrays={**model.ridge.packed(), **words})

    @classmethod
    def load(cls, directory: Path) -> Self:
        words = ("place", "rarity", "axes")
        policy, facts, arrays = read_state(
            directory, cls, facts=("endpoints", "space", "width"), arrays=(*words, *PACKED)
        )
        ngrams = Ngrams(**{name: arrays.pop(name) for name in words})  # type: ignore[arg-type]
        ridge = Ridge.unpacked(policy.penalty, arrays)
        policy.model_ = _Model(tuple(facts["endpoints"]), facts["space"], facts["width"], ngrams, ridge)
        return policy

    def _model(self) -> _Model:
        if self.model_ is None:
            raise NotFitted("Lexical has learned nothing yet", hint="call fit first")
        return self.model_


class _Model:
    """Dimensions, regressions and what is derived from them. Never changed once built, so copies share it."""

    def __init__(self, endpoints: tuple[str, ...], space: str, width: int, ngrams: Ngrams, ridge: Ridge) -> None:
        self.endpoints = endpoints
        self.space, self.width = space, width  # not read, but a policy of another encoder is not this one
        self.ngrams = ngrams
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
        vectors = self.ngrams.together([experience.queries.text[i] for i in seen])
        ridge = self.ridge.widened(len(names)).learn(vectors, row, column[experience.endpoint], experience.quality)
        return _Model(names, self.space, self.width, self.ngrams, ridge)

    def score(self, queries: Queries) -> Scores:
        """One product per query, so that a batch gives the bits its rows would."""
        queries.expect(space=self.space, width=self.width)
        quality = np.empty((len(queries), len(self.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for i, z in enumerate(with_intercept(self.ngrams.vectors(queries.text))):
            spread = np.maximum((self.ridge.inverse @ z) @ z, 0.0)  # (G,)
            quality[i] = np.minimum(np.maximum(z @ self._coefficients, 0.0), 1.0)
            stddev[i] = np.minimum(np.sqrt(spread[self.ridge.group] * self._noise), 0.5)
        return Scores(endpoints=self.endpoints, quality=quality, stddev=stddev)
