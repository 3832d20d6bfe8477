"""What was said of an answer, by users, labels, verifiers and models as judges, as one number."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Select, select

from router_gateway.ledger.tables import feedback, judgements

Correct: TypeAlias = Callable[[str | None, str, float], float]
"""From a judge's name (None: a client's own), the endpoint that answered and the score to a quality in [0, 1]."""


def _as_said(_judge: str | None, _endpoint: str, score: float) -> float:
    return score


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """How words are weighed: as they were said, unless told what the truth is and what judges' scores are worth.

    truth : sources that know; where one of them spoke, nobody else is heard
    corrected : takes the measured bias out of a judge's score
    """

    truth: frozenset[str] = frozenset()
    corrected: Correct = _as_said

    def quality(self, said: Iterable[Any], endpoint: str) -> float | None:
        """Mean of the last word of everybody about an answer of `endpoint`; None where nobody spoke.

        said : mappings of `words`, in the order of `seq`, without those taken back
        """
        latest = {(word["source"], word["turn"]): word for word in said}  # a second word corrects
        known = [word for word in latest.values() if word["source"] in self.truth]
        heard = [self._worth(word, endpoint) for word in known or latest.values()]
        return sum(heard) / len(heard) if heard else None

    def _worth(self, word: Any, endpoint: str) -> float:
        quality = float(word["quality"])
        return self.corrected(word["judge"], endpoint, quality) if word["source"] == "judge" else quality


def words(*more: Any) -> Select[Any]:
    """Rows of `feedback` with the judge's name, and columns besides."""
    named = select(feedback, judgements.c.judge, *more)
    return named.outerjoin(judgements, judgements.c.id == feedback.c.id)
