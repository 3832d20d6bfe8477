"""Stack: several policies, each trusted as far as its estimates for unseen queries have earned."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Le, doc

from policies._blend import nonnegative_ridge
from policies._moments import shrunk
from policies._novelty import Novelty
from policies._others import create, policy_class, refitted
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Bools, Floats, Ints, Queries, Scores

_ASKED_MAX = 2_000  # queries whose outcomes decide the weights


@dataclass(kw_only=True)
class Stack:
    """A weighted sum of what other policies say beyond an endpoint's mean; the weights are learned on unseen queries.

    With p_s and d_s the quality and doubt of the S policies in `over`, m and e the endpoint's shrunk mean and its
    standard error (`policies._moments`), and t in [0, 1] the trust in what is said of this query:

        b       = sum_s w_s (p_s - m)
        quality = clip(m + t b, 0, 1)
        stddev² = (sum_s w_s d_s + max(0, 1 - sum_s w_s) e)² + sum_s w_s (p_s - p)² / sum_s w_s + ((1 - t) b)²

    stddev at most 1/2, p the w-weighted mean of the p_s. The policies learn from the same outcomes, so their errors
    are taken to be shared; where they disagree, and what was not believed, is added. The weights are common to all
    endpoints. Queries are dealt into folds; each fold's outcomes are predicted by policies that learned from the
    others, and

        w = argmin over w >= 0 of  sum_n (r_n - sum_s w_s x_ns)² + penalty v sum_s (w_s - 1/S)²

    with r_n the outcome and x_ns the prediction, both less the mean of the endpoint in the other folds, and v the
    mean of x². So a large penalty is the plain average, one policy with a large penalty is that policy, doubt
    included, and policies that know nothing of unseen queries get no weight, which leaves `BestOnAverage`. A few
    weights need few outcomes: those of at most 2,000 queries, drawn at random, are predicted.

    Queries unlike anything known were in no fold, and nobody has earned trust there:

        t = min(1, share / novelty)

    with `share` that of known queries whose nearest other one is as far (`policies._novelty`). So all but about the
    `novelty` most distant queries of the usual kind are trusted fully. With `novelty` 0 every query is.

    `partial_fit` teaches the policies and keeps the weights; an endpoint that is new gets them, too. A policy is
    found by the name of its entry point, so one of another distribution can take part. One that has `refit` learns a
    fold's outcomes with what it found in all the queries, of which no outcome is part: kinds of query, the words that
    tell texts apart. So fitting costs little more than a fit of each, else `folds` + 1 fits; scoring as much as
    scoring with each.

    The defaults were chosen by cross-validation inside the training parts of four sets of real outcomes, for AIQ and
    squared error; docs/policies.md has the figures. Where prompts are not kept, name `clusters` in `over` besides.

    Stacking: Wolpert, 1992, "Stacked generalization"; why the weights must not be negative: Breiman, 1996, "Stacked
    regressions". The share is a conformal p-value: Laxhammar & Falkman, 2010, "Conformal prediction for
    distribution-independent anomaly detection in streaming vessel data".
    """

    over: Annotated[tuple[str, ...], doc("the policies, by registered name")] = ("lexical", "forest")
    parameters: Annotated[dict[str, dict[str, Any]], doc("their parameters, by name")] = field(default_factory=dict)
    folds: Annotated[int, Ge(2), Le(10), doc("parts that the queries are dealt into")] = 2
    penalty: Annotated[float, Ge(0), Le(1e12), doc("outcomes that equal weights count for")] = 10_000.0
    novelty: Annotated[float, Ge(0), Le(1), doc("share of most distant known queries where trust fades")] = 0.02
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other folds")] = 0

    def __post_init__(self) -> None:
        self.over = tuple(self.over)
        if not self.over or len(set(self.over)) < len(self.over) or "stack" in self.over:
            raise ValueError(f"over must name at least one policy, each once and none a stack, not {self.over}")
        if unknown := sorted(set(self.parameters) - set(self.over)):
            raise ValueError(f"parameters of {', '.join(unknown)}, which over does not name")
        self.state_: _State | None = None

    def fit(self, experience: Experience) -> Self:
        policies = tuple(create(name, given).fit(experience) for name, given in self.made_of().items())
        beyond, residual = self._unseen(experience, policies)
        equal = np.full(len(self.over), 1.0 / len(self.over))
        self.state_ = _State(
            policies=policies,
            weights=nonnegative_ridge(beyond, residual, prior=equal, penalty=self.penalty),
            endpoints=experience.endpoints,
            sums=_sums(experience),
            known=Novelty.of(_asked(experience)),
            novelty=self.novelty,
            space=experience.queries.space,
            width=experience.queries.embedding.shape[1],
        )
        return self

    def _unseen(self, experience: Experience, policies: tuple[Any, ...]) -> tuple[Floats, Floats]:
        """Of every outcome in a fold that others can predict: what each policy says beyond the mean, and what it is.

        policies : fitted to all of `experience`
        """
        seen = np.unique(experience.query)
        fold = np.full(len(experience.queries), -1)
        drawn = np.random.default_rng(self.seed).permutation(seen)
        fold[drawn] = np.arange(len(seen)) % self.folds
        heard = np.isin(np.arange(len(fold)), drawn[:_ASKED_MAX])
        beyond, residual = [np.zeros((0, len(self.over)))], [np.zeros(0)]
        for held in range(min(self.folds, len(seen)) if len(seen) > 1 else 0):
            learned = _part(experience, (fold >= 0) & (fold != held))
            asked = _part(experience, heard & (fold == held))
            mean, _, _ = shrunk(*_sums(learned))
            cells = (asked.query, asked.endpoint)
            said = [refitted(policy, learned).score(asked.queries).align(experience.endpoints) for policy in policies]
            beyond.append(np.stack([(s.quality - mean)[cells] for s in said], axis=1))
            residual.append(asked.quality - mean[asked.endpoint])
        return np.concatenate(beyond), np.concatenate(residual)

    def partial_fit(self, experience: Experience) -> Self:
        self.state_ = self._state().learn(experience)
        return self

    def score(self, queries: Queries) -> Scores:
        return self._state().score(queries)

    def made_of(self) -> dict[str, dict[str, Any]]:
        """The parameters of the policies in `over`, by name."""
        return {name: self.parameters.get(name, {}) for name in self.over}

    def parts(self) -> dict[str, Any]:
        """The fitted policies by name."""
        return dict(zip(self.over, self._state().policies, strict=True))

    def save(self, directory: Path) -> None:
        state = self._state()
        facts = {"endpoints": list(state.endpoints), "space": state.space, "width": state.width}
        known = {"known": state.known.known, "nearest": state.known.nearest}
        write_state(directory, self, facts=facts, arrays={"weights": state.weights, "sums": state.sums, **known})
        for name, policy in zip(self.over, state.policies, strict=True):
            policy.save(directory / name)

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(
            directory, cls, facts=("endpoints", "space", "width"), arrays=("weights", "sums", "known", "nearest")
        )
        policy.state_ = _State(
            policies=tuple(policy_class(name).load(directory / name) for name in policy.over),
            endpoints=tuple(facts["endpoints"]),
            space=facts["space"],
            width=facts["width"],
            weights=arrays["weights"],
            sums=arrays["sums"],
            known=Novelty(known=arrays["known"], nearest=arrays["nearest"]),
            novelty=policy.novelty,
        )
        return policy

    def _state(self) -> _State:
        if self.state_ is None:
            raise NotFitted("Stack has learned nothing yet", hint="call fit first")
        return self.state_


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _State:
    """Fitted policies and their weights (S,); `sums` (3, E) are the endpoints' moments. Never written in place."""

    policies: tuple[Any, ...]
    weights: Floats
    endpoints: tuple[str, ...]
    sums: Floats
    known: Novelty
    novelty: float
    space: str
    width: int

    def learn(self, experience: Experience) -> _State:
        """With the outcomes of `experience` added; where one policy refuses them, none has learned."""
        experience.queries.expect(space=self.space, width=self.width)
        names = (*self.endpoints, *(name for name in experience.endpoints if name not in self.endpoints))
        sums = np.pad(self.sums, ((0, 0), (0, len(names) - len(self.endpoints))))
        sums[:, [names.index(name) for name in experience.endpoints]] += _sums(experience)
        taught = tuple(copy.deepcopy(policy).partial_fit(experience) for policy in self.policies)
        return replace(self, policies=taught, endpoints=names, sums=sums, known=self.known.grown(_asked(experience)))

    def score(self, queries: Queries) -> Scores:
        """The weighted sum, element by element, so that a batch gives the bits its rows would."""
        queries.expect(space=self.space, width=self.width)
        mean, _, error = shrunk(*self.sums)
        whole = float(self.weights.sum())
        shape = (len(queries), len(self.endpoints))
        said = np.zeros(shape)
        square = np.zeros(shape)
        doubt = np.full(shape, max(0.0, 1.0 - whole) * error)
        for weight, policy in zip(self.weights.tolist(), self.policies, strict=True):
            scores = policy.score(queries).align(self.endpoints)
            beyond = scores.quality.astype(np.float64) - mean
            said += weight * beyond
            square += weight * beyond**2
            doubt += weight * scores.stddev
        apart = np.maximum(square / whole - (said / whole) ** 2, 0.0) if whole > 0 else 0.0
        trust = self._trust(queries.embedding)[:, None]
        return Scores(
            endpoints=self.endpoints,
            quality=np.clip(mean + trust * said, 0.0, 1.0).astype(np.float32),
            stddev=np.minimum(np.sqrt(doubt**2 + apart + ((1.0 - trust) * said) ** 2), 0.5).astype(np.float32),
        )

    def _trust(self, embedding: Floats) -> Floats:
        """float64 (Q,) in [0, 1]."""
        if self.novelty == 0.0:
            return np.ones(len(embedding))
        return np.asarray(np.minimum(self.known.share(embedding) / self.novelty, 1.0))


def _asked(experience: Experience) -> Floats:
    """Vectors of the queries that have an outcome."""
    return experience.queries.embedding[np.unique(experience.query)]


def _sums(experience: Experience) -> Floats:
    """Number of outcomes, their sum, the sum of their squares: float64 (3, E)."""
    count = len(experience.endpoints)
    quality = experience.quality.astype(np.float64)
    powers = (np.ones_like(quality), quality, quality**2)
    return np.stack([np.bincount(experience.endpoint, weights=power, minlength=count) for power in powers])


def _part(experience: Experience, kept: Bools) -> Experience:
    """The outcomes and comparisons of the queries `kept` (Q,), and only those queries: nothing else leaks."""
    position: Ints = np.cumsum(kept) - 1
    chosen = experience.select(kept[experience.query])
    compared = experience.comparisons[kept[experience.comparisons[:, 0]]].copy()
    compared[:, 0] = position[compared[:, 0]]
    queries = experience.queries.take(np.flatnonzero(kept))
    return replace(chosen, queries=queries, query=position[chosen.query], comparisons=compared)
