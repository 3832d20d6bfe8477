"""Two endpoints and a threshold instead of a price, as RouteLLM's clients ask for it."""

from __future__ import annotations

from dataclasses import dataclass

from router_gateway.core.errors import PolicyError
from router_gateway.core.protocols import Policy, PredictsWins
from router_gateway.core.types import Bools, Ints, Queries

RULE = "win_threshold"
"""What a decision by threshold names as its rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """The pair that a threshold chooses from: columns of the pool, and P(strong beats weak | query).

    The strong one is served where `wins` >= `threshold`. Where the strong one is the cheapest as well, both are
    the same and `wins` is 1.
    """

    strong: int
    weak: int
    wins: float
    threshold: float

    @property
    def chosen(self) -> int:
        return self.strong if self.wins >= self.threshold else self.weak

    def told(self, names: tuple[str, ...]) -> str:
        """What a decision says of it."""
        if self.strong == self.weak:
            return f"{names[self.strong]} is the strongest and the cheapest"
        strong, weak = names[self.strong], names[self.weak]
        return f"P({strong} beats {weak}) = {self.wins:.4f}, threshold {self.threshold:g}"


def duel(
    policy: Policy, query: Queries, names: tuple[str, ...], eligible: Bools, columns: Ints, threshold: float
) -> Duel:
    """The pair for one query, out of a pool of any size.

    Strong is the eligible endpoint that the policy finds strongest on average, weak the cheapest eligible one for
    this query; endpoints between them are not chosen, and serve only when these two fail. One that the policy does
    not know is never strong.

    query : one query
    names : E, the pool; eligible : bool (E,), at least one; columns : int64 (E,), cheapest first
    Raises PolicyError when the policy predicts no wins.

    Ong et al., 2024, "RouteLLM: learning to route LLMs with preference data" (arXiv 2406.18665), which has two
    endpoints.
    """
    if not isinstance(policy, PredictsWins):
        raise PolicyError(f"{type(policy).__name__} predicts no wins, so it has no threshold")
    offered = [int(column) for column in columns if eligible[column]]
    weak, strengths = offered[0], policy.strengths()
    strong = max((c for c in offered if names[c] in strengths), key=lambda c: strengths[names[c]], default=weak)
    wins = 1.0
    if strong != weak:
        wins = float(policy.win_probability(query, names[strong], names[weak])[0])
    return Duel(strong=strong, weak=weak, wins=wins, threshold=threshold)
