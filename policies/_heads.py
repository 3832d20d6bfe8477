"""Heads: embeddings projected to where contrastive learning puts queries, and how one is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from policies._adam import Adam
from router_gateway.core.types import Floats, Ints

Objective = Callable[[Floats, Floats, Ints, np.random.Generator], tuple[Floats, Floats]]
"""Projected queries (B, r), unit vectors of endpoints (E, r), rows (B,): gradients with respect to the two."""

_BATCH = 256
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads:
    """F networks d -> hidden -> r without biases, ReLU between, outputs of length 1. hidden = 0: a linear map.

    layers : float32 (F, d, hidden) and (F, hidden, r), or (F, d, r) alone
    """

    layers: tuple[Floats, ...]

    def __len__(self) -> int:
        return len(self.layers[0])

    @property
    def width(self) -> int:
        return int(self.layers[0].shape[1])

    def project(self, embedding: Floats) -> Floats:
        """float32 (Q, F, r) of embeddings (Q, d); a row does not depend on the others."""
        out = np.broadcast_to(
            embedding.astype(np.float32)[:, None, None, :], (len(embedding), len(self), 1, self.width)
        )
        for layer in self.layers[:-1]:
            out = np.maximum(np.matmul(out, layer), 0.0)
        return unit(np.matmul(out, self.layers[-1])[:, :, 0])

    def apply(self, f: int, embedding: Floats) -> Floats:
        """float32 (Q, r) by head f alone, faster; last bits depend on the batch."""
        out = embedding.astype(np.float32)
        for layer in self.layers[:-1]:
            out = np.maximum(out @ layer[f], 0.0)
        return unit(out @ self.layers[-1][f])

    @classmethod
    def joined(cls, heads: list[tuple[Floats, ...]]) -> Self:
        """From each head's layers."""
        return cls(layers=tuple(np.stack(layer) for layer in zip(*heads, strict=True)))


def unit(vectors: Floats) -> Floats:
    """Scaled to length 1 over the last axis; zero stays zero."""
    length = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    return np.asarray(vectors / np.maximum(length, _TINY))


def fresh_layers(rng: np.random.Generator, *sizes: int) -> tuple[Floats, ...]:
    """Random layers between these widths, scaled to keep lengths; widths of 0 are passed over."""
    widths = [size for size in sizes if size]
    return tuple((rng.normal(size=(a, b)) / np.sqrt(a)).astype(np.float32) for a, b in pairwise(widths))


def train(
    layers: tuple[Floats, ...],
    vectors: Floats,
    embedding: Floats,
    objective: Objective,
    *,
    steps: int,
    rate: float,
    decay: float,
    learn_vectors: bool,
    rng: np.random.Generator,
) -> tuple[tuple[Floats, ...], Floats]:
    """The layers and the vectors (E, r) after `steps` batches of `embedding` (Q, d)."""
    arrays = {f"layer{i}": layer.copy() for i, layer in enumerate(layers)} | {"vectors": vectors.copy()}
    points = embedding.astype(np.float32)
    adam = Adam(arrays, rate=rate, steps=steps, decay=decay)
    left = np.zeros(0, dtype=np.int64)
    with threadpool_limits(limits=1):  # sums of several threads differ in their last bits
        for _ in range(steps):
            if len(left) < min(_BATCH, len(points)):
                left = rng.permutation(len(points))
            rows, left = left[:_BATCH], left[_BATCH:]
            gradients = _gradients(arrays, points[rows], objective, rows, rng)
            if not learn_vectors:
                del gradients["vectors"]
            adam.step(gradients)
    return tuple(arrays[f"layer{i}"] for i in range(len(layers))), unit(arrays["vectors"])


def _gradients(
    arrays: dict[str, Floats], points: Floats, objective: Objective, rows: Ints, rng: np.random.Generator
) -> dict[str, Floats]:
    names = [name for name in arrays if name != "vectors"]
    inputs = [points]
    for name in names:
        out = inputs[-1] @ arrays[name]
        inputs.append(np.maximum(out, 0.0) if name != names[-1] else out)
    by_query, by_endpoint = objective(unit(inputs[-1]), unit(arrays["vectors"]), rows, rng)
    gradients = {"vectors": _through_unit(arrays["vectors"], by_endpoint)}
    back = _through_unit(inputs[-1], by_query)
    for i in range(len(names) - 1, -1, -1):
        gradients[names[i]] = inputs[i].T @ back
        if i:
            back = (back @ arrays[names[i]].T) * (inputs[i] > 0)
    return gradients


def _through_unit(vectors: Floats, gradient: Floats) -> Floats:
    """The gradient with respect to `vectors`, given the one with respect to `unit(vectors)`."""
    length = np.maximum(np.sqrt((vectors**2).sum(axis=1, keepdims=True)), _TINY)
    direction = vectors / length
    return np.asarray((gradient - direction * (gradient * direction).sum(axis=1, keepdims=True)) / length)
