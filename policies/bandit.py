"""Bandit: an estimate learned once, and what has drifted away from it since, learned from every outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._forgetting import PACKED, Residuals, Solved, effective_outcomes
from policies._ridge import Ridge, with_intercept
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.prior import Prior
from router_gateway.core.types import Bools, Floats, Queries, Scores

_BATCH = 64  # queries scored at a time: bounds the (batch, E, D) array
_RANK_SHARE = 1e-3  # directions with less than this share of the largest variance are noise once whitened
_VARIANCE_MIN = 1e-12  # of unit vectors: less is rounding


@dataclass(kw_only=True)
class Bandit:
    """The linear-Gaussian model of a contextual bandit: an offline prior, a residual learned online, forgetting.

        quality = clip(f(x) + z' theta, 0, 1)      z = [1, whitened principal components of x]
        stddev² = z' S z, at most 1/4

    `fit` learns f, one ridge regression per endpoint (`policies._ridge`), and the components; it does not forget.
    `partial_fit` learns theta and S of every endpoint (`policies._forgetting`) from y - f(x): an outcome weighs
    gamma^j once j later ones of its endpoint are known. f itself counts for

        min(outcomes in fit, (gamma^-T - 1) / (1 - gamma))      T = horizon

    confirming outcomes, so that after T new ones of an endpoint both have equal say. The stddev grows while only
    other endpoints are asked, which a rule that explores can use. A new endpoint has f = 1/2 and learns from its
    outcomes alone. Memory is 8 D² bytes per endpoint, for ever; an outcome costs O(D²), a call O(E D³).

    With gamma = 1 and no outcomes in `fit` this is Bayesian ridge regression on z; with large penalties, and
    nothing learned since, it is the endpoint's mean. Choosing is left to the rule, which knows its probabilities,
    and price to the router: quality alone is learned, so that the dial can move without learning anew.

    The defaults were chosen by replaying the training halves of two sets of real outcomes (nine models on 1,484
    queries, three on 1,785; hashed words as vectors), with and without an 18 % loss; gamma is the paper's, for
    neither lasts long enough to tell.

    Taberner-Miller, 2026, "ParetoBandit: budget-paced adaptive routing for non-stationary LLM serving" (arXiv
    2604.00136), which starts from offline sums instead of f and forgets its ridge too; Li et al., 2010, "A
    contextual-bandit approach to personalized news article recommendation" (arXiv 1003.0146).
    """

    gamma: Annotated[float, Gt(0), Le(1), doc("weight that each later outcome leaves an earlier one; 1 = all")] = 0.997
    horizon: Annotated[float, Ge(0), doc("outcomes after which they count as much as the fit does (T)")] = 100.0
    components: Annotated[int, Ge(0), Le(1_024), doc("principal components in which drift is told apart")] = 4
    drift_penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly drift is held to be alike everywhere")] = 100.0
    pooled: Annotated[bool, doc("whether an endpoint of which little is known is taken for one like the others")] = True
    alarm_outcomes: Annotated[
        float,
        Ge(0),
        Le(1e9),
        doc("false alarms of a change are at least so many outcomes apart, in the mean; 0 = none"),
    ] = 2_000.0
    penalty: Annotated[float, Gt(0), Le(1e12), doc("how strongly fit holds an endpoint to its mean quality")] = 20.0

    def __post_init__(self) -> None:
        self.model_: _Model | None = None

    def fit(self, experience: Experience) -> Self:
        embedding, endpoints = experience.queries.embedding, len(experience.endpoints)
        ridge = Ridge.prior(endpoints=endpoints, features=1 + embedding.shape[1], penalty=self.penalty).learn(
            embedding, experience.query, experience.endpoint, experience.quality
        )
        prior = ridge.coefficients()
        centre, whitening = _whitening(embedding, self.components)  # of queries without an outcome, too
        if self.pooled:
            prior = _like_the_others(prior, np.bincount(experience.endpoint, minlength=endpoints) > 0)
        drift = self._undrifted(endpoints, 1 + len(whitening.T))
        self.model_ = _Model(
            endpoints=experience.endpoints,
            space=experience.queries.space,
            prior=prior,
            centre=centre,
            whitening=whitening,
            drift=drift.confirmed(
                _whitened(embedding, centre, whitening)[experience.query],
                experience.endpoint,
                most=effective_outcomes(self.gamma, self.horizon),
                noise=ridge.noise(prior),
            ),
            gamma=self.gamma,
        )
        return self

    def start(self, prior: Prior) -> Self:
        """The prior's expectation is f, and counts for as many confirming outcomes as it says it is worth."""
        embedding, endpoints = prior.queries.embedding, len(prior.endpoints)
        centre, whitening = _whitening(embedding, self.components)
        drift = self._undrifted(endpoints, 1 + len(whitening.T))
        self.model_ = _Model(
            endpoints=prior.endpoints,
            space=prior.queries.space,
            prior=prior.coefficients,
            centre=centre,
            whitening=whitening,
            drift=drift.confirmed(
                np.tile(_whitened(embedding, centre, whitening), (endpoints, 1)),
                np.repeat(np.arange(endpoints), len(embedding)),
                most=prior.outcomes,
                noise=prior.noise,
            ),
            gamma=self.gamma,
        )
        return self

    def partial_fit(self, experience: Experience) -> Self:
        self.model_ = self._model().learn(experience)
        return self

    def score(self, queries: Queries) -> Scores:
        model = self._model()
        queries.expect(space=model.space, width=len(model.centre))
        quality = np.empty((len(queries), len(model.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            quality[batch], stddev[batch] = model.estimate(queries.embedding[batch])
        return Scores(endpoints=model.endpoints, quality=quality, stddev=stddev)

    def changes(self) -> dict[str, int]:
        """Changes found so far, by endpoint: silent ones, of quality. A new price is none."""
        model = self._model()
        return dict(zip(model.endpoints, map(int, model.drift.alarms), strict=True))

    def save(self, directory: Path) -> None:
        model = self._model()
        facts = {"endpoints": list(model.endpoints), "space": model.space}
        arrays = {name: getattr(model, name) for name in _ARRAYS}
        write_state(directory, self, facts=facts, arrays=arrays | model.drift.packed())

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(directory, cls, facts=("endpoints", "space"), arrays=(*_ARRAYS, *PACKED))
        drift = Residuals(
            penalty=policy.drift_penalty,
            pooled=policy.pooled,
            alarm_outcomes=policy.alarm_outcomes,
            **{name: arrays[name] for name in PACKED},  # type: ignore[arg-type]
        )
        policy.model_ = _Model(
            endpoints=tuple(facts["endpoints"]),
            space=facts["space"],
            drift=drift,
            gamma=policy.gamma,
            **{name: arrays[name] for name in _ARRAYS},  # type: ignore[arg-type]
        )
        return policy

    def _undrifted(self, endpoints: int, features: int) -> Residuals:
        return Residuals.nothing(
            endpoints=endpoints,
            features=features,
            penalty=self.drift_penalty,
            pooled=self.pooled,
            alarm_outcomes=self.alarm_outcomes,
        )

    def _model(self) -> _Model:
        if self.model_ is None:
            raise NotFitted("Bandit has learned nothing yet", hint="call fit first")
        return self.model_


_ARRAYS = ("prior", "centre", "whitening")


class _Model:
    """Prior, drift and what is derived from them. Never changed once built, so copies of a policy share it.

    prior : float64 (1 + d, E), coefficients of f on [1, x]
    centre, whitening : float64 (d,) and (d, D - 1); z = [1, (x - centre) @ whitening]
    """

    def __init__(
        self,
        *,
        endpoints: tuple[str, ...],
        space: str,
        prior: Floats,
        centre: Floats,
        whitening: Floats,
        drift: Residuals,
        gamma: float,
        before: Solved | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.space = space
        self.prior = prior
        self.centre = centre
        self.whitening = whitening
        self.drift = drift
        self._gamma = gamma
        self._solved = drift.solved(gamma=gamma, before=before)
        self._theta = np.ascontiguousarray(self._solved.theta.T)
        self._inverse = self._solved.inverse.astype(np.float32)  # doubt needs few digits; reading it takes time

    def __deepcopy__(self, memo: dict[int, Any]) -> _Model:
        return self

    def learn(self, experience: Experience) -> _Model:
        """With the outcomes of `experience` added, oldest first, over the union of both pools."""
        queries = experience.queries
        queries.expect(space=self.space, width=len(self.centre))
        names = (*self.endpoints, *(name for name in experience.endpoints if name not in self.endpoints))
        prior = self.prior
        if len(names) > len(self.endpoints):
            unseen = np.zeros((len(prior), len(names) - len(self.endpoints)))
            unseen[0] = 0.5
            prior = np.concatenate([prior, unseen], axis=1)
            if self.drift.pooled:
                prior = _like_the_others(prior, np.arange(len(names)) < len(self.endpoints))
        column = np.array([names.index(name) for name in experience.endpoints], dtype=np.int64)[experience.endpoint]
        before = (with_intercept(queries.embedding) @ prior)[experience.query, column]
        drift = self.drift.widened(len(names)).learn(
            _whitened(queries.embedding, self.centre, self.whitening)[experience.query],
            column,
            experience.quality - before,
            gamma=self._gamma,
            before=before,
        )
        return _Model(
            endpoints=names,
            space=self.space,
            prior=prior,
            centre=self.centre,
            whitening=self.whitening,
            drift=drift,
            gamma=self._gamma,
            before=self._solved,
        )

    def estimate(self, embedding: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), from x (Q, d)."""
        # One product per query, so that a batch gives the bits its rows would.
        before = np.matmul(with_intercept(embedding)[:, None, :], self.prior)[:, 0]
        features = _whitened(embedding, self.centre, self.whitening)
        quality = before + np.matmul(features[:, None, :], self._theta)[:, 0]
        single = features.astype(np.float32)
        reach = np.matmul(single[:, None, :], self._inverse[:, None])  # (E, Q, 1, D): each matrix is fetched once
        variance = np.matmul(reach, single[:, :, None])[:, :, 0, 0].T.astype(np.float64) * self._solved.noise
        return np.clip(quality, 0.0, 1.0), np.minimum(np.sqrt(np.maximum(variance, 0.0)), 0.5)


def _like_the_others(prior: Floats, seen: Bools) -> Floats:
    """Coefficients (1 + d, E) in which endpoints of which nothing is known answer as the others do on average."""
    if seen.all() or not seen.any():
        return prior
    return np.where(seen, prior, prior[:, seen].mean(axis=1, keepdims=True))


def _whitening(embedding: Floats, components: int) -> tuple[Floats, Floats]:
    """Mean (d,) and a (d, D - 1) that takes what is left to at most `components` uncorrelated unit variances."""
    width = embedding.shape[1]
    if not len(embedding):
        return np.zeros(width), np.zeros((width, 0))
    centre = embedding.mean(axis=0, dtype=np.float64)
    apart = embedding - centre
    variance, direction = np.linalg.eigh(apart.T @ apart / len(embedding))
    largest = np.argsort(-variance, kind="stable")[:components]
    largest = largest[variance[largest] > max(_RANK_SHARE * variance[-1], _VARIANCE_MIN)]
    return centre, np.ascontiguousarray(direction[:, largest] / np.sqrt(variance[largest]))


def _whitened(embedding: Floats, centre: Floats, whitening: Floats) -> Floats:
    """Features z = [1, whitened x], float64 (R, D), each row as it would be alone."""
    return with_intercept(np.matmul((embedding - centre)[:, None, :], whitening)[:, 0])
