"""One request as the admin API tells it: why this endpoint, what came of it, and what can no longer be known.

The decision is told from its row. What the row has not (the guard's word, the draw, the neighbours) is recomputed with
what serves now, and says so; `absent` names what the ledger never had.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from router_gateway.api.explain import routing_object
from router_gateway.api.routing import attempt_object, feedback_object
from router_gateway.core.body import Body
from router_gateway.core.ids import draw
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Attempt, Decision
from router_gateway.gateway import Ask, Gateway
from router_gateway.ledger.aside import Aside
from router_gateway.ledger.reads import DecisionRecord
from router_gateway.lifecycle.again import query_of
from router_gateway.routing.router import Router

_Z_95 = 1.959964
_DRAWN = ("scored", "explored")


def request_view(gateway: Gateway, record: DecisionRecord, aside: Aside) -> dict[str, Any]:
    """Everything about it, in plain values. It scores nothing anew but the neighbours, and calls nobody."""
    decision, router = record.decision, _router(gateway, record.decision)
    return decision_told(decision) | {
        "object": "request",
        "id": str(decision.query_id),
        "tenant": record.tenant,
        "session": record.session,
        "requested_model": record.requested_model,
        "tokens_input": record.tokens_input,
        "answered_by": record.answered_by,
        "text": record.text,
        "stored": {"text": record.text is not None, "vector": record.embedding is not None},
        "guard": _guard(router, decision),
        "draw": draw(decision.query_id, router.salt) if router and decision.reason in _DRAWN else None,
        "evidence": _evidence(gateway, router, record),
        "attempts": [attempt_object(attempt) for attempt in record.attempts],
        "cost_nusd": sum(attempt.cost_nusd for attempt in record.attempts),
        "cost_usd": nusd_to_usd(sum(attempt.cost_nusd for attempt in record.attempts)),
        "timings": _timings(record.attempts),
        "feedback": [
            feedback_object(said) | {"note": said.comment, "judge": aside.judges.get(said.id)}
            for said in record.feedback
        ],
        "comparisons": [_comparison(row) for row in aside.comparisons],
        "shadows": [_shadow(row) for row in aside.shadows],
        "absent": _absent(record),
    }


def decision_told(decision: Decision) -> dict[str, Any]:
    """The decision, and of each candidate the 95 % interval of its quality and its value at the dial."""
    told = routing_object(decision)
    return told | {"candidates": [_candidate(told, each) for each in told["candidates"]]}


def _router(gateway: Gateway, decision: Decision) -> Router | None:
    """What serves now under the policy's name, or the candidate that decided while it is still tried."""
    name = decision.policy.partition("@")[0]
    for split in () if gateway.rollout is None else gateway.rollout.splits().values():
        if split.experiment == decision.candidate:
            return split.router
    return gateway.routers.get(name)


def _candidate(told: dict[str, Any], each: dict[str, Any]) -> dict[str, Any]:
    """With the 95 % interval of what was expected, and the value that the dial makes of it."""
    quality, stddev, cost_usd = each["quality"], each["stddev"], each["cost_usd"]
    scored = quality is not None and stddev is not None and cost_usd is not None
    return each | {
        "interval": [max(0.0, quality - _Z_95 * stddev), min(1.0, quality + _Z_95 * stddev)] if scored else None,
        "value": quality - cost_usd / told["worth_usd"] if scored and math.isfinite(cost_usd) else None,
        "chosen": each["endpoint"] == told["endpoint"],
    }


def _guard(router: Router | None, decision: Decision) -> dict[str, Any] | None:
    """Whom the guard that stands now would admit, by the scores of then; None where it cannot be said."""
    if router is None or not decision.quality or router.default_endpoint not in decision.endpoints:
        return None
    quality, stddev = np.array([decision.quality]), np.array([decision.stddev])
    value = quality - np.array([decision.cost_usd]) / decision.worth_usd
    admitted = router.guard.admits(value, stddev, decision.endpoints.index(router.default_endpoint))[0]
    novelty = router.guard.novelty_stddev_max
    return {
        "default_endpoint": router.default_endpoint,
        "z": router.guard.z,
        "novelty_stddev_max": novelty if math.isfinite(novelty) else None,
        "admits": {name: bool(can) for name, can in zip(decision.endpoints, admitted, strict=True)},
        "held_back": decision.reason == "guard:low_evidence",
        "as_of": "now",
    }


def _evidence(gateway: Gateway, router: Router | None, record: DecisionRecord) -> dict[str, Any] | None:
    """The past requests that the policy leans on, as it is now; None where it names none, or no vector is kept."""
    decision = record.decision
    if router is None or record.embedding is None or decision.embedding_space != router.space:
        return None
    ask = Ask(
        query=query_of(record, None),
        body=Body.of({}),
        requested_model=record.requested_model,
        policy=decision.policy.partition("@")[0],
    )
    near = gateway.neighbours(ask, record.embedding, decision)
    if near is None:
        return None
    rows = [{"row": each.row, "cosine": round(each.cosine, 4), "quality": each.quality} for each in near]
    return {"policy": router.live().label, "neighbours": rows, "as_of": "now"}


def _timings(attempts: tuple[Attempt, ...]) -> dict[str, float | None]:
    """Milliseconds. `routing_ms` is told to the client in a header, and not kept."""
    answer = next((each for each in reversed(attempts) if each.status == 200), None)
    before = sum(each.latency_ms for each in attempts if answer is None or each.number < answer.number)
    first = None if answer is None or answer.first_byte_ms is None else before + answer.first_byte_ms
    total = sum(each.latency_ms for each in attempts) if attempts else None
    return {"routing_ms": None, "first_byte_ms": first, "total_ms": total}


def _comparison(row: Any) -> dict[str, Any]:
    told = {name: row[name] for name in ("better", "worse", "source")}
    return {"id": str(row["id"]), "at": row["at"].isoformat(), **told}


def _shadow(row: Any) -> dict[str, Any]:
    names = ("candidate", "policy", "endpoint", "propensity", "quality", "cost_usd", "probability_of_served", "error")
    return {name: row[name] for name in names}


def _absent(record: DecisionRecord) -> list[str]:
    """What the ledger does not have of it."""
    absent = ["routing_ms"]
    if record.text is None:
        absent.append("text")
    if record.embedding is None:
        absent.append("vector")
    if not record.decision.quality:
        absent.append("scores")
    if not record.attempts:
        absent.append("attempts")
    return absent
