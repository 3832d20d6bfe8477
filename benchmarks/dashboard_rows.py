"""What simulated requests leave behind: decisions, calls that fail now and then, and what people said of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from dashboard_texts import CORPUS

from router_gateway.core.money import cost_nusd
from router_gateway.core.types import Attempt, Decision, Feedback, FeedbackSource, Query, Usage
from router_gateway.evaluation.online import Stream
from router_gateway.ledger.records import attempt_record, decision_record, feedback_record


class Model(NamedTuple):
    """A model of this world; the chances of a good answer are by difficulty, for code and reckoning and for others."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    first_token_ms: float
    tokens_per_s: float
    code: tuple[float, float, float]
    other: tuple[float, float, float]


MODELS = {
    "nano": Model(0.05, 0.20, 180, 180, (0.50, 0.20, 0.05), (0.92, 0.55, 0.20)),
    "small": Model(0.15, 0.60, 240, 140, (0.45, 0.25, 0.10), (0.96, 0.88, 0.62)),
    "coder": Model(0.60, 2.40, 320, 90, (0.97, 0.93, 0.84), (0.50, 0.30, 0.15)),
    "large": Model(5.00, 20.00, 520, 60, (0.96, 0.92, 0.86), (0.97, 0.93, 0.88)),
}


@dataclass(kw_only=True)
class Rows:
    """What the requests left behind."""

    stream: Stream
    tenants: list[str]
    sessions: list[str]
    quality: Any
    rng: np.random.Generator
    spent_nusd: list[tuple[datetime, str, int]] = field(default_factory=list)

    def of(self, decisions: Sequence[Decision], start: int) -> Iterator[dict[str, Any]]:
        for t, made in enumerate(decisions, start):
            at = _instant(self.stream, t)
            query = replace(self.stream.queries[t], tenant=self.tenants[t], session=self.sessions[t])
            decision = replace(made, at=at)
            asked = CORPUS[t % len(CORPUS)] if t % 997 == 0 else "auto"
            yield decision_record(
                query, decision, requested_model=asked, embedding=self.stream.embedding[t], store_text=True,
                expected_nusd=round(decision.cost_usd[decision.endpoints.index(decision.endpoint)] * 1e9),
            )  # fmt: skip
            tried = self._attempts(query, decision, t)
            yield from map(attempt_record, tried)
            self.spent_nusd += [(each.at, query.tenant, each.cost_nusd) for each in tried]
            if tried[-1].status == 200 and self.rng.random() < 0.3:
                yield feedback_record(self._feedback(query, t, tried))

    def _attempts(self, query: Query, decision: Decision, t: int) -> list[Attempt]:
        """A call; now and then one that failed, with the next in order after it."""
        found, at = [], decision.at
        for number, name in enumerate(decision.order[:3], 1):
            hour = (decision.at - timedelta(hours=6)).hour
            away = name == "coder" and self.stream.at_s[-1] - self.stream.at_s[t] < 6 * 3600 and hour % 2
            failed = self.rng.random() < (0.5 if away else 0.015)
            column = list(MODELS).index(name)
            first_ms, per_s = MODELS[name].first_token_ms, MODELS[name].tokens_per_s
            usage = Usage(
                tokens_input=query.tokens_input, tokens_output=round(float(self.stream.tokens_output[t, column]))
            )
            first = first_ms * float(self.rng.lognormal(0, 0.35))
            latency = 40.0 if failed else first + usage.tokens_output / per_s * 1000 * float(self.rng.lognormal(0, 0.2))
            status, error = (int(self.rng.choice([429, 500, 503])), "upstream_error") if failed else (200, None)
            found.append(
                Attempt(
                    query_id=query.id, number=number, at=at, endpoint=name, status=status,
                    usage=None if failed else usage,
                    cost_nusd=0 if failed else cost_nusd(usage, self.stream.endpoints[column]),
                    first_byte_ms=None if failed else first, latency_ms=latency, error=error,
                )
            )  # fmt: skip
            at += timedelta(milliseconds=latency)
            if not failed:
                break
        return found

    def _feedback(self, query: Query, t: int, tried: Sequence[Attempt]) -> Feedback:
        column = list(MODELS).index(tried[-1].endpoint)
        score = float(self.stream.quality[t, column])
        source: FeedbackSource = ("user", "user", "label", "verifier")[t % 4]
        comment = (
            CORPUS[t % len(CORPUS)] if t % 61 == 0 else ("not what I asked" if score < 0.5 and t % 5 == 0 else None)
        )
        return Feedback(
            id=UUID(int=query.id.int ^ 1), query_id=query.id, at=tried[-1].at + timedelta(seconds=30), quality=score,
            source=source, tenant=query.tenant, comment=comment,
        )  # fmt: skip


def _instant(stream: Stream, t: int) -> datetime:
    return datetime.fromtimestamp((stream.queries[t].id.int >> 80) / 1000, UTC)
