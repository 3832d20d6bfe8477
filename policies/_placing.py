"""Where endpoints stand in a learned space, how new ones are put there, and what standing near a query is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from policies._heads import Heads, unit
from policies._platt import Platt
from router_gateway.core.experience import Experience
from router_gateway.core.types import Bools, Floats, Ints

_KIND_PRIOR = 2.0  # outcomes by which an endpoint's quality in a kind of query is drawn to its mean

_PAIRS_PRIOR = 1_000.0  # pairs of outcomes by which an endpoint's misfit is drawn to the usual one
_PLACES = ("vectors", "trained", "count", "moments", "centres", "pairs")
ARRAYS = ("depth", "first", "last", *_PLACES, "mean", "precision", "start")
"""Names of the arrays of `Placed.packed`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """F heads, E endpoints and their calibration. Nothing here is ever written in place, so copies share it.

    vectors : float32 (F, E, r), unit vectors, or 0 where nothing is known
    trained : bool (E,), whose vectors came from `fit` and stay
    count : float64 (2, E), number of outcomes and their sum, of endpoints that are not trained; else 0
    moments : float64 (2, F, E, r), their sums of features and of features times quality
    centres : float32 (K, d), of the kinds of query
    by_kind : a feature is the kind that a query is of, not where the head puts it
    pairs : float64 (2, E), summed over pairs of outcomes of one kind of query: products of their errors, and 1
    """

    endpoints: tuple[str, ...]
    space: str
    heads: Heads
    vectors: Floats
    trained: Bools
    count: Floats
    moments: Floats
    centres: Floats
    by_kind: bool
    pairs: Floats
    platt: Platt

    def __deepcopy__(self, memo: dict[int, Any]) -> Placed:
        return self

    @classmethod
    def blank(
        cls,
        *,
        endpoints: tuple[str, ...],
        space: str,
        heads: Heads,
        vectors: Floats,
        trained: Bools,
        centres: Floats,
        by_kind: bool,
    ) -> Self:
        """Before calibration."""
        return cls(
            endpoints=endpoints,
            space=space,
            heads=heads,
            vectors=vectors,
            trained=trained,
            count=np.zeros((2, len(endpoints))),
            moments=np.zeros((2, *vectors.shape)),
            centres=centres,
            by_kind=by_kind,
            pairs=np.zeros((2, len(endpoints))),
            platt=Platt.fitted(len(endpoints), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0)),
        )

    def first(self, experience: Experience, fold: Ints) -> Placed:
        """With what `fit` knows: `fold` (Q,) is the head that never saw the query, of those with an outcome."""
        similarity, placed = self._tried(experience, fold)
        platt = Platt.fitted(len(self.endpoints), similarity, experience.endpoint, experience.quality)
        return placed._judged(platt, experience, similarity)

    def learn(self, experience: Experience) -> Placed:
        """With more outcomes, over the union of both pools."""
        experience.queries.expect(space=self.space, width=self.heads.width)
        names = (*self.endpoints, *(name for name in experience.endpoints if name not in self.endpoints))
        aligned = experience.align(names)
        similarity, placed = self._widened(names)._tried(aligned, np.arange(len(aligned.queries)) % len(self.heads))
        platt = placed.platt.learn(similarity, aligned.endpoint, aligned.quality)
        return placed._judged(platt, aligned, similarity)

    def _widened(self, names: tuple[str, ...]) -> Placed:
        more = len(names) - len(self.endpoints)
        return replace(
            self,
            endpoints=names,
            vectors=np.pad(self.vectors, ((0, 0), (0, more), (0, 0))),
            trained=np.pad(self.trained, (0, more)),
            count=np.pad(self.count, ((0, 0), (0, more))),
            moments=np.pad(self.moments, ((0, 0), (0, 0), (0, more), (0, 0))),
            pairs=np.pad(self.pairs, ((0, 0), (0, more))),
            platt=self.platt.widened(len(names)),
        )

    def _tried(self, experience: Experience, fold: Ints) -> tuple[Floats, Placed]:
        """Similarities (N,) of outcomes to their endpoints as they stood without them; and the endpoints with them.

        Each query is read by one head. A vector that comes from probes is made, for the probes that the head reads,
        from the others: a calibration on what a vector was made from would believe in it too much.
        """
        seen, row = np.unique(experience.query, return_inverse=True)
        fold = fold[: len(seen)]
        embedding = experience.queries.embedding[seen]
        similarity = np.zeros(len(experience))
        count, moments, vectors = self.count.copy(), self.moments.copy(), self.vectors.copy()
        for f in range(len(self.heads)):
            place = self.heads.apply(f, embedding)
            features = self._features(embedding, place)
            standing = self.vectors[f].astype(np.float64)
            for e in np.flatnonzero(
                ~self.trained & (np.bincount(experience.endpoint, minlength=len(self.trained)) > 0)
            ):
                own = experience.endpoint == e
                quality = experience.quality[own].astype(np.float64)
                shown, here = features[row[own]], fold[row[own]] == f
                parts = _sums(shown[~here], quality[~here]), _sums(shown[here], quality[here])
                without = [
                    old + new for old, new in zip((self.count[:, e], self.moments[:, f, e]), parts[0], strict=True)
                ]
                standing[e] = self._vector(*without)
                moments[:, f, e] = without[1] + parts[1][1]
                count[:, e] = without[0] + parts[1][0]
                vectors[f, e] = self._vector(count[:, e], moments[:, f, e])
            tried = fold[row] == f
            similarity[tried] = np.einsum("nr,nr->n", place[row[tried]], standing[experience.endpoint[tried]])
        return similarity, replace(self, count=count, moments=moments, vectors=vectors)

    def _judged(self, platt: Platt, experience: Experience, similarity: Floats) -> Placed:
        """With a new calibration, and how far from it, on average, an endpoint's quality in a kind of query is."""
        kind = nearest(experience.queries.embedding, self.centres)[experience.query]
        error = experience.quality - platt.quality_of(experience.endpoint, similarity)
        cell = np.ravel_multi_index((experience.endpoint, kind), (len(self.endpoints), len(self.centres)))
        shape = len(self.endpoints), len(self.centres)
        count, total, square = (
            np.bincount(cell, weights=values, minlength=shape[0] * shape[1]).reshape(shape)
            for values in (np.ones_like(error), error, error**2)
        )
        pairs = np.stack([(total**2 - square).sum(axis=1), (count * (count - 1.0)).sum(axis=1)])
        return replace(self, platt=platt, pairs=self.pairs + pairs)

    @property
    def misfit(self) -> Floats:
        """Variance (E,) of an endpoint's quality by kind of query around what similarity says of it.

        Errors of two answers have nothing in common but that, so it is the mean product of pairs; an endpoint of which
        few are known is given what the others show.
        """
        product, pairs = self.pairs
        usual = product.sum() / max(pairs.sum(), 1.0)
        return np.asarray(np.maximum((product + _PAIRS_PRIOR * usual) / (pairs + _PAIRS_PRIOR), 0.0))

    def _features(self, embedding: Floats, place: Floats) -> Floats:
        """float64 (Q, r): which kind a query is of, or where the head puts it."""
        if not self.by_kind:
            return place.astype(np.float64)
        return np.eye(len(self.centres))[nearest(embedding, self.centres)]

    def _vector(self, count: Floats, moments: Floats) -> Floats:
        """The unit vector (r,) of an endpoint with these outcomes."""
        excess = moments[1] - count[1] / max(count[0], 1.0) * moments[0]
        return unit(excess / (moments[0] + _KIND_PRIOR) if self.by_kind else excess)

    def estimate(self, embedding: Floats) -> tuple[Floats, Floats]:
        """Quality and stddev, float64 (Q, E), of queries (Q, d)."""
        # One product per query, so that a batch gives the bits its rows would.
        place = self.heads.project(embedding)
        similarity = np.matmul(place[:, :, None, :], self.vectors.transpose(0, 2, 1))[:, :, 0].astype(np.float64)
        each, variance = self.platt.quality(similarity)  # (Q, F, E)
        quality = each.mean(axis=1)
        jackknife = (1.0 - 1.0 / len(self.heads)) * ((each - quality[:, None]) ** 2).sum(axis=1)
        return quality, np.minimum(np.sqrt(variance.mean(axis=1) + jackknife + self.misfit), 0.5)

    def packed(self) -> dict[str, Floats]:
        """As arrays to save."""
        layers = {
            "depth": np.array(len(self.heads.layers)),
            "first": self.heads.layers[0],
            "last": self.heads.layers[-1],
        }
        calibration = {"mean": self.platt.mean, "precision": self.platt.precision, "start": self.platt.start}
        return layers | {name: getattr(self, name) for name in _PLACES} | calibration

    @classmethod
    def unpacked(cls, endpoints: tuple[str, ...], space: str, by_kind: bool, arrays: dict[str, Floats]) -> Self:
        """What `packed` gave, bit for bit."""
        layers = (arrays["first"], arrays["last"])[: int(arrays["depth"])]
        platt = Platt(mean=arrays["mean"], precision=arrays["precision"], start=arrays["start"])
        places: dict[str, Any] = {name: arrays[name] for name in _PLACES}
        return cls(endpoints=endpoints, space=space, by_kind=by_kind, heads=Heads(layers=layers), platt=platt, **places)


def spread_over(kind: Ints, quality: Floats, kinds: int) -> Floats:
    """Unit vectors (E, K): quality (Q, E), with NaN, by kind of query (Q,), less the endpoint's mean."""
    known = np.isfinite(quality)
    filled = np.where(known, quality, 0.0)
    of_kind = np.eye(kinds)[kind].T
    mean = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    shown = of_kind @ known
    return unit(((of_kind @ filled - mean * shown) / (shown + _KIND_PRIOR)).T)


def nearest(embedding: Floats, centres: Floats) -> Ints:
    """Which of the centres (K, d) each row (Q, d) is nearest to."""
    return np.asarray((embedding @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1))


def _sums(features: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Number of outcomes and their sum, (2,), and sums of features and of features times quality, (2, r)."""
    count = np.array([len(quality), quality.sum()])
    return count, np.stack([features.sum(axis=0), quality @ features])
