"""What the gateway knows of the policies in service: how quick they have proved, and what they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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

    def score(self, vectors: Sequence[Floats], named: NamedPolicy, queries: Queries) -> Scores:
        """The scores of queries, whose vectors (d,) are those very arrays: a cache of vectors gives one for one text.

        What may be written to is from no cache: its text is new, and not remembered before it comes again.
        """
        if named is not self.named or queries.earlier is not None:
            return scored(named, queries)
        said = [self._recalled(vector, queries, row) for row, vector in enumerate(vectors)]
        new = [row for row, scores in enumerate(said) if scores is None]
        if new:
            found = scored(named, queries if len(new) == len(said) else queries.take(np.array(new)))
            for place, row in enumerate(new):
                said[row] = self._remembered(vectors[row], queries, row, _row(found, place))
            if len(new) == len(said):
                return found
        return _stacked([scores for scores in said if scores is not None])

    def _recalled(self, vector: Floats, queries: Queries, row: int) -> Scores | None:
        said = self._said.get(id(vector))
        if said is None or said.vector is not vector:
            return None
        return said.scores if (said.tokens_input, said.route) == _beside(queries, row) else None

    def _remembered(self, vector: Floats, queries: Queries, row: int, scores: Scores) -> Scores:
        if not vector.flags.writeable:
            if len(self._said) >= _SCORES_MAX:
                self._said.clear()
            self._said[id(vector)] = _Said(vector, *_beside(queries, row), scores)
        return scores


def _beside(queries: Queries, row: int) -> tuple[int, str | None]:
    """What a policy reads of a query beside its text: tokens, and what a route model said."""
    return int(queries.tokens_input[row]), None if queries.routes is None else queries.routes[row]


def _row(scores: Scores, place: int) -> Scores:
    if len(scores.quality) == 1:
        return scores
    one = slice(place, place + 1)
    return Scores(endpoints=scores.endpoints, quality=scores.quality[one], stddev=scores.stddev[one])


def _stacked(parts: Sequence[Scores]) -> Scores:
    """One after the other: of one policy, so of the same endpoints."""
    if len(parts) == 1:
        return parts[0]
    return Scores(
        endpoints=parts[0].endpoints,
        quality=np.concatenate([part.quality for part in parts]),
        stddev=np.concatenate([part.stddev for part in parts]),
    )


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
