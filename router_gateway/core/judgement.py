"""What a model said as a judge of answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

JUDGING_TENANT: Final = "router-gateway/judging"
"""The tenant of judges' calls and of second answers: a spend of its own in reports, and a budget of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One word of a judge: on one answer, or on two that it read in this order. No text is kept of any.

    id : of the feedback that it became; of a pair an id of its own
    query_id : the decision whose answer was judged; call_id : the decision row of the judge's call
    judge : the endpoint that judged; endpoint : whose answer it read (first); other : whose second, None for one
    score : in [0, 1]; of a pair 1 where the first is better, 0 where the second is, 1/2 where neither
    chars, other_chars : the lengths of the answers
    """

    id: UUID
    query_id: UUID
    call_id: UUID
    at: datetime
    judge: str
    endpoint: str
    other: str | None = None
    score: float
    chars: int
    other_chars: int | None = None
    tenant: str = "default"
