"""/admin/api: a decision once more under another policy or dial, and where two of them choose differently."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.api.admin_requests import record_of
from router_gateway.api.request_view import decision_told
from router_gateway.core.errors import Conflict, NoEligibleEndpoint, NotFound, Overloaded, RequestError
from router_gateway.core.types import Floats
from router_gateway.ledger.decided import read_decided
from router_gateway.ledger.reads import DecisionRecord
from router_gateway.lifecycle.again import Compared, Disagreement, Side, Under, compare, decide_again, side
from router_gateway.lifecycle.rollout import Rollout
from router_gateway.routing.router import Router

Name = Annotated[str, Field(min_length=1, max_length=100)]

_COMPARED_MAX = 500
_EXAMPLES_MAX = 100
_KNOWN = frozenset(
    {"policy", "worth_usd", "rule", "against", "against_worth_usd", "against_rule", "since", "limit", "decisions"}
)
_one_at_a_time = threading.Lock()


class Again(BaseModel):
    """Whose choice: a policy or candidate, and changes of it. Without any, the dial is that of the request."""

    model_config = ConfigDict(extra="forbid")

    policy: Name | None = None
    worth_usd: float | None = None
    optimism: float | None = None
    rule: str | dict[str, Any] | None = None
    guard: dict[str, Any] | None = None


@admin_only
async def replay(asked: Asked) -> dict[str, Any]:
    """The same request, the same draw, decided once more; nothing is called and nothing written."""
    body, record = await asked.body(Again), await record_of(asked)
    asked.did_nothing()
    policy = record.decision.policy.partition("@")[0] if body.policy is None else body.policy
    said = body.model_dump(exclude={"policy"}, exclude_none=True)
    router = await _router(asked, policy if body.policy or policy in asked.gateway.routers else None, said)
    vector = await _vector(asked, router, record)
    asks_dial = body.worth_usd is not None or router.candidate not in (None, record.decision.candidate)
    worth_usd = router.worth_usd if asks_dial else None
    try:
        decision = await asyncio.to_thread(decide_again, router, record, vector, worth_usd)
    except NoEligibleEndpoint:
        raise Conflict("none of the endpoints that were eligible then can take it now") from None
    before = record.decision
    return {
        "object": "replay",
        "request_id": str(before.query_id),
        "policy": decision.policy,
        "changes": said,
        "rests_on": {
            "vector": "ledger" if record.embedding is not None else "text",
            "text": record.text is not None,
            "earlier_turns": False,
        },
        "then": _then(record),
        "now": decision_told(decision) | {"decision_id": None},
        "same_endpoint": decision.endpoint == before.endpoint,
        "expected": _against(side(decision), side(decision, before.endpoint))
        if before.endpoint in decision.endpoints
        else None,
    }


@admin_only
async def list_disagreements(asked: Asked) -> dict[str, Any]:
    """Past requests that two policies, candidates or dials send to different endpoints, of the newest with a vector."""
    given = asked.request.query_params
    if strange := sorted(set(given) - _KNOWN):
        raise RequestError(f"`{strange[0][:64]}` is not supported", param=strange[0][:64], code="unsupported_parameter")
    since, limit = asked.instant("since"), min(asked.limit(20), _EXAMPLES_MAX)
    one = await _router(asked, given.get("policy"), _changes(given, ""))
    other = await _router(asked, given.get("against"), _changes(given, "against_"), prefix="against_")
    if not _one_at_a_time.acquire(blocking=False):
        raise Overloaded("another comparison is under way")
    try:
        read = partial(read_decided, asked.database, since=since, decisions_max=_COMPARED_MAX)
        rows = (await asyncio.to_thread(read))[::-1]
        found = await asyncio.to_thread(compare, rows, one, other, limit)
    finally:
        _one_at_a_time.release()
    return _compared(found, one, other, sees_text=asked.sees_text)


async def _router(asked: Asked, policy: str | None, said: Mapping[str, Any], *, prefix: str = "") -> Router:
    """Raises RequestError naming the field as the caller wrote it."""
    rollout = _rollout(asked)
    rule = said.get("rule")
    wanted = {**said, **({"rule": {"name": rule}} if isinstance(rule, str) else {})}

    def make() -> Router:
        under = Under(policy=policy, changes=rollout.desk.checked(wanted))
        return under.router(rollout, asked.gateway.default_policy)

    try:
        return await asyncio.to_thread(make)
    except RequestError as error:
        bare = (error.param or "").removeprefix("changes.")
        param = {"": f"{prefix}{bare}", "against_": "against" if bare == "policy" else f"{prefix}{bare}"}[prefix]
        message = error.message.replace(f"`{error.param}`", f"`{param}`")
        if isinstance(error, NotFound):
            raise NotFound(message, param=param) from None
        raise RequestError(message, param=param) from None


def _changes(given: Mapping[str, str], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (said := given.get(f"{prefix}worth_usd")) is not None:
        try:
            found["worth_usd"] = float(said)
        except ValueError:
            raise RequestError(f"`{prefix}worth_usd` must be a number", param=f"{prefix}worth_usd") from None
    if (rule := given.get(f"{prefix}rule")) is not None:
        found["rule"] = rule
    return found


async def _vector(asked: Asked, router: Router, record: DecisionRecord) -> Floats:
    """The vector of then, or that of the stored text. Raises Conflict where there is neither."""
    if record.embedding is not None and record.decision.embedding_space == router.space:
        return record.embedding
    if record.text:
        return await asked.gateway.batcher.embed_one(record.text)
    why = "is of another embedding space" if record.embedding is not None else "is not kept: nothing was routed on it"
    raise Conflict(f"its vector {why}, and its text is not stored (`ledger.store_text`): there is nothing to decide on")


def _rollout(asked: Asked) -> Rollout:
    rollout = asked.gateway.rollout
    if rollout is None:
        raise NotFound("this gateway follows no candidates")
    return rollout


def _then(record: DecisionRecord) -> dict[str, Any]:
    decision = record.decision
    scored = decision.quality and decision.endpoint in decision.endpoints
    told = asdict(side(decision)) if scored else {"endpoint": decision.endpoint, "quality": None, "cost_usd": None}
    return told | {"policy": decision.policy, "worth_usd": decision.worth_usd, "propensity": decision.propensity}


def _against(now: Side, then: Side) -> dict[str, Any]:
    """What the choice of now is expected to change, by one and the same estimate."""
    return {"quality": now.quality - then.quality, "cost_usd": now.cost_usd - then.cost_usd}


def _compared(found: Compared, one: Router, other: Router, *, sees_text: bool) -> dict[str, Any]:
    sides = [
        {
            "policy": router.live().label,
            "candidate": router.candidate,
            "worth_usd": router.worth_usd,
            "rule": router.rule.name,
            "shares": dict(counts),
            "expected": {"quality": means[0], "cost_usd": means[1]},
        }
        for router, counts, means in zip((one, other), found.shares, found.expected, strict=True)
    ]
    return {
        "object": "list",
        "decisions": found.decisions,
        "disagreements": found.differing,
        "share": found.differing / found.decisions if found.decisions else None,
        "policy": sides[0],
        "against": sides[1],
        "data": [_example(each, sees_text=sees_text) for each in found.examples],
    }


def _example(found: Disagreement, *, sees_text: bool) -> dict[str, Any]:
    return {
        "id": str(found.id),
        "text": found.text if sees_text else None,
        "tokens_input": found.tokens_input,
        "answered_by": found.answered_by,
        "quality": found.quality,
        "policy": asdict(found.one),
        "against": asdict(found.other),
        "expected_difference": found.expected_difference,
    }


ROUTES: tuple[Route, ...] = (
    ("POST", "/requests/{id}/replay", replay),
    ("GET", "/disagreements", list_disagreements),
)
