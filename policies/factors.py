"""Factors: queries and endpoints as vectors of one small space, whose product is the log odds of a good answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._factor_map import SharedMap, learn_map
from policies._identities import most_informative, place, sigmoid
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Queries, Scores

_BATCH = 64  # queries scored at a time: bounds the (batch, E, D) array
_SHARED = ("centre", "weights", "axes", "unsure")
_OWN = ("theta", "precision", "count", "noise")


@dataclass(kw_only=True)
class Factors:
    """Matrix factorisation of logits, with a query's difficulty and an endpoint's identity as in item response theory.

        quality = sigmoid(b_m + u'P_m - beta'(x - c))        u = W'(x - c), c the mean of the queries of `fit`

    `fit` learns what endpoints share, W and beta, by L-BFGS on

        sum cross-entropy(outcome, quality) + (p² |W|² + |P|²) / 2 + p_d |beta|² / 2          p = penalty

    A graded outcome is a soft target. Where rank reaches the number of endpoints this is a convex problem: logistic
    regression of every endpoint with the penalty p |W P'|_*, a nuclear norm, so directions that do not pay vanish
    by themselves. b has one imagined answer, half good and half bad, at the centre, as in `policies._moments`.

    Then W and beta are frozen and every endpoint, old or new, is placed alike: theta_m = (b_m, P_m) is the mode of
    its own outcomes under the prior P_m ~ N(0, I), by Newton's method; A_m is the Hessian there (Laplace), and

        stddev² = f_m (quality (1 - quality))² (z' A_m^-1 z + sum_k P_mk² v_k + v_0), at most 1/4       z = [1, u]
        f_m     = sum (q - quality)² / sum quality (1 - quality)    graded outcomes scatter less than 0/1 answers
        v_k     = (x - c)' (p² I + l_k H)^-1 (x - c)                doubt about column k of W, l_k = (P'P)_kk
        v_0     = (x - c)' (p_d I + E H)^-1 (x - c)                 doubt about beta

    with H = sum quality (1 - quality) (x - c)(x - c)' over the outcomes of a mean endpoint, of which only the diagonal
    in the queries' principal axes is used. `partial_fit` places with the posterior as prior. It never touches what is
    shared, so a few dozen probes place a new endpoint and leave the others as they were; `informative` chooses them.
    What no endpoint of `fit` needed to be told apart is not told apart later either: fit again now and then. An
    endpoint never seen is 1/2 with doubt 1/2.

    Degenerate cases. With `difficulty_penalty` null, beta = 0: plain matrix factorisation; its limit as p_d grows is
    the same. A model with difficulty is one without, of rank one more, with W' = [W, -beta] and P'_m = [P_m, 1]. At
    rank 0 without difficulty, and as p and p_d grow, the policy is `BestOnAverage`, mean and doubt.

    With `kl_weight` k, W is learned for identities N(mu_m, diag sigma_m²) rather than points: cross-entropy is
    averaged over them (to second order in sigma) and k KL(identity || N(0, I)) replaces |P|² / 2, which is its limit
    for k = 1 and sigma held at zero. The prior of placing is then N(0, I / k).

    The penalty was chosen by five-fold cross-validation inside the training halves of two sets of real outcomes (nine
    models on 1,484 queries, three on 1,785; docs/policies.md): 3 and less learn the nine by heart; a difficulty held
    more strongly or none at all, and `kl_weight` 1, gained nothing. Of 31 models on 3,000 queries of a third set the
    best one alone is better than the default, and a little worse than a penalty of 16.

    Zhuang et al., 2025, "EmbedLLM" (arXiv 2410.02223); Song et al., 2025, "IRT-Router" (arXiv 2506.01048); variational
    identities and the quiz for a new endpoint: Li, 2025, "LLM Bandit" (arXiv 2502.02743). Nuclear norm: Srebro et al.,
    2004, "Maximum-margin matrix factorization".
    """

    rank: Annotated[int, Ge(0), Le(1_024), doc("how many factors a query has, at most")] = 32
    penalty: Annotated[float, Gt(0), Le(1e9), doc("how much a factor must explain to be kept")] = 9.0
    difficulty_penalty: (
        Annotated[
            float, Gt(0), Le(1e9), doc("how strongly a query's difficulty is held to the mean; null = no difficulty")
        ]
        | None
    ) = 3.0
    kl_weight: (
        Annotated[float, Gt(0), Le(1e6), doc("weight of the prior on uncertain identities; null = certain ones")] | None
    ) = None

    def __post_init__(self) -> None:
        self.model_: _Model | None = None

    def fit(self, experience: Experience) -> Self:
        seen, row = np.unique(experience.query, return_inverse=True)
        known, column = np.unique(experience.endpoint, return_inverse=True)
        count = np.zeros((len(seen), len(known)))
        total = np.zeros_like(count)
        np.add.at(count, (row, column), 1.0)
        np.add.at(total, (row, column), experience.quality.astype(np.float64))
        shared = learn_map(
            experience.queries.embedding[seen],
            total / np.maximum(count, 1.0),
            count,
            rank=self.rank,
            penalty=self.penalty,
            difficulty_penalty=self.difficulty_penalty,
            kl_weight=self.kl_weight,
        )
        self.model_ = _Model.empty(experience.queries.space, shared).learn(experience, self._prior(shared))
        return self

    def partial_fit(self, experience: Experience) -> Self:
        model = self._model()
        self.model_ = model.learn(experience, self._prior(model.shared))
        return self

    def score(self, queries: Queries) -> Scores:
        model = self._model()
        queries.expect(space=model.space, width=len(model.shared.centre))
        quality = np.empty((len(queries), len(model.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            quality[batch], stddev[batch] = model.estimate(queries.embedding[batch])
        return Scores(endpoints=model.endpoints, quality=quality, stddev=stddev)

    def informative(self, queries: Queries, n: int) -> Ints:
        """The rows of `queries`, at most n, most worth asking a new endpoint, the best first.

        Each in turn is the one that adds most to the determinant of the new identity's precision (D-optimal), when
        its answers vary as those of the endpoints known: a query much like one chosen adds little. 20 to 60 will do.
        """
        model = self._model()
        queries.expect(space=model.space, width=len(model.shared.centre))
        features, _ = model.shared.read(queries.embedding)
        quality, _ = model.estimate(queries.embedding)
        seen = model.count > 0
        weight = (quality * (1 - quality))[:, seen].mean(axis=1) if seen.any() else np.full(len(quality), 0.25)
        precision = self._prior(model.shared)
        precision[0, 0] = 0.25  # what the imagined answer tells
        return most_informative(features, weight, precision, n)

    def save(self, directory: Path) -> None:
        model = self._model()
        facts = {"endpoints": list(model.endpoints), "space": model.space}
        arrays = {name: getattr(model.shared, name) for name in _SHARED} | {name: getattr(model, name) for name in _OWN}
        write_state(directory, self, facts=facts, arrays=arrays)

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(directory, cls, facts=("endpoints", "space"), arrays=_SHARED + _OWN)
        shared = SharedMap(**{name: arrays[name] for name in _SHARED})
        own = {name: arrays[name] for name in _OWN}
        policy.model_ = _Model(tuple(facts["endpoints"]), facts["space"], shared, **own)
        return policy

    def _prior(self, shared: SharedMap) -> Floats:
        """Precision (D, D) of an identity before any outcome; the imagined answer, not this, holds b."""
        diagonal = np.full(shared.weights.shape[1], 1.0 if self.kl_weight is None else self.kl_weight)
        diagonal[0] = 0.0
        return np.diag(diagonal)

    def _model(self) -> _Model:
        if self.model_ is None:
            raise NotFitted("Factors has learned nothing yet", hint="call fit first")
        return self.model_


class _Model:
    """What was learned and what is derived from it. Never changed once built, so copies of a policy share it.

    theta : float64 (E, D), [b_m, P_m]
    precision : float64 (E, D, D), A_m
    count : float64 (E,), outcomes
    noise : float64 (2, E), sums of (q - quality)² and quality (1 - quality), the imagined answer included
    """

    def __init__(
        self,
        endpoints: tuple[str, ...],
        space: str,
        shared: SharedMap,
        *,
        theta: Floats,
        precision: Floats,
        count: Floats,
        noise: Floats,
    ) -> None:
        self.endpoints, self.space, self.shared = endpoints, space, shared
        self.theta, self.precision, self.count, self.noise = theta, precision, count, noise
        seen = (count > 0)[:, None, None]
        half = np.linalg.inv(np.linalg.cholesky(np.where(seen, precision, np.eye(theta.shape[1]))))
        scatter = np.sqrt(noise[0] / np.maximum(noise[1], 1e-12))
        exposure = np.concatenate([theta[:, 1:] ** 2, np.ones((len(theta), 1))], axis=1)
        self._exposure = (exposure * scatter[:, None] ** 2).T.copy()  # (r + 1, E)
        self._half = (half * scatter[:, None, None]).reshape(-1, theta.shape[1]).T.copy()  # (D, E D)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Model:
        return self

    @classmethod
    def empty(cls, space: str, shared: SharedMap) -> _Model:
        size = shared.weights.shape[1]
        theta, precision = np.zeros((0, size)), np.zeros((0, size, size))
        return cls((), space, shared, theta=theta, precision=precision, count=np.zeros(0), noise=np.zeros((2, 0)))

    def learn(self, experience: Experience, prior: Floats) -> _Model:
        """With the outcomes of `experience`, over the union of both pools; `prior` is for those never seen before."""
        queries = experience.queries
        queries.expect(space=self.space, width=len(self.shared.centre))
        names = (*self.endpoints, *(name for name in experience.endpoints if name not in self.endpoints))
        more = len(names) - len(self.endpoints)
        theta = np.concatenate([self.theta, np.zeros((more, len(prior)))])
        precision = np.concatenate([self.precision, np.broadcast_to(prior, (more, *prior.shape))])
        count = np.concatenate([self.count, np.zeros(more)])
        noise = np.concatenate([self.noise, np.zeros((2, more))], axis=1)
        seen, row = np.unique(experience.query, return_inverse=True)
        features, offset = self.shared.read(queries.embedding[seen])
        centre = np.eye(1, len(prior))
        for e, name in enumerate(experience.endpoints):
            at = np.flatnonzero(experience.endpoint == e)
            if not len(at):
                continue
            m, rows = names.index(name), row[at]
            z, ease, q, weight = (
                features[rows],
                offset[rows],
                experience.quality[at].astype(np.float64),
                np.ones(len(at)),
            )
            if count[m] == 0:  # the imagined answer
                z, ease = np.concatenate([z, centre]), np.append(ease, 0.0)
                q, weight = np.append(q, 0.5), np.append(weight, 1.0)
            theta[m], precision[m] = place(z, ease, q, weight, theta[m], precision[m])
            chance = sigmoid(z @ theta[m] + ease)
            error = (q - chance) ** 2
            if count[m] == 0:
                error[-1] += 0.25  # half good and half bad, not 1/2
            noise[:, m] += error.sum(), (chance * (1 - chance)).sum()
            count[m] += len(at)
        return _Model(names, self.space, self.shared, theta=theta, precision=precision, count=count, noise=noise)

    def estimate(self, embedding: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), of embeddings (Q, d)."""
        features, offset = self.shared.read(embedding)
        once = features[:, None, :]  # one product per query, so that a batch gives the bits its rows would
        quality = sigmoid(np.matmul(once, self.theta.T.copy())[:, 0] + offset[:, None])
        reach = np.matmul(once, self._half)[:, 0].reshape(len(features), *self.theta.shape)
        unsure = np.matmul(self.shared.doubt(embedding)[:, None, :], self._exposure)[:, 0]
        stddev = np.minimum(quality * (1 - quality) * np.sqrt((reach**2).sum(axis=2) + unsure), 0.5)
        seen = self.count > 0
        return np.where(seen, quality, 0.5), np.where(seen, stddev, 0.5)
