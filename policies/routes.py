"""Routes: people say in words which endpoints should answer what; outcomes have the last word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Gt, Le, MaxLen, doc

from policies._cells import add_outcomes, union
from policies._moments import shrunk
from policies._routes import HostedModel, Matcher, Route
from policies._store import read_state, write_state
from router_gateway.core.errors import BadParameters, NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.route_question import OTHER, RouteQuestion
from router_gateway.core.types import Floats, Ints, Queries, Scores

_BATCH = 256  # queries scored at a time: bounds the (batch, R, 1 + J) arrays


@dataclass(kw_only=True)
class Routes:
    """Each route is a description, a few examples and a ranking of endpoints, written by whoever runs the gateway.

    How alike a query x is to a route, how likely it belongs there, and when it belongs nowhere ("other"):

        a_r = max(cos(x, description_r), mean of the 3 largest cos(x, examples of r))
        p_r = exp(a_r / T) / sum_r exp(a_r / T)
        other: max a < similarity_min, or the second a within margin_min of it

    T makes the examples' own routes most likely, and `similarity_min` is, unless given, the 5th percentile of their
    a_r, each example matched as if it were not one. For a query like none the answer is `BestOnAverage`'s. Else let
    n, t and u be the count, sum and sum of squares of an endpoint's outcomes on the route, m, e and m_2 its mean over
    all its outcomes, the error and the mean of squares (`policies._moments`), s = prior_weight, and M the largest m:

        prior   = M + (1 - M) (K - k) / (K + 1)   for the k-th (from 0) of the K endpoints ranked, or m for the others
        x_r     = (t + s prior) / (n + s)
        y_r     = (u + s prior) / (n + s) - x_r², with m_2 for the endpoints not ranked
        quality = sum_r p_r x_r
        stddev² = sum_r p_r (y_r / (n + s + 1) + (x_r - quality)²) + (sum_r p_r s / (n + s) e)², at most 1/4

    So without outcomes on a route its ranking decides, above all that are not ranked, and with many the outcomes do.
    y_r / (n + s + 1) is the variance of a Beta posterior whose prior counts s answers. Prices are weighed against
    this as against any quality. Without routes, or when none is near, this is `BestOnAverage`, doubt included. An
    endpoint ranked but never seen is scored too, with doubt 1/2.

    The routes' vectors come from `learn_texts`, before `fit`; changing a ranking or a text is a new `fit`.

    Of a conversation the last `turns_max` user turns are read (`Queries.earlier`): x is their sum, `fading` to the
    power of their age, and after each turn the conversation stays on its route unless another is liker by
    `advantage_min`, which is added to a_r of the route it was on. So nothing is remembered between requests. What is
    learned from has single turns.

    With `asks`, a language model behind an OpenAI-compatible URL names the route instead: p is 1 for it, and its
    "other" is ours. Where it does not answer in time, or with no name of ours (`Queries.routes`), it is as above.

    Tran et al., 2025, "Arch-Router: aligning LLM routing with human preferences" (arXiv 2506.16655), which asks a
    language model of 1.5 billion parameters for the route; similarities take its place here, unless it is hosted.
    """

    routes: Annotated[tuple[Route, ...], MaxLen(64), doc("kinds of request and who should answer them")] = ()
    similarity_min: Annotated[float, Ge(-1), Le(1), doc("less alike is no match; null = learned")] | None = None
    margin_min: Annotated[float, Ge(0), Le(2), doc("two routes as close as this are no match")] = 0.02
    prior_weight: Annotated[float, Gt(0), Le(1e9), doc("outcomes that the ranking counts for")] = 5.0
    fading: Annotated[float, Ge(0), Le(1), doc("weight of a turn relative to the next one")] = 0.6
    advantage_min: Annotated[float, Ge(0), Le(2), doc("how much liker another route must be to change to it")] = 0.05
    turns_max: Annotated[int, Ge(1), Le(32), doc("user turns read of a conversation, the newest included")] = 6
    asks: Annotated[HostedModel | None, doc("a language model that is asked for the route; null asks none")] = None

    def __post_init__(self) -> None:
        self.routes = tuple(map(Route.of, self.routes))  # a saved policy brings them as JSON
        self.asks = None if self.asks is None else HostedModel.of(self.asks)
        names = [*(route.name for route in self.routes), OTHER]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"routes need names of their own, and not {OTHER!r}: {', '.join(twice)}")
        self.texts_: Queries | None = None
        self.table_: _Table | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """What `learn_texts` is to be given the vectors of."""
        return tuple(text for route in self.routes for text in route.texts)

    @property
    def question(self) -> RouteQuestion | None:
        """What the model of `asks` is to choose between; None where none is to be asked."""
        if self.asks is None or not self.routes:
            return None
        return RouteQuestion(
            base_url=self.asks.base_url,
            model=self.asks.model,
            api_key_env=self.asks.api_key_env,
            timeout_ms=self.asks.timeout_ms,
            descriptions={route.name: route.description for route in self.routes},
        )

    def learn_texts(self, texts: Queries) -> Self:
        """Take the vectors of `texts`, in that order."""
        if texts.text != self.texts:
            raise BadParameters("these are the vectors of other texts than the routes'")
        self.texts_ = texts
        return self

    def fit(self, experience: Experience) -> Self:
        queries, names = experience.queries, list(experience.endpoints)
        names += dict.fromkeys(name for route in self.routes for name in route.endpoints if name not in names)
        outcomes = _Outcomes(
            endpoints=tuple(names),
            space=queries.space,
            on_route=np.zeros((3, len(self.routes) + 1, len(names))),
        )
        matcher = self._matcher(queries.space, queries.embedding.shape[1])
        self.table_ = self._learned(matcher, outcomes, experience)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        table = self._table()
        self.table_ = self._learned(table.matcher, table.outcomes, experience)
        return self

    def score(self, queries: Queries) -> Scores:
        table = self._table()
        queries.expect(space=table.outcomes.space, width=table.width)
        quality = np.empty((len(queries), len(table.outcomes.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            asked = queries.take(batch)
            quality[batch], stddev[batch] = table.estimate(*self._followed(asked, np.full(len(asked), -1)))
        return Scores(endpoints=table.outcomes.endpoints, quality=quality, stddev=stddev)

    def match(self, queries: Queries, held: Sequence[str | None] | None = None) -> tuple[str, ...]:
        """Name of each query's route, or OTHER. Raises NotFitted.

        held : the route each conversation was on before the turns given, None for a new one. It stays there unless
        another is liker by `advantage_min`; "other" counts as being as like as `similarity_min`.
        """
        table = self._table()
        queries.expect(space=table.outcomes.space, width=table.width)
        names = [*(route.name for route in self.routes), OTHER]
        before = [-1 if name is None else names.index(name) for name in held or [None] * len(queries)]
        _, found = self._followed(queries, np.array(before, dtype=np.int64))
        return tuple(names[route] for route in found)

    def follow(self, turns: Queries) -> tuple[str, ...]:
        """The route after each user turn of one conversation, oldest first."""
        routes: list[str] = []
        for turn in range(len(turns)):
            before = turns.embedding[max(turn + 1 - self.turns_max, 0) : turn]
            routes += self.match(replace(turns.take(slice(turn, turn + 1)), earlier=before[None]))
        return tuple(routes)

    def save(self, directory: Path) -> None:
        table = self._table()
        facts = {"endpoints": list(table.outcomes.endpoints), "space": table.outcomes.space}
        texts = table.matcher.vector[table.matcher.known]
        arrays = {"texts": texts.reshape(len(texts), table.width), "on_route": table.outcomes.on_route}
        write_state(directory, self, facts=facts, arrays=arrays)

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(directory, cls, facts=("endpoints", "space"), arrays=("texts", "on_route"))
        texts, space = arrays["texts"], facts["space"]
        tokens = np.zeros(len(texts), dtype=np.int64)
        policy.learn_texts(Queries(text=policy.texts, embedding=texts, tokens_input=tokens, space=space))
        outcomes = _Outcomes(endpoints=tuple(facts["endpoints"]), space=space, on_route=arrays["on_route"])
        policy.table_ = policy._derived(policy._matcher(space, texts.shape[1]), outcomes)
        return policy

    def _matcher(self, space: str, width: int) -> Matcher:
        if not self.routes:
            return Matcher.of(np.zeros((0, width), dtype=np.float32), (), self.similarity_min)
        if self.texts_ is None:
            raise NotFitted("the routes' texts have no vectors yet", hint="call learn_texts before fit")
        self.texts_.expect(space=space, width=width)
        return Matcher.of(self.texts_.embedding, self.routes, self.similarity_min)

    def _learned(self, matcher: Matcher, outcomes: _Outcomes, experience: Experience) -> _Table:
        queries = experience.queries
        queries.expect(space=outcomes.space, width=matcher.vector.shape[2])
        seen, row = np.unique(experience.query, return_inverse=True)
        route = matcher.match(matcher.similarity(queries.embedding[seen]), self.margin_min)
        return self._derived(matcher, outcomes.plus(experience, route[row]))

    def _derived(self, matcher: Matcher, outcomes: _Outcomes) -> _Table:
        return _Table(matcher, outcomes, _ranks(self.routes, outcomes.endpoints), self.prior_weight)

    def _followed(self, queries: Queries, held: Ints) -> tuple[Floats, Ints]:
        alike, found = self._table().matcher.follow(
            queries, held, fading=self.fading, advantage_min=self.advantage_min, margin_min=self.margin_min
        )
        names = [*(route.name for route in self.routes), OTHER]
        for row, said in enumerate(queries.routes or ()):
            if said in names:  # nobody else has a say
                found[row] = names.index(said)
                alike[row] = np.where(np.arange(alike.shape[1]) == found[row], 0.0, -np.inf)
        return alike, found

    def _table(self) -> _Table:
        if self.table_ is None:
            raise NotFitted("Routes has learned nothing yet", hint="call fit first")
        return self.table_


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcomes:
    """What was observed. Nothing here is ever written in place.

    on_route : float64 (3, R + 1, E), number of outcomes, their sum, the sum of their squares; those of "other" last
    """

    endpoints: tuple[str, ...]
    space: str
    on_route: Floats

    def plus(self, experience: Experience, route: Ints) -> _Outcomes:
        """These and the outcomes of `experience`, `route` (N,) of R + 1, over the union of both pools."""
        names, column = union(self.endpoints, experience)
        on_route = np.zeros((*self.on_route.shape[:2], len(names)))
        on_route[:, :, : len(self.endpoints)] = self.on_route
        add_outcomes(on_route, route, column, experience.quality)
        return replace(self, endpoints=names, on_route=on_route)


class _Table:
    """Outcomes and what is derived from them. Never changed once built, so copies of a policy share it."""

    def __init__(self, matcher: Matcher, outcomes: _Outcomes, prior_share: Floats, prior_weight: float) -> None:
        self.matcher = matcher
        self.outcomes = outcomes
        self.width = matcher.vector.shape[2]
        self._mean, variance, self._error = shrunk(*outcomes.on_route.sum(axis=1))
        best = self._mean.max(initial=0.0)
        ranked = prior_share > 0
        prior = np.where(ranked, best + (1.0 - best) * prior_share, self._mean)
        prior_square = np.where(ranked, prior, variance + self._mean**2)
        count, total, square = outcomes.on_route[:, :-1]
        weight = count + prior_weight
        self._quality = (total + prior_weight * prior) / weight
        spread = (square + prior_weight * prior_square) / weight - self._quality**2
        # the mean of squares over what the route's expectation may be
        self._square = np.maximum(spread, 0.0) / (weight + 1.0) + self._quality**2
        self._common = prior_weight / weight * self._error

    def __deepcopy__(self, memo: dict[int, Any]) -> _Table:
        return self

    def estimate(self, alike: Floats, route: Ints) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), from the similarity to R routes, (Q, R), and the route found, (Q,)."""
        shape = (len(alike), len(self._mean))
        if not len(self.matcher):
            return np.broadcast_to(self._mean, shape), np.broadcast_to(self._error, shape)
        lost = (route == len(self.matcher))[:, None]
        # One product per query, so that a batch gives the bits its rows would.
        share = self.matcher.probability(alike)[:, None, :]
        quality = np.matmul(share, self._quality)[:, 0]
        spread = np.matmul(share, self._square)[:, 0] - quality**2
        common = np.matmul(share, self._common)[:, 0]
        doubt = np.minimum(np.sqrt(np.maximum(spread, 0.0) + common**2), 0.5)
        return np.clip(np.where(lost, self._mean, quality), 0.0, 1.0), np.where(lost, self._error, doubt)


def _ranks(routes: Sequence[Route], endpoints: Sequence[str]) -> Floats:
    """float64 (R, E): (K - k) / (K + 1) for the k-th of K endpoints that a route ranks, 0 for the others."""
    share = np.zeros((len(routes), len(endpoints)))
    for row, route in enumerate(routes):
        ranked = list(dict.fromkeys(route.endpoints))
        for place, name in enumerate(ranked):
            share[row, endpoints.index(name)] = (len(ranked) - place) / (len(ranked) + 1)
    return share
