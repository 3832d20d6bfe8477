"""Profile: an endpoint is the answers it gave to a few hundred known queries, read with a learned eye."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._attention import Attention, trained
from policies._moments import shrunk
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Queries, Scores

_STRATA = 5  # a profile takes equally many easy and hard queries: this many steps of difficulty
_BATCH = 64  # queries scored at a time: bounds the (batch, rows) arrays


@dataclass(kw_only=True)
class Profile:
    """Softmax attention of a query over an endpoint's profile: at most `profile_max` queries it answered.

    Let q_k be the n queries of endpoint t's profile, c_k in [0, 1] how good its answers were, c their mean and
    v(y) = 2 y - 1:

        w       = softmax over k of (W x)·(W q_k) sharpness
        z       = bias + gain sum_k w_k v(c_k) + general v(c)
        quality = sigmoid(n / (n + 1) z)
        stddev² = spread quality (1 - quality) / (n_eff + 1), at most 1/4      n_eff = 1 / sum_k w_k²  (Kish)

    `spread` is the variance of the profile's outcomes as a share of what right and wrong answers alone would have,
    c (1 - c), shrunk as in `policies._moments`. An endpoint never seen has 1/2 and 1/2; no single answer makes a
    winner.

    W (`width` x d), the sharpness and the three weights are learned over tasks, not endpoints: each step hides some
    endpoints, draws a profile of 100 to 500 queries and predicts the outcomes of other queries, by cross-entropy. So
    they know no endpoint by name: a new one needs only its profile, which `partial_fit` swaps in, the newest outcomes
    first. What a step learns from is masked where it was not observed.

    W starts as the identity, or, where `width` < d, as the projection on the embeddings' first principal axes. With
    `steps` = 0 it stays there, and the policy is softmax-weighted nearest neighbours over the profile.

    The profile takes queries evenly over their difficulty, the mean outcome of all endpoints. Memory: the projected
    profile, 4 width + 8 E bytes a query, whatever the history.

    Size, sharpness and training were compared by cross-validation inside the training halves of two sets of real
    outcomes (docs/policies.md): 2,000 queries are better than 500, on one of them beyond the noise; without training
    the estimates are much more wrong. Where eleven endpoints share no query, a full profile has 22,000 rows: one query
    takes 0.7 ms of processor time, 99 % of them less than 1.3 ms.

    After Wang et al., 2025, "ICL-Router: in-context learned model representations for LLM routing" (arXiv 2510.09719),
    whose router is a language model of seven billion weights that reads the profile; here attention alone is left.
    """

    profile_max: Annotated[int, Ge(1), Le(100_000), doc("queries by which an endpoint is known, at most")] = 2_000
    width: Annotated[int, Ge(1), Le(4_096), doc("components of a projected query")] = 128
    sharpness: Annotated[float, Gt(0), Le(1_000), doc("how fast attention fades with distance, before training")] = 10.0
    steps: Annotated[int, Ge(0), Le(100_000), doc("profiles drawn in training; 0 = no training")] = 150
    rate: Annotated[float, Gt(0), Le(1), doc("how far a step of training goes")] = 3e-3
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other profiles")] = 0

    def __post_init__(self) -> None:
        self.book_: _Book | None = None

    def fit(self, experience: Experience) -> Self:
        quality, _ = experience.table()
        seen = np.flatnonzero(np.isfinite(quality).any(axis=1))
        embedding, quality = experience.queries.embedding[seen], quality[seen].astype(np.float64)
        attention = trained(
            Attention.start(embedding, width=self.width, sharpness=self.sharpness),
            embedding,
            quality,
            steps=self.steps,
            rate=self.rate,
            seed=self.seed,
        )
        empty = _Pages.empty(experience.queries.space, experience.queries.embedding.shape[1], self.width)
        self.book_ = _Book(attention, empty).learn(experience, self.profile_max, self.seed)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        self.book_ = self._book().learn(experience, self.profile_max, self.seed)
        return self

    def score(self, queries: Queries) -> Scores:
        book = self._book()
        queries.expect(space=book.pages.space, width=book.pages.width)
        quality = np.empty((len(queries), len(book.pages.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            quality[batch], stddev[batch] = book.estimate(queries.embedding[batch])
        return Scores(endpoints=book.pages.endpoints, quality=quality, stddev=stddev)

    def save(self, directory: Path) -> None:
        book = self._book()
        pages = book.pages
        facts = {"endpoints": list(pages.endpoints), "space": pages.space, "width": pages.width}
        arrays = {"key": pages.key, "outcome": pages.outcome, **book.attention.packed()}
        write_state(directory, self, facts=facts, arrays=arrays)

    @classmethod
    def load(cls, directory: Path) -> Self:
        names = ("key", "outcome", *Attention.PACKED)
        policy, facts, arrays = read_state(directory, cls, facts=("endpoints", "space", "width"), arrays=names)
        pages = _Pages(
            endpoints=tuple(facts["endpoints"]),
            space=facts["space"],
            width=facts["width"],
            key=arrays.pop("key"),
            outcome=arrays.pop("outcome"),
        )
        policy.book_ = _Book(Attention.unpacked(arrays), pages)
        return policy

    def _book(self) -> _Book:
        if self.book_ is None:
            raise NotFitted("Profile has learned nothing yet", hint="call fit first")
        return self.book_


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pages:
    """The profiles of all endpoints over R queries, the oldest first. Nothing here is ever written in place.

    width : d of the embeddings
    key : float32 (R, r), the queries projected, times the root of the sharpness
    outcome : float64 (R, E), NaN where the query is not in the endpoint's profile
    """

    endpoints: tuple[str, ...]
    space: str
    width: int
    key: Floats
    outcome: Floats

    @classmethod
    def empty(cls, space: str, width: int, rank: int) -> Self:
        key = np.zeros((0, min(rank, width)), dtype=np.float32)
        return cls(endpoints=(), space=space, width=width, key=key, outcome=np.zeros((0, 0)))

    def append(self, endpoints: tuple[str, ...], key: Floats, outcome: Floats, profile_max: int) -> _Pages:
        """These and then newer ones, over the union of both pools; each endpoint keeps its newest `profile_max`."""
        names = (*self.endpoints, *(name for name in endpoints if name not in self.endpoints))
        both = np.full((len(self.key) + len(key), len(names)), np.nan)
        both[: len(self.key), : len(self.endpoints)] = self.outcome
        both[len(self.key) :, [names.index(name) for name in endpoints]] = outcome
        newer = np.isfinite(both)[::-1].cumsum(axis=0)[::-1]
        both[newer > profile_max] = np.nan
        kept = np.isfinite(both).any(axis=1)
        return replace(self, endpoints=names, key=np.concatenate([self.key, key])[kept], outcome=both[kept])


class _Book:
    """Attention, profiles and what is derived from them. Never changed once built, so copies of a policy share it."""

    def __init__(self, attention: Attention, pages: _Pages) -> None:
        self.attention, self.pages = attention, pages
        known = np.isfinite(pages.outcome)
        outcome = np.where(known, pages.outcome, 0.0)
        count = known.sum(axis=0)
        mean, variance, _ = shrunk(count, outcome.sum(axis=0), (outcome**2).sum(axis=0))
        self._spread = variance / (mean * (1.0 - mean))
        self._trust = count / (count + 1.0)
        raw = outcome.sum(axis=0) / np.maximum(count, 1)
        self._general = attention.bias + attention.general * (2.0 * raw - 1.0)
        self._known = known.astype(np.float64)
        self._votes = np.concatenate([self._known, np.where(known, 2.0 * outcome - 1.0, 0.0)], axis=1)  # (R, 2E)
        self._keys = np.ascontiguousarray(pages.key.T)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Book:
        return self

    def learn(self, experience: Experience, profile_max: int, seed: int) -> _Book:
        """With the outcomes of `experience` in the profiles."""
        experience.queries.expect(space=self.pages.space, width=self.pages.width)
        quality = experience.table()[0].astype(np.float64)
        order = _evenly(quality, seed)[::-1]  # of too many the last are kept: the first drawn stand last
        order = order[np.isfinite(quality[order]).any(axis=1)]
        key = self.attention.project(experience.queries.embedding[order])
        return _Book(self.attention, self.pages.append(experience.endpoints, key, quality[order], profile_max))

    def estimate(self, embedding: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), of queries (Q, d)."""
        # One product per query, so that a batch gives the bits its rows would.
        logit = np.matmul(self.attention.project(embedding)[:, None, :], self._keys)[:, 0].astype(np.float64)
        weight = np.exp(logit - logit.max(axis=1, keepdims=True, initial=-np.inf))[:, None, :]
        endpoints = len(self.pages.endpoints)
        sums = np.matmul(weight, self._votes)[:, 0]
        total, good = sums[:, :endpoints], sums[:, endpoints:]
        square = np.matmul(weight**2, self._known)[:, 0]
        local = np.divide(good, total, out=np.zeros_like(good), where=total > 0)
        count = np.divide(total**2, square, out=np.zeros_like(good), where=square > 0)
        quality = 1.0 / (1.0 + np.exp(-self._trust * (self._general + self.attention.gain * local)))
        return quality, np.minimum(np.sqrt(self._spread * quality * (1.0 - quality) / (count + 1.0)), 0.5)


def _evenly(quality: Floats, seed: int) -> Ints:
    """All rows of a table (Q, E) in an order whose every beginning holds easy and hard queries alike."""
    known = np.isfinite(quality)
    difficulty = np.where(known, quality, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    order = np.random.default_rng(seed).permutation(len(quality))
    strata = np.array_split(order[np.argsort(difficulty[order], kind="stable")], _STRATA)
    drawn = [np.random.default_rng((seed, i)).permutation(stratum) for i, stratum in enumerate(strata)]
    longest = max(len(stratum) for stratum in strata)
    return np.array([s[i] for i in range(longest) for s in drawn if i < len(s)], dtype=np.int64)
