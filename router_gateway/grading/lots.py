"""Which answers are judged, and by whom: drawn by the decision's id, so that anybody can draw it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from router_gateway.core.ids import draw
from router_gateway.core.types import Endpoint, Query
from router_gateway.grading.family import akin
from router_gateway.grading.settings import Judging
from router_gateway.routing.eligibility import eligible_endpoints

_SENSES = frozenset({"vision", "audio"})
"""A judge reads; what was seen or heard it could only guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """What is to be done with one answer: a score by one judge, a comparison with a second endpoint by another."""

    score_by: str | None = None
    pair_by: str | None = None
    second: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lots:
    """Draws. What a request or its key keeps from an endpoint, no judge and no second endpoint gets to see."""

    settings: Judging
    endpoints: Sequence[Endpoint]

    def drawn(self, query_id: UUID) -> tuple[bool, bool]:
        """Whether this decision is in the sample for a score, and in that for a pair."""
        scored = draw(query_id, "judge:score") < self.settings.share
        return scored, draw(query_id, "judge:pair") < self.settings.pairs_share

    def of(self, query: Query, answered: str) -> Lot | None:
        """The lot of an answer by endpoint `answered`; None for nothing to do."""
        scored, paired = self.drawn(query.id)
        if not (scored or paired) or query.needs & _SENSES:
            return None
        by_name = {endpoint.name: endpoint for endpoint in self.endpoints}
        author = by_name[answered]
        readers = self._may_take(replace(query, pinned=None, needs=frozenset(), tokens_output_max=None))
        judges = [by_name[name] for name in self.settings.judges if name in readers]
        score_by = next((judge.name for judge in judges if scored and self._may_judge(judge, author)), None)
        pair_by, second = self._pair(query, author, judges) if paired else (None, None)
        if score_by is None and pair_by is None:
            return None
        return Lot(score_by=score_by, pair_by=pair_by, second=second)

    def _pair(self, query: Query, author: Endpoint, judges: Sequence[Endpoint]) -> tuple[str | None, str | None]:
        """A judge and a second endpoint; each endpoint that some judge may compare with is as likely as another."""
        able = self._may_take(replace(query, pinned=None))
        others = [e for e in self.endpoints if e.name in able and e.name != author.name]
        judged_by = {
            other.name: next((j.name for j in judges if self._may_judge(j, author) and self._may_judge(j, other)), None)
            for other in others
        }
        choices = sorted(name for name, judge in judged_by.items() if judge is not None)
        if not choices:
            return None, None
        second = choices[int(draw(query.id, "judge:second") * len(choices))]
        return judged_by[second], second

    def _may_judge(self, judge: Endpoint, author: Endpoint) -> bool:
        return self.settings.judges_own_family or not akin(judge, author)

    def _may_take(self, query: Query) -> set[str]:
        filters = eligible_endpoints([query], self.endpoints)
        return {e.name for i, e in enumerate(self.endpoints) if all(mask[0, i] for mask in filters.values())}
