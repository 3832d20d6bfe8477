"""Has a sample of the answers judged by a model, beside the requests: a bounded queue, few at a time, a budget a day.

What was asked and answered is in memory for as long as that takes and nowhere else. Nothing here can reach a request:
a full queue drops the sample, a spent budget and a failing judge skip it, and every one of these is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from router_gateway.core.body import REMOVE, Body
from router_gateway.core.errors import BudgetExceeded, GatewayError
from router_gateway.core.ids import named_uuid, uuid7
from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Comparison, Feedback, Query
from router_gateway.gateway import Gateway
from router_gateway.grading.calls import OwnCalls
from router_gateway.grading.heard import Said
from router_gateway.grading.lots import Lot, Lots
from router_gateway.grading.rubric import (
    Verdict,
    conversation_text,
    pair_question,
    score_of,
    score_question,
    verdict_of,
)
from router_gateway.grading.settings import Judging

log = logging.getLogger(__name__)

_FIRST_IS_BETTER: Mapping[Verdict, float] = {"first": 1.0, "neither": 0.5, "second": 0.0}
_STREAM_PER_CHARS = 100
"""A streamed word is wrapped in so many bytes, and more, of an event."""
_BODY_PER_CHARS = 4
"""A body may be so much longer than the text in it; a longer one is not kept waiting in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An answer on its way to a judge."""

    query: Query
    body: Body
    answered: str
    said: Said
    lot: Lot


class Judge:
    """Call `start` on the event loop that serves, `aclose` before the gateway's own."""

    def __init__(self, gateway: Gateway, calls: OwnCalls, settings: Judging) -> None:
        self._gateway = gateway
        self._calls = calls
        self._settings = settings
        self._lots = Lots(settings=settings, endpoints=gateway.endpoints)
        self._queue: asyncio.Queue[Sample] = asyncio.Queue(settings.queue_max)
        self._workers: list[asyncio.Future[None]] = []
        self._counts: Counter[tuple[str, ...]] = Counter()

    async def start(self) -> None:
        """Begin to judge."""
        self._workers = [asyncio.ensure_future(self._work()) for _ in range(self._settings.concurrency)]

    def lot(self, query: Query, body: Body, answered: str) -> Lot | None:
        """What is to be done with an answer, None for nothing: a request pays two draws for it."""
        if not any(self._lots.drawn(query.id)) or body.size > self._settings.chars_max * _BODY_PER_CHARS:
            return None
        return self._lots.of(query, answered)

    def submit(self, sample: Sample) -> None:
        """Judge it when its turn comes. A full queue drops it, and one too long is not kept."""
        if sample.said.bytes_held > self._settings.chars_max * _STREAM_PER_CHARS:
            self._counts[("unfit",)] += 1
            return
        try:
            self._queue.put_nowait(sample)
        except asyncio.QueueFull:
            self._counts[("dropped",)] += 1

    def counts(self) -> Mapping[tuple[str, ...], float]:
        """Samples by what became of them: scored, compared, tie, unusable, unfit, over_budget, failed, dropped."""
        return dict(self._counts)

    async def drain(self) -> None:
        """Wait until everything submitted by now is judged."""
        await self._queue.join()

    async def aclose(self) -> None:
        """Stop. What waits is not judged; a call under way is given up, and written down with what it may cost."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            sample = await self._queue.get()
            try:
                await self._judge(sample)
            except Exception as error:  # a bug: the worker goes on. Its message may quote an answer
                self._failed(error)
            finally:
                self._queue.task_done()

    async def _judge(self, sample: Sample) -> None:
        answer = await asyncio.to_thread(sample.said.text)
        conversation = await asyncio.to_thread(conversation_text, sample.body["messages"])
        if not answer or len(answer) + len(conversation) > self._settings.chars_max:
            self._counts[("unfit",)] += 1
            return
        for judged in (self._score, self._compare):
            try:
                outcome = await judged(sample, conversation, answer)
            except BudgetExceeded:
                outcome = "over_budget"
            except GatewayError as error:
                self._failed(error)
                continue
            if outcome is not None:
                self._counts[(outcome,)] += 1

    async def _score(self, sample: Sample, conversation: str, answer: str) -> str | None:
        judge, query = sample.lot.score_by, sample.query
        if judge is None:
            return None
        call_id, at = uuid7(), datetime.now(UTC)
        question = score_question(conversation, answer, _mark(call_id))
        score = score_of(await self._ask(call_id, judge, question, query))
        if score is None:
            return "unusable"
        feedback_id = named_uuid("judge", judge, str(query.id))
        self._gateway.ledger.record_judgement(
            Judgement(
                id=feedback_id,
                query_id=query.id,
                call_id=call_id,
                at=at,
                judge=judge,
                endpoint=sample.answered,
                score=score,
                chars=len(answer),
                tenant=query.tenant,
            )
        )
        self._gateway.feedback(
            Feedback(id=feedback_id, query_id=query.id, at=at, quality=score, source="judge", tenant=query.tenant)
        )
        return "scored"

    async def _compare(self, sample: Sample, conversation: str, answer: str) -> str | None:
        """Ask twice, each answer first once: a judge that contradicts itself has seen no difference."""
        judge, second, query = sample.lot.pair_by, sample.lot.second, sample.query
        if judge is None or second is None:
            return None
        other = await self._second_answer(sample, second)
        if len(answer) + len(other) + len(conversation) > self._settings.chars_max:
            return "unfit"
        ours, theirs = (sample.answered, answer), (second, other)
        there, back = await asyncio.gather(
            self._verdict(judge, query, conversation, ours, theirs),
            self._verdict(judge, query, conversation, theirs, ours),
        )
        if there is None or back is None:
            return "unusable"
        if {there, back} != {"first", "second"}:
            return "tie"
        better, worse = (sample.answered, second) if there == "first" else (second, sample.answered)
        self._gateway.feedback(
            Comparison(
                id=named_uuid("judge pair", judge, str(query.id)),
                query_id=query.id,
                at=datetime.now(UTC),
                better=better,
                worse=worse,
                source="judge",
                tenant=query.tenant,
            )
        )
        return "compared"

    async def _second_answer(self, sample: Sample, endpoint: str) -> str:
        query = sample.query
        whole = dict.fromkeys(("routing", "stream", "stream_options", "n"), REMOVE)
        body = await asyncio.to_thread(lambda: Body.parse(sample.body.amended(whole)))
        detail, limit = f"second answer to {query.id}", query.tokens_output_max
        return await self._calls.ask(uuid7(), endpoint, body, detail=detail, output_max=limit)

    async def _verdict(
        self, judge: str, query: Query, conversation: str, first: tuple[str, str], second: tuple[str, str]
    ) -> Verdict | None:
        """What the judge says of two (endpoint, answer), in this order; written down."""
        call_id, at = uuid7(), datetime.now(UTC)
        question = pair_question(conversation, first[1], second[1], _mark(call_id))
        verdict = verdict_of(await self._ask(call_id, judge, question, query))
        if verdict is not None:
            self._gateway.ledger.record_judgement(
                Judgement(
                    id=named_uuid("judge pair", judge, str(query.id), first[0]),
                    query_id=query.id,
                    call_id=call_id,
                    at=at,
                    judge=judge,
                    endpoint=first[0],
                    other=second[0],
                    score=_FIRST_IS_BETTER[verdict],
                    chars=len(first[1]),
                    other_chars=len(second[1]),
                    tenant=query.tenant,
                )
            )
        return verdict

    async def _ask(self, call_id: UUID, judge: str, question: str, query: Query) -> str:
        params = self._settings.params
        limit = params.get("max_completion_tokens", params.get("max_tokens"))
        body = Body.of({"model": judge, "messages": [{"role": "user", "content": question}], **params})
        detail, output_max = f"judge of {query.id}", limit if type(limit) is int else None
        return await self._calls.ask(call_id, judge, body, detail=detail, output_max=output_max)

    def _failed(self, error: Exception) -> None:
        self._counts[("failed",)] += 1
        log.warning("an answer is not judged: %s", getattr(error, "code", type(error).__name__))


def _mark(call_id: UUID) -> str:
    """A line that nobody who wrote the answer can have known: the random half of the call's id."""
    return f"=== {call_id.hex[-16:]} ==="
