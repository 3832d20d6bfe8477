"""Lookahead: what the answers will say decides which parts of a query may matter for their quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._ridge import PACKED, Ridge, with_intercept
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Queries, Scores

_BATCH = 64  # queries scored at a time: bounds the (batch, G, D) array


@dataclass(kw_only=True)
class Lookahead:
    """Ridge regression of quality on the query and on what each endpoint is expected to say to it.

    In `fit`, one ridge regression per endpoint m predicts the vectors of its answers (`Experience.answers`) from the
    query x, both less their means:

        r_m(x) = B_m' x          B_m = (X'X + p I)^-1 X'Y, p = latent_penalty

    Quality is then a ridge regression on [1, x, c r_1(x), ..., c r_M(x)], per endpoint, as in `policies._ridge`. The
    r_m are linear in x, so that is the same, to the coefficient, as a regression on [1, T x] with

        T = (I + weight S / l)^(1/2)          S = sum_m B_m B_m', l its largest eigenvalue, c² = weight / l

    which needs no more room or time than one on x: the answers say along which directions of x quality may vary
    freely. Along the one that tells most of the answers the penalty is divided by 1 + weight; along those that
    tell nothing it stays. Quality, doubt and `partial_fit` are then `Linear`'s: exact, row by row, with T as `fit`
    left it. A new endpoint is learned from its outcomes alone, its answers are not needed; with a large `penalty`
    this is `BestOnAverage`.

    With weight 0, or where no answer is known, T is left out: the query-only regression, bit for bit. An answer
    that is unknown is left out of its endpoint's regression. Answers are never needed for scoring.

    The paper trains an encoder to reconstruct the answers' tokens, with the head, by gradient descent. Here the
    encoder is frozen, answers are vectors, heads are linear and in closed form; what is kept is the claim that
    predicting answers helps to predict their quality, with weight 0 as its control.

    The weight was compared by cross-validation inside the training half of the one set of real outcomes that keeps
    answers (nine models on 1,484 queries; docs/policies.md): 3, 10 and 30 are alike, and what they add to weight 0 is
    not beyond the noise of the shuffles.

    Huang et al., 2025, "Lookahead routing for large language models" (arXiv 2510.19506).
    """

    penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly an endpoint is held to its mean quality")] = 20.0
    weight: Annotated[float, Ge(0), Le(1e6), doc("freedom along what tells of the answers; 0 = query alone")] = 10.0
    latent_penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly expected answers are held to their mean")] = (
        20.0
    )

    def __post_init__(self) -> None:
        self.model_: _Model | None = None

    def fit(self, experience: Experience) -> Self:
        queries = experience.queries
        features = 1 + queries.embedding.shape[1]
        prior = Ridge.prior(endpoints=len(experience.endpoints), features=features, penalty=self.penalty)
        stretch = _stretch(experience, weight=self.weight, penalty=self.latent_penalty)
        self.model_ = _Model(experience.endpoints, queries.space, stretch, prior).learn(experience)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        self.model_ = self._model().learn(experience)
        return self

    def score(self, queries: Queries) -> Scores:
        model = self._model()
        queries.expect(space=model.space, width=model.width)
        quality = np.empty((len(queries), len(model.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            quality[batch], stddev[batch] = model.estimate(queries.embedding[batch])
        return Scores(endpoints=model.endpoints, quality=quality, stddev=stddev)

    def save(self, directory: Path) -> None:
        model = self._model()
        facts = {"endpoints": list(model.endpoints), "space": model.space}
        stretch = np.zeros((0, 0)) if model.stretch is None else model.stretch
        write_state(directory, self, facts=facts, arrays={**model.ridge.packed(), "stretch": stretch})

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(directory, cls, facts=("endpoints", "space"), arrays=(*PACKED, "stretch"))
        stretch = arrays.pop("stretch")
        ridge = Ridge.unpacked(policy.penalty, arrays)
        policy.model_ = _Model(tuple(facts["endpoints"]), facts["space"], stretch if stretch.size else None, ridge)
        return policy

    def _model(self) -> _Model:
        if self.model_ is None:
            raise NotFitted("Lookahead has learned nothing yet", hint="call fit first")
        return self.model_


class _Model:
    """Regressions on T x and what is derived from them. Never changed once built, so copies of a policy share it."""

    def __init__(self, endpoints: tuple[str, ...], space: str, stretch: Floats | None, ridge: Ridge) -> None:
        self.endpoints = endpoints
        self.space = space
        self.stretch = stretch  # T, float64 (d, d), symmetric; None = I
        self.ridge = ridge
        self.width = ridge.moment.shape[1] - 1
        self._coefficients = ridge.coefficients()
        self._noise = ridge.noise(self._coefficients)
        self._inverse = ridge.inverse.astype(np.float32)  # doubt needs few digits, and reading it is what takes time

    def __deepcopy__(self, memo: dict[int, Any]) -> _Model:
        return self

    def learn(self, experience: Experience) -> _Model:
        """With the outcomes of `experience` added, over the union of both pools."""
        experience.queries.expect(space=self.space, width=self.width)
        names = (*self.endpoints, *(name for name in experience.endpoints if name not in self.endpoints))
        column = np.array([names.index(name) for name in experience.endpoints], dtype=np.int64)
        vectors = self._stretched(experience.queries.embedding)
        ridge = self.ridge.widened(len(names)).learn(
            vectors, experience.query, column[experience.endpoint], experience.quality
        )
        return _Model(names, self.space, self.stretch, ridge)

    def estimate(self, embedding: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), of queries x (Q, d)."""
        # One product per query, so that a batch gives the bits its rows would.
        features = with_intercept(self._stretched(embedding))
        quality = np.matmul(features[:, None, :], self._coefficients)[:, 0]
        single = features.astype(np.float32)
        reach = np.matmul(single[:, None, :], self._inverse[:, None])  # (G, Q, 1, D): each matrix is fetched once
        spread = np.matmul(reach, single[:, :, None])[:, :, 0, 0].T.astype(np.float64)
        doubt = np.maximum(spread, 0.0)[:, self.ridge.group] * self._noise
        return np.clip(quality, 0.0, 1.0), np.minimum(np.sqrt(doubt), 0.5)

    def _stretched(self, embedding: Floats) -> Floats:
        """T x of each row."""
        if self.stretch is None:
            return embedding
        return np.asarray(np.matmul(embedding.astype(np.float64)[:, None, :], self.stretch)[:, 0])


def _stretch(experience: Experience, *, weight: float, penalty: float) -> Floats | None:
    """T, float64 (d, d); None where it would be I."""
    if experience.answers is None or not weight:
        return None
    known = np.asarray(experience.answers.any(axis=1))
    told = experience.select(known)
    width = experience.queries.embedding.shape[1]
    total = np.zeros((width, width))
    inverses: dict[bytes, Floats] = {}  # endpoints that answered the same queries share one
    for endpoint in range(len(told.endpoints)):
        own = told.endpoint == endpoint
        heads = _heads(told, np.flatnonzero(own), penalty, inverses)
        total += heads @ heads.T
    strength, direction = np.linalg.eigh(total)
    if not strength[-1] > 0:  # nothing varies, so nothing can be told
        return None
    grown = np.sqrt(1.0 + weight * np.maximum(strength, 0.0) / strength[-1])
    return np.asarray((direction * grown) @ direction.T)


def _heads(told: Experience, rows: Ints, penalty: float, inverses: dict[bytes, Floats]) -> Floats:
    """B of one endpoint, float64 (d, w), from its answers `rows`; zero without any."""
    assert told.answers is not None
    vectors = told.queries.embedding[told.query[rows]].astype(np.float64)
    answers = told.answers[rows].astype(np.float64)
    if not len(rows):
        return np.zeros((vectors.shape[1], answers.shape[1]))
    vectors -= vectors.mean(axis=0)
    answers -= answers.mean(axis=0)
    key = told.query[rows].tobytes()
    if key not in inverses:
        inverses[key] = np.linalg.inv(vectors.T @ vectors + penalty * np.eye(vectors.shape[1]))
    return np.asarray(inverses[key] @ (vectors.T @ answers))
