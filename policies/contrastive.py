"""Contrastive: queries and endpoints in one space, where near means good; and what near is worth, calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from annotated_types import Ge, Gt, Le, doc

from policies._contrasts import bands_of, cost_banded, partners, sample_endpoint, sample_sample, top_and_bottom
from policies._heads import Heads, Objective, fresh_layers, train, unit
from policies._kmeans import centroids
from policies._placing import ARRAYS, Placed, nearest, spread_over
from policies._store import read_state, write_state
from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Bools, Floats, Ints, Queries, Scores

_HEADS = 3  # each trained without a third of the queries, which then tell what its similarities are worth
_ROWS_MIN = 40  # fewer queries teach a head nothing that would hold elsewhere
_BATCH = 64  # queries scored at a time: bounds the (batch, heads, E) arrays


@dataclass(kw_only=True)
class Contrastive:
    """Cosine of a query's and an endpoint's place in a space learned by contrast, turned into quality afterwards.

    Three heads h_f (d -> `hidden` -> r, ReLU, no biases, length 1) are trained on the frozen embedding, each without a
    third of the queries. With p_fe the endpoint's unit vector under head f and a, b its slope and intercept:

        s_f     = h_f(x) · p_fe                          a similarity, which is no probability
        quality = mean over f of sigmoid(a s_f + b)      a, b by logistic regression on the queries that head f never
                                                         saw, drawn to what endpoints have in common (`policies._platt`)
        stddev² = mean over f of the variance by a and b + 2/3 sum_f (q_f - quality)² + misfit, at most 1/4

    where q_f are the three terms, their sum is the jackknife's variance of leaving out a third, and `misfit` says how
    good a guide similarity is at all: the variance of the endpoint's quality by kind of query around it, from the
    errors that unseen queries of one kind have in common.

    `loss` = "dual" is RouterDC: endpoints' vectors are learned (r = `width`); each of a query's `top` best endpoints is
    contrasted with its `bottom` worst, unless those are better than 1/2; and, weighing `kind_weight`, a query of its
    own kind (k-means, `kinds`) with three of other kinds. `kind_weight` = 0 leaves the first loss alone. The paper
    fine-tunes the encoder, at temperature 1.

    `loss` = "cost_bands" is CSCR: an endpoint's vector is what it got right by kind of query, less its mean
    (r = number of kinds), and only heads are learned; in each of at most `bands` bands of the endpoints' mean cost the
    right ones are contrasted with all, at a temperature that rises from `temperature_min` by `temperature_span` with
    the band's cost, and the dear pushed away by `cost_penalty`. Right is what is at least as good as the query's mean.
    `bands` = 1 and `cost_penalty` = 0 is InfoNCE. Costs are used in training and never again. The paper's vectors are
    next-token probabilities or perplexities of answers, which a gateway does not have; its lowest temperature is .05.

    Both learn from queries of which several outcomes are known. An endpoint that `fit` did not see gets its vector from
    its probes in `partial_fit`, heads as they are: the direction in which its quality rises ("dual") or
    its quality by kind ("cost_bands"); then its own calibration. For known ones the calibration alone learns on. With
    "cost_bands" a strength that no endpoint of `fit` had is not seen in a new one: heads tell apart what they had to.

    Loss, temperature and steps were compared by cross-validation inside the training halves of two sets of real
    outcomes (docs/policies.md): "dual" routes better than a coin flip between endpoints on both, "cost_bands" clearly
    so on one of them, with half the gain. As an estimate, either is nearly as wrong as the endpoint's mean.

    Chen et al., 2024, "RouterDC: query-based router by dual contrastive learning" (arXiv 2409.19886). Shirkavand et
    al., 2025, "Cost-aware contrastive routing for LLMs" (arXiv 2508.12491).
    """

    loss: Annotated[Literal["dual", "cost_bands"], doc("dual = RouterDC, cost_bands = CSCR")] = "dual"
    hidden: Annotated[int, Ge(0), Le(4_096), doc("units between embedding and space; 0 = a linear head")] = 256
    width: Annotated[int, Ge(1), Le(4_096), doc("dual: components of the space")] = 128
    kinds: Annotated[int, Ge(1), Le(4_096), doc("kinds of query told apart")] = 32
    temperature: Annotated[float, Gt(0), Le(10), doc("dual: difference of cosines that counts as one step")] = 0.3
    top: Annotated[int, Ge(1), doc("dual: endpoints of a query that are drawn near")] = 3
    bottom: Annotated[int, Ge(1), doc("dual: endpoints of a query that are pushed away")] = 3
    kind_weight: Annotated[float, Ge(0), doc("dual: weight of telling kinds of query apart")] = 1.0
    bands: Annotated[int, Ge(1), doc("cost_bands: bands of prices, at most half as many as endpoints")] = 5
    temperature_min: Annotated[float, Gt(0), Le(10), doc("cost_bands: temperature where a call costs least")] = 0.2
    temperature_span: Annotated[float, Ge(0), Le(10), doc("cost_bands: what the dearest band's is above it")] = 0.25
    cost_penalty: Annotated[float, Ge(0), Le(10), doc("cost_bands: cosine that the dearest is pushed away by")] = 0.2
    steps: Annotated[int, Ge(0), Le(100_000), doc("batches of 256 queries in training")] = 60
    rate: Annotated[float, Gt(0), Le(1), doc("how far a step of training goes")] = 2e-3
    decay: Annotated[float, Ge(0), Le(100), doc("how strongly weights are held to zero")] = 0.01
    seed: Annotated[int, Ge(0), Le(2**32 - 1), doc("another seed, other beginnings and folds")] = 0

    def __post_init__(self) -> None:
        self.placed_: Placed | None = None

    def fit(self, experience: Experience) -> Self:
        quality, cost_usd = experience.table()
        observed = np.isfinite(quality)
        seen = np.flatnonzero(observed.any(axis=1))
        embedding, quality = experience.queries.embedding[seen], quality[seen].astype(np.float64)
        rng = np.random.default_rng(self.seed)
        fold = rng.permutation(len(seen)) % _HEADS
        centres = centroids(embedding, clusters=self.kinds, seed=self.seed)
        trained = observed.any(axis=0) & (len(seen) >= _ROWS_MIN) & (observed.any(axis=0).sum() > 1)
        mean_cost = _mean(cost_usd)
        layers, vectors = [], []
        for f in range(_HEADS):
            found = self._head(embedding[fold != f], quality[fold != f], mean_cost, centres, bool(trained.any()), rng)
            layers.append(found[0])
            vectors.append(found[1])
        blank = Placed.blank(
            endpoints=experience.endpoints,
            space=experience.queries.space,
            heads=Heads.joined(layers),
            vectors=np.stack(vectors) * trained[:, None].astype(np.float32),
            trained=trained,
            centres=centres,
            by_kind=self.loss == "cost_bands",
        )
        self.placed_ = blank.first(experience, fold)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        self.placed_ = self._placed().learn(experience)
        return self

    def score(self, queries: Queries) -> Scores:
        placed = self._placed()
        queries.expect(space=placed.space, width=placed.heads.width)
        quality = np.empty((len(queries), len(placed.endpoints)), dtype=np.float32)
        stddev = np.empty_like(quality)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            quality[batch], stddev[batch] = placed.estimate(queries.embedding[batch])
        return Scores(endpoints=placed.endpoints, quality=quality, stddev=stddev)

    def save(self, directory: Path) -> None:
        placed = self._placed()
        facts = {"endpoints": list(placed.endpoints), "space": placed.space, "by_kind": placed.by_kind}
        write_state(directory, self, facts=facts, arrays=placed.packed())

    @classmethod
    def load(cls, directory: Path) -> Self:
        policy, facts, arrays = read_state(directory, cls, facts=("endpoints", "space", "by_kind"), arrays=ARRAYS)
        policy.placed_ = Placed.unpacked(tuple(facts["endpoints"]), facts["space"], facts["by_kind"], arrays)
        return policy

    def _placed(self) -> Placed:
        if self.placed_ is None:
            raise NotFitted("Contrastive has learned nothing yet", hint="call fit first")
        return self.placed_

    def _head(
        self,
        embedding: Floats,
        quality: Floats,
        cost_usd: Floats,
        centres: Floats,
        learnable: bool,
        rng: np.random.Generator,
    ) -> tuple[tuple[Floats, ...], Floats]:
        """One head's layers and the endpoints' unit vectors under it, from queries (Q, d) and outcomes (Q, E)."""
        kind = nearest(embedding, centres)
        dual = self.loss == "dual"
        if dual:
            vectors = unit(rng.normal(size=(quality.shape[1], self.width)))
        else:
            vectors = spread_over(kind, quality, len(centres))
        vectors = vectors.astype(np.float32)
        layers = fresh_layers(rng, embedding.shape[1], self.hidden, vectors.shape[1])
        if not learnable:
            return layers, vectors
        objective = self._dual(quality, kind) if dual else self._cost_bands(quality, cost_usd)
        return train(
            layers,
            vectors,
            embedding,
            objective,
            steps=self.steps,
            rate=self.rate,
            decay=self.decay,
            learn_vectors=dual,
            rng=rng,
        )

    def _dual(self, quality: Floats, kind: Ints) -> Objective:
        """The gradients of RouterDC's two losses."""

        def gradients(query: Floats, endpoint: Floats, rows: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
            similarity = query @ endpoint.T
            order = rng.random(similarity.shape)
            positive, negative = top_and_bottom(quality[rows], order, top=self.top, bottom=self.bottom)
            _, slope = sample_endpoint(similarity, positive, negative, temperature=self.temperature)
            by_query = slope @ endpoint
            if self.kind_weight and (chosen := partners(kind[rows], rng)) is not None:
                _, away = sample_sample(query @ query.T, *chosen, temperature=self.temperature)
                by_query = by_query + self.kind_weight * ((away + away.T) @ query)
            return by_query, slope.T @ query

        return gradients

    def _cost_bands(self, quality: Floats, cost_usd: Floats) -> Objective:
        """The gradients of CSCR's loss."""
        known = np.isfinite(quality)
        filled = np.where(known, quality, 0.0)
        correct = known & (filled > 0) & (filled >= filled.sum(1, keepdims=True) / np.maximum(known.sum(1), 1)[:, None])
        band = bands_of(cost_usd, bands=self.bands)
        cost = _scaled(cost_usd)
        temperature = np.array(
            [self.temperature_min + self.temperature_span * cost[band == k].mean() for k in range(band.max() + 1)]
        )

        def gradients(query: Floats, endpoint: Floats, rows: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
            similarity = query @ endpoint.T
            _, slope = cost_banded(
                similarity,
                correct[rows],
                known[rows],
                band=band,
                temperature=temperature,
                cost=cost,
                cost_penalty=self.cost_penalty,
            )
            slope = slope.astype(np.float32)
            return slope @ endpoint, slope.T @ query

        return gradients


def _mean(table: Floats) -> Floats:
    """Of each column (E,), NaN where nothing is known."""
    known: Bools = np.isfinite(table)
    count = known.sum(axis=0)
    return np.asarray(np.where(known, table, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan))


def _scaled(cost_usd: Floats) -> Floats:
    """Costs (E,) between 0 and 1; unknown ones, and all where all are equal, are 0."""
    known = np.isfinite(cost_usd)
    least = cost_usd[known].min() if known.any() else 0.0
    span = cost_usd[known].max() - least if known.any() else 0.0
    return np.where(known & (span > 0), (np.where(known, cost_usd, least) - least) / max(span, 1e-300), 0.0)
