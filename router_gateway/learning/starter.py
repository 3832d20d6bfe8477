"""The starter prior: what may be expected of endpoints before anybody was asked anything, from declared abilities."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from router_gateway.core.errors import ConfigError
from router_gateway.core.experience import Experience
from router_gateway.core.prior import Prior
from router_gateway.core.protocols import Embedder
from router_gateway.core.types import Floats, Queries

ASSET = Path(__file__).parent / "assets" / "starter_prior.npz"
"""Made by `make starter-prior`; its provenance is in it, and in docs/onboarding.md."""

_ROUNDS = 60  # of bisection: the mean is then right to the last bit of float32


OUTCOMES = 50.0
"""What a declared ability is worth: with an error of 0.06 in it, 50 answers know the mean as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StarterPrior:
    """How the quality of an answer depends on the query and on who answers, an endpoint's mean a (its ability) given.

        quality = sigmoid(c + u'x + (1 + v'x) logit(a))            x the query's vector less `centre`

    the two-parameter logistic model of item response theory, with ease and discrimination linear in the vector.

    space : of the vectors that u and v are for
    vectors : float32 (V, d), typical queries in that space; their mean is the centre
    ease, slope : float64 (d,), u and v
    texts : P prompts, written for this project, for policies and spaces that need texts; the most typical first
    text_ease, text_slope : float64 (P,), u'x and 1 + v'x of their vectors
    provenance : whence the numbers come: sources with licence and sha256, settings, command

    Lord and Novick, 1968, "Statistical theories of mental test scores".
    """

    space: str
    vectors: Floats
    ease: Floats
    slope: Floats
    texts: tuple[str, ...]
    text_ease: Floats
    text_slope: Floats
    provenance: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path = ASSET) -> Self:
        """Raises ConfigError for a file that is none."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                words = json.loads(file["words"].tobytes().decode())
                arrays = {name: file[name] for name in _ARRAYS}
            prior = cls(
                space=words["space"],
                texts=tuple(words["texts"]),
                provenance=words["provenance"],
                vectors=arrays.pop("vectors").astype(np.float32),
                **{name: array.astype(np.float64) for name, array in arrays.items()},
            )
            if not len(prior.texts) == len(prior.text_ease) == len(prior.text_slope) > 0:
                raise ValueError("lengths differ")
            if not prior.ease.shape == prior.slope.shape == prior.vectors.shape[1:]:
                raise ValueError("widths differ")
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError([f"{path.name} is no starter prior: {type(error).__name__}"]) from error
        return prior

    def write(self, path: Path) -> None:
        """The file that `read` reads."""
        words = {"space": self.space, "texts": list(self.texts), "provenance": dict(self.provenance)}
        as_bytes = np.frombuffer(json.dumps(words, ensure_ascii=False).encode(), dtype=np.uint8)
        small = {name: getattr(self, name).astype("<f4") for name in _ARRAYS[1:]}
        np.savez_compressed(path, words=as_bytes, vectors=self.vectors.astype("<f2"), **small)

    def prior(self, abilities: Mapping[str, float]) -> Prior:
        """The expectation, linear in the vector: the model's first-order expansion at the centre."""
        ability = np.array(list(abilities.values()), dtype=np.float64)
        centre = self.vectors.mean(axis=0, dtype=np.float64)
        noise = ability * (1 - ability)
        direction = (self.ease[:, None] + self.slope[:, None] * np.log(ability / (1 - ability))) * noise
        return Prior(
            queries=Queries(
                text=("",) * len(self.vectors),
                embedding=self.vectors,
                tokens_input=np.zeros(len(self.vectors), dtype=np.int64),
                space=self.space,
            ),
            endpoints=tuple(abilities),
            coefficients=np.concatenate([(ability - centre @ direction)[None], direction]),
            noise=noise,
            outcomes=OUTCOMES,
        )

    def quality(self, ability: Floats) -> Floats:
        """float64 (P, E), expected of endpoints of these abilities (E,) on `texts`; c makes a the mean over them."""
        reach = self.text_ease[:, None] + self.text_slope[:, None] * np.log(ability / (1 - ability))
        low, high = np.full(len(ability), -50.0), np.full(len(ability), 50.0)
        for _ in range(_ROUNDS):  # the mean grows with c
            middle = (low + high) / 2
            below = _sigmoid(reach + middle).mean(axis=0) < ability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return _sigmoid(reach + (low + high) / 2)

    def experience(self, abilities: Mapping[str, float], embedder: Embedder) -> Experience:
        """One imagined outcome of each endpoint on each text, for policies that can but fit, in any space.

        They count like as many observed ones, so what is observed later outweighs them in time; a policy that draws
        cells or neighbours to an endpoint's mean keeps the mean and little of the difficulty.
        """
        queries = Queries(
            text=self.texts,
            embedding=embedder.embed(self.texts),
            tokens_input=np.array([len(text) // 4 + 1 for text in self.texts], dtype=np.int64),
            space=embedder.space,
        )
        ability = np.array(list(abilities.values()), dtype=np.float64)
        return Experience.from_table(queries, tuple(abilities), self.quality(ability))


_ARRAYS = ("vectors", "ease", "slope", "text_ease", "text_slope")


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(x / 2.0)))
