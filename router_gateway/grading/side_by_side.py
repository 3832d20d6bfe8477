"""Two endpoints answer one prompt, in an order that nobody knows; a person says which answer is better.

Nothing is kept here: the ids of both decisions follow from the comparison's id, so a verdict finds them in the ledger,
in any process and after any restart. The order is drawn and not shown before the verdict, because people like what
they read first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal
from uuid import UUID

from router_gateway.core.errors import Conflict, GatewayError, NotFound
from router_gateway.core.ids import named_uuid, uuid7
from router_gateway.core.types import Comparison, Feedback, Floats
from router_gateway.exchange import Ask, Served
from router_gateway.gateway import Gateway
from router_gateway.grading.alone import ask_alone
from router_gateway.ledger.reads import DecisionRecord, standing

REQUESTED_MODEL = "compare"
"""`requested_model` of the decisions behind answers side by side: they are no traffic."""

AT_ONCE = 4

Position = Literal["A", "B"]
PersonsVerdict = Literal["A", "B", "tie", "both_bad"]
VERDICTS: tuple[PersonsVerdict, ...] = ("A", "B", "tie", "both_bad")

_POSITIONS: tuple[Position, Position] = ("A", "B")
_DRAIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The answer at one position: `served`, or the `error` that came instead."""

    position: Position
    endpoint: str
    served: Served | None = None
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A verdict that is written down: under which ids, and who stood where."""

    verdict: PersonsVerdict
    feedback_ids: tuple[UUID, ...]
    endpoints: Mapping[Position, str]


class SideBySide:
    """Lives on the event loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._under_way = 0
        self._telling = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether as many comparisons are under way as may be."""
        return self._under_way >= AT_ONCE

    async def ask(self, asks: Sequence[Ask], *, tokens_max: int) -> tuple[UUID, list[Beside]]:
        """The comparison's id, and both answers in the order in which they are shown.

        asks : two, each pinned to its endpoint. Raises GatewayError where both failed, the first one's.
        """
        comparison, first = uuid7(), secrets.randbelow(2)
        self._under_way += 1
        try:
            vector = await self._gateway.batcher.embed_one(asks[0].query.text) if asks[0].query.text else None
            beside = await asyncio.gather(
                *(
                    self._ask(comparison, position, ask, tokens_max, vector)
                    for position, ask in zip(_POSITIONS, (asks[first], asks[1 - first]), strict=True)
                )
            )
        finally:
            self._under_way -= 1
        failed = [each.error for each in beside if each.error is not None]
        if len(failed) == len(beside):
            raise failed[0]
        return comparison, beside

    async def _ask(
        self, comparison: UUID, position: Position, ask: Ask, tokens_max: int, vector: Floats | None
    ) -> Beside:
        endpoint = str(ask.query.pinned)
        try:
            served, _ = await ask_alone(
                self._gateway,
                replace(ask, query=replace(ask.query, id=_decision_id(comparison, position))),
                endpoint=endpoint,
                tokens_max=tokens_max,
                vector=vector,
                detail=f"answer {position} of comparison {comparison}",
                again=partial(_decision_id, comparison, position, again=True),
            )
        except GatewayError as error:
            return Beside(position=position, endpoint=endpoint, error=error)
        return Beside(position=position, endpoint=endpoint, served=served)

    async def tell(self, comparison: UUID, verdict: PersonsVerdict) -> Told:
        """Write the verdict down; once more changes nothing. Raises NotFound, or Conflict where there is another.

        `A` and `B` are a comparison as clients send it, `tie` one each way, and `both_bad` the score 0 for both.
        """
        async with self._telling:
            answers = await asyncio.to_thread(self._answers, comparison)
            known = await asyncio.to_thread(self._known, comparison)
            if known is not None and known != verdict:
                raise Conflict(
                    f"the verdict on this comparison is {known!r}",
                    param="verdict",
                    hint=f"DELETE /v1/feedback/{_said_ids(comparison, known)[0]} takes it back",
                )
            if known is None:
                first_id = _said_ids(comparison, verdict)[0]
                if await asyncio.to_thread(self._gateway.ledger.said, first_id) is not None:
                    raise Conflict("this verdict was taken back; another one can be given", param="verdict")
                for said in _said(comparison, verdict, answers):
                    self._gateway.feedback(said)
                await self._gateway.ledger.durable()
            return Told(
                verdict=verdict,
                feedback_ids=_said_ids(comparison, verdict),
                endpoints={position: str(record.answered_by) for position, record in answers.items()},
            )

    def _answers(self, comparison: UUID) -> dict[Position, DecisionRecord]:
        ledger = self._gateway.ledger
        ledger.drain(_DRAIN_S)
        found: dict[Position, DecisionRecord] = {}
        for position in _POSITIONS:
            for again in (False, True):
                record = ledger.decision(_decision_id(comparison, position, again=again))
                if record is None:
                    break
                if record.answered_by is not None:
                    found[position] = record
                    break
        if not found:
            raise NotFound(f"no comparison {comparison}", param="id")
        if len(found) < len(_POSITIONS):
            raise Conflict("only one of the two endpoints answered: there is nothing to compare", param="id")
        return found

    def _known(self, comparison: UUID) -> PersonsVerdict | None:
        """The verdict that stands."""
        ids = {verdict: _said_ids(comparison, verdict)[0] for verdict in VERDICTS}
        stand = standing(self._gateway.ledger.engine, list(ids.values()))
        return next((verdict for verdict, said_id in ids.items() if said_id in stand), None)


def _decision_id(comparison: UUID, position: Position, *, again: bool = False) -> UUID:
    return named_uuid("compare", str(comparison), position, "again" if again else "")


def _said_ids(comparison: UUID, verdict: PersonsVerdict) -> tuple[UUID, ...]:
    parts = ("",) if verdict in _POSITIONS else _POSITIONS
    return tuple(named_uuid("verdict", str(comparison), verdict, part) for part in parts)


def _said(
    comparison: UUID, verdict: PersonsVerdict, answers: Mapping[Position, DecisionRecord]
) -> list[Comparison | Feedback]:
    a, b = answers["A"], answers["B"]
    ids, at = _said_ids(comparison, verdict), datetime.now(UTC)
    if verdict == "both_bad":
        return [
            Feedback(id=said_id, query_id=each.decision.query_id, at=at, quality=0.0, source="user", tenant=each.tenant)
            for said_id, each in zip(ids, (a, b), strict=True)
        ]
    pairs = {"A": [(a, b)], "B": [(b, a)], "tie": [(a, b), (b, a)]}[verdict]
    return [
        Comparison(
            id=said_id,
            query_id=better.decision.query_id,
            at=at,
            better=str(better.answered_by),
            worse=str(worse.answered_by),
            source="user",
            tenant=better.tenant,
        )
        for said_id, (better, worse) in zip(ids, pairs, strict=True)
    ]
