"""Preference: strengths learned from which answer was better, and what such a win is worth in quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Gt, Le, doc

from policies._bradley_terry import Comparisons, Strengths, sigmoid
from policies._ridge import PACKED, Ridge, with_intercept
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Queries, Scores

_BATCH = 64  # queries scored at a time: bounds the (batch, E, D) array
_FOLDS = 3
_STRENGTHS = ("theta", "precision", "compared")


@dataclass(kw_only=True)
class Preference:
    """Contextual Bradley-Terry: who wins a comparison, and from that how good an answer will be.

        P(a beats b | x) = sigmoid(s_a(x) - s_b(x))          s_e(x) = theta_e' [1, x]
        t_f(x)  = s_f(x) - mean of s over the F endpoints of `fit`
        quality = clip(alpha_e + beta_e' t(x), 0, 1)

    Strengths are learned from `Experience.comparisons`, and for queries that have none from those their graded
    outcomes imply (`policies._bradley_terry`). The penalty shrinks a strength to the same value for every query:
    as it grows, these are plain Bradley-Terry strengths.

    Who wins says nothing of how good the answers are. The scale (alpha_e, beta_e) is a ridge regression
    (`policies._ridge`) of the endpoint's outcomes on the F strengths: a query on which the strong pull ahead is a
    hard one, for all of them. So a new endpoint is placed by few outcomes, but only along what told the F apart.
    In `fit` each query's strengths are learned without its third of the data; t stays as `fit` found it.

    Where no outcome of any endpoint was ever seen, the quality is the chance to win against the field, mean of
    P(e beats f | x) over the f ever compared: an order with a scale of its own. An endpoint without outcomes beside
    graded ones is 0.5 with doubt 0.5.

        stddev² = s2 [1, t]' A^-1 [1, t] + sum_f (beta_ef - mean beta_e)² var s_f(x), at most 1/4

    with the ridge's posterior and the strengths' curvature, by the delta method. `partial_fit` takes what is known
    as the prior of what comes. A new endpoint needs outcomes for its quality, and comparisons with known ones, or
    outcomes of the same queries, for its chance to win.

    `win_probability` serves a threshold instead of a price (`router-preference-0.4` as a model's name): the strong
    endpoint where it wins often enough over the cheap one. Of a pool of any size these are the two that count: the
    strong one is the strongest on the mean query of `fit` (`strengths`), endpoints in between are not chosen.

    The penalty was chosen by cross-validation inside the training halves of two sets of real outcomes (nine models on
    1,484 queries, three on 1,785; docs/policies.md): 10 routes better than 3 on every shuffle of both, 30 is too much.

    Bradley & Terry, 1952, "Rank analysis of incomplete block designs"; from preferences to a router, and by threshold:
    Ong et al., 2024, "RouteLLM: learning to route LLMs with preference data" (arXiv 2406.18665).
    """

    penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly a strength is held to one value for all queries")] = (
        10.0
    )

    scale_penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly quality is held to the endpoint's mean")] = 10.0

    def __post_init__(self) -> None:
        self.model_: _Model | None = None

    def fit(self, experience: Experience) -> Self:
        queries, endpoints = experience.queries, experience.endpoints
        features, comparisons = with_intercept(queries.embedding), Comparisons.of(experience)
        nothing = Strengths.prior(endpoints=len(endpoints), features=features.shape[1], penalty=self.penalty)
        apart = np.zeros((len(queries), len(endpoints)))
        basis = nothing.basis(features) if len(comparisons) else None
        if len(experience):
            for fold in range(_FOLDS):
                held = np.arange(len(queries)) % _FOLDS == fold
                others = comparisons.select(~held[comparisons.rows[:, 0]])
                apart[held] = _apart(features[held] @ nothing.most_probable(features, others, basis).T)
        strengths = nothing.learn(features, comparisons, basis)
        scale = Ridge.prior(endpoints=len(endpoints), features=1 + len(endpoints), penalty=self.scale_penalty)
        scale = scale.learn(apart, experience.query, experience.endpoint, experience.quality)
        centre = features.sum(axis=0) / max(len(features), 1)
        self.model_ = _Model(endpoints, queries.space, strengths, strengths.theta, scale, centre)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        model = self._model()
        experience.queries.expect(space=model.space, width=model.width)
        names = (*model.endpoints, *(name for name in experience.endpoints if name not in model.endpoints))
        experience, features = experience.align(names), with_intercept(experience.queries.embedding)
        strengths = model.strengths.widened(len(names), penalty=self.penalty)
        strengths = strengths.learn(features, Comparisons.of(experience))
        scale = model.scale.widened(len(names)).learn(
            _apart(features @ model.lens.T), experience.query, experience.endpoint, experience.quality
        )
        self.model_ = _Model(names, model.space, strengths, model.lens, scale, model.centre, before=model)
        return self

    def score(self, queries: Queries) -> Scores:
        model = self._model()
        queries.expect(space=model.space, width=model.width)
        quality = np.empty((len(queries), len(model.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            quality[batch], stddev[batch] = model.estimate(with_intercept(queries.embedding[batch]))
        return Scores(endpoints=model.endpoints, quality=quality, stddev=stddev)

    def strengths(self) -> Mapping[str, float]:
        """Strength of every endpoint on the mean query of `fit`; 0 for one never compared. Raises NotFitted."""
        model = self._model()
        return dict(zip(model.endpoints, (model.strengths.theta @ model.centre).tolist(), strict=True))

    def win_probability(self, queries: Queries, strong: str, weak: str) -> Floats:
        """P(strong beats weak), float64 (Q,); an endpoint never compared is as strong as the average is believed."""
        model = self._model()
        queries.expect(space=model.space, width=model.width)
        margin = model.theta_of(strong) - model.theta_of(weak)
        return sigmoid(np.matmul(with_intercept(queries.embedding)[:, None, :], margin)[:, 0])

    def save(self, directory: Path) -> None:
        model = self._model()
        facts = {"endpoints": list(model.endpoints), "space": model.space}
        arrays = {name: getattr(model.strengths, name) for name in _STRENGTHS}
        write_state(
            directory,
            self,
            facts=facts,
            arrays={**arrays, **model.scale.packed(), "lens": model.lens, "centre": model.centre},
        )

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(
            directory, cls, facts=("endpoints", "space"), arrays=(*_STRENGTHS, *PACKED, "lens", "centre")
        )
        strengths = Strengths(**{name: arrays[name] for name in _STRENGTHS})
        scale = Ridge.unpacked(policy.scale_penalty, {name: arrays[name] for name in PACKED})
        policy.model_ = _Model(
            tuple(facts["endpoints"]), facts["space"], strengths, arrays["lens"], scale, arrays["centre"]
        )
        return policy

    def _model(self) -> _Model:
        if self.model_ is None:
            raise NotFitted("Preference has learned nothing yet", hint="call fit first")
        return self.model_


class _Model:
    """What was learned and what is derived from it. Never changed once built, so copies of a policy share it."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        space: str,
        strengths: Strengths,
        lens: Floats,
        scale: Ridge,
        centre: Floats,
        before: _Model | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.space = space
        self.strengths = strengths
        self.lens = lens  # theta of `fit`, float64 (F, D): what the scale reads; the first F endpoints
        self.scale = scale
        self.centre = centre  # mean z of the queries of `fit`, float64 (D,)
        self.width = lens.shape[1] - 1
        self._theta = np.ascontiguousarray(strengths.theta.T)
        self._lens = np.ascontiguousarray(lens.T)
        self._covariance = _inverted(strengths.precision, before)
        self._coefficients = scale.coefficients()
        self._noise = scale.noise(self._coefficients)
        self._beta_apart_square = _apart(self._coefficients[1:].T).T ** 2  # (F, E)
        self._graded = bool((scale.count > 1.0).any())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Model:
        return self

    def theta_of(self, name: str) -> Floats:
        """float64 (D,); zeros for an endpoint never heard of."""
        if name not in self.endpoints:
            return np.zeros(self.width + 1)
        return np.asarray(self.strengths.theta[self.endpoints.index(name)])

    def estimate(self, features: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), from z (Q, D)."""
        # One product per query, so that a batch gives the bits its rows would.
        single = features.astype(np.float32)
        reach = np.matmul(single[:, None, :], self._covariance[:, None])  # (E, Q, 1, D): each matrix is fetched once
        spread = np.matmul(reach, single[:, :, None])[:, :, 0, 0].T.astype(np.float64)
        spread = np.maximum(spread, 0.0)
        if not self._graded:
            return self._by_chance(np.matmul(features[:, None, :], self._theta)[:, 0], spread)
        read = with_intercept(_apart(np.matmul(features[:, None, :], self._lens)[:, 0]))
        quality = np.matmul(read[:, None, :], self._coefficients)[:, 0]
        own = np.matmul(np.matmul(read[:, None, None, :], self.scale.inverse), read[:, None, :, None])[:, :, 0, 0]
        doubt = np.maximum(own, 0.0)[:, self.scale.group] * self._noise
        doubt += np.matmul(spread[:, None, : len(self.lens)], self._beta_apart_square)[:, 0]
        return np.clip(quality, 0.0, 1.0), np.minimum(np.sqrt(doubt), 0.5)

    def _by_chance(self, strength: Floats, spread: Floats) -> tuple[Floats, Floats]:
        """The same from strengths and their variances, (Q, E), where the chance to win is all there is."""
        met = self.strengths.compared > 0
        field = met & ~np.eye(len(met), dtype=bool)  # whom each is compared with
        share = field / np.maximum(field.sum(axis=1, keepdims=True), 1)
        wins = sigmoid(strength[:, :, None] - strength[:, None, :])
        slope = wins * (1.0 - wins) * share
        variance = slope.sum(axis=2) ** 2 * spread + np.matmul(slope**2, spread[:, :, None])[:, :, 0]
        stddev = np.minimum(np.sqrt(variance), 0.5)
        return np.where(met, (wins * share).sum(axis=2), 0.5), np.where(met, stddev, 0.5)


def _inverted(precision: Floats, before: _Model | None) -> Floats:
    """Covariances, float32 (E, D, D): doubt needs few digits. Those of `before` that did not change are taken over."""
    covariance = np.empty(precision.shape, dtype=np.float32)
    for e, own in enumerate(precision):
        if before is not None and e < len(before.endpoints) and np.array_equal(own, before.strengths.precision[e]):
            covariance[e] = before._covariance[e]
        else:
            covariance[e] = np.linalg.inv(own)
    return covariance


def _apart(strength: Floats) -> Floats:
    """How far each strength (Q, F) is from the mean of its row."""
    return np.asarray(strength - strength.mean(axis=1, keepdims=True))
