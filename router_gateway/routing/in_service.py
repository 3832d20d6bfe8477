"""What the gateway knows of the policies in service: how quick they have proved, and what they read."""

from __future__ import annotations

from typing import NamedTuple

from router_gateway.core.pace import Pace
from router_gateway.core.protocols import ReadsConversations
from router_gateway.core.types import Floats, NamedPolicy, Queries, Scores
from router_gateway.routing.router import Router, scored

_EARLIER_TURNS_MAX = 31
_SCORES_MAX = 1_024


class _Said(NamedTuple):
    """What a policy said of a query alone; the vector is kept, so that no other can take its place in memory."""

    vector: Floats
    tokens_input: int
    route: str | None
    scores: Scores


class InService:
    """A policy, how quick it has proved, how many user turns before the newest one it reads, and what it said of late.

    A policy in service never changes: what learns is a copy, and takes its place under another version. So what it
    says of a text that comes again is what it said before.
    """

    __slots__ = ("_said", "earlier_turns", "named", "pace")

    def __init__(self, named: NamedPolicy) -> None:
        self.named = named
        self.pace = Pace()
        reads = named.policy
        self.earlier_turns = (
            min(reads.turns_max - 1, _EARLIER_TURNS_MAX) if isinstance(reads, ReadsConversations) else 0
        )
        self._said: dict[int, _Said] = {}

    def score(self, vector: Floats, named: NamedPolicy, query: Queries) -> Scores:
        """The scores of one query, whose vector (d,) is that very array: a cache of vectors gives one for one text.

        What may be written to is from no cache: its text is new, and not remembered before it comes again.
        """
        if named is not self.named or query.earlier is not None or vector.flags.writeable:
            return scored(named, query)
        tokens_input, route = int(query.tokens_input[0]), None if query.routes is None else query.routes[0]
        said = self._said.get(id(vector))
        if said is not None and said.vector is vector and (said.tokens_input, said.route) == (tokens_input, route):
            return said.scores
        if len(self._said) >= _SCORES_MAX:
            self._said.clear()
        scores = scored(named, query)
        self._said[id(vector)] = _Said(vector, tokens_input, route, scores)
        return scores


class Roster:
    """Policies by the router that asks them; one that was swapped in is looked at anew."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, str], InService] = {}

    def known(self, router: Router) -> InService:
        """What is known of the policy in service there."""
        named = router.live()
        place = router.candidate, named.name
        known = self._known.get(place)
        if known is None or known.named is not named:
            known = self._known[place] = InService(named)
        return known
