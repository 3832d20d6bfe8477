"""The seams. Anything that fits one of these can be plugged in; nothing else is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from router_gateway.core.experience import Experience
from router_gateway.core.prior import Prior
from router_gateway.core.route_question import RouteQuestion
from router_gateway.core.types import Attempt, Bools, Floats, Neighbour, Queries, Query, Scores


@runtime_checkable
class Policy(Protocol):
    """Estimates quality and doubt for every endpoint. At scoring time it never sees prices.

    An implementation is a keyword-only dataclass: its fields are hyperparameters, constrained in their
    annotations; learned state ends in `_` and is set by `fit`; `dataclasses.replace` is a fresh clone.
    `router_gateway.testing.check_policy` is the whole contract as a test.
    """

    def fit(self, experience: Experience) -> Self:
        """Learn from scratch; calling it twice with the same data gives the same policy."""
        ...

    def partial_fit(self, experience: Experience) -> Self:
        """Learn on top of what is known. Raises NotFitted before `fit`."""
        ...

    def score(self, queries: Queries) -> Scores:
        """Q queries to Scores (Q, E). Raises NotFitted, or SnapshotMismatch for foreign vectors."""
        ...

    def save(self, directory: Path) -> None:
        """Write the learned state as npz and json, never pickle. Hyperparameters are saved by the caller too."""
        ...

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The policy that `save` wrote; it scores bit for bit alike."""
        ...


@runtime_checkable
class DetectsChanges(Protocol):
    """A policy that notices when an endpoint's answers are no longer what they were."""

    def changes(self) -> Mapping[str, int]:
        """Changes found so far, by endpoint."""
        ...


@runtime_checkable
class NamesNeighbours(Protocol):
    """What a policy may offer besides: the evidence behind its scores."""

    def neighbours(self, queries: Queries, n: int) -> list[list[Neighbour]]:
        """For each of Q queries the `n` past queries that weigh most, nearest first."""
        ...


@runtime_checkable
class ReadsTexts(Protocol):
    """What a policy may ask for besides: the vectors of texts that stand in its parameters."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, none being a fine answer."""
        ...

    def learn_texts(self, texts: Queries) -> Self:
        """Take the texts, read and embedded as queries are. Called before `fit`, which keeps them."""
        ...


@runtime_checkable
class StartsFromPrior(Protocol):
    """What a policy may offer besides: to begin with an expectation in place of outcomes."""

    def start(self, prior: Prior) -> Self:
        """Know what the prior says and nothing else; takes the place of `fit`."""
        ...


@runtime_checkable
class MadeOfPolicies(Protocol):
    """What a policy may offer besides: to show the policies that it fits to all that it learns from itself."""

    def made_of(self) -> Mapping[str, Mapping[str, Any]]:
        """Their parameters by registered name; known before `fit`."""
        ...

    def parts(self) -> Mapping[str, Policy]:
        """They themselves by name, not to be changed. Raises NotFitted."""
        ...


@runtime_checkable
class PredictsWins(Protocol):
    """What a policy may offer besides: who gives the better answer, for a threshold instead of a price."""

    def strengths(self) -> Mapping[str, float]:
        """How strong each endpoint known is on an average query. Only the order means something."""
        ...

    def win_probability(self, queries: Queries, strong: str, weak: str) -> Floats:
        """P(strong's answer is better than weak's), float64 (Q,) in [0, 1]."""
        ...


@runtime_checkable
class ReadsConversations(Protocol):
    """What a policy may ask for besides: the vectors of what the user said before, as `Queries.earlier`."""

    turns_max: int
    """User turns that are read, the newest included; 1 reads no other."""


@runtime_checkable
class AsksRouteModel(Protocol):
    """What a policy may ask for besides: the route a hosted language model finds, as `Queries.routes`."""

    @property
    def question(self) -> RouteQuestion | None:
        """The model and its choices; None asks nobody."""
        ...


class Embedder(Protocol):
    """Texts to unit vectors of one embedding space."""

    @property
    def space(self) -> str:
        """Name of the space: model, pooling and whatever else changes the vectors."""
        ...

    @property
    def width(self) -> int:
        """d, the number of components."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """float32 (Q, d); a text's vector does not depend on the other texts of the call."""
        ...


class CostModel(Protocol):
    """Prices a request before it is sent."""

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        """float64 (Q, E), USD per call."""
        ...

    def observe(self, attempts: Sequence[Attempt]) -> None:
        """Learn from finished calls."""
        ...


class Rule(Protocol):
    """Turns values into probabilities, so that every logged choice has an exact propensity."""

    name: ClassVar[str]

    def probabilities(self, value: Floats, eligible: Bools) -> Floats:
        """float64 (Q, E), rows sum to 1, 0 where not eligible; each row has an eligible endpoint.

        Columns come cheapest first, so that the first of equal values is the right one to prefer.
        """
        ...
