"""/admin/api: what would be decided, and two endpoints side by side with a person's verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from router_gateway.api import explain, wire
from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.api.ask import AUTO, build_ask
from router_gateway.api.errors import error_object
from router_gateway.core.body import Body
from router_gateway.core.errors import Overloaded, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Decision
from router_gateway.gateway import Ask
from router_gateway.grading.heard import text_of
from router_gateway.grading.side_by_side import AT_ONCE, REQUESTED_MODEL, Beside, PersonsVerdict
from router_gateway.probing.interval import Z95
from router_gateway.routing.eligibility import eligible_endpoints

_BODY_BYTES_MAX = 1024 * 1024
_PROMPT_CHARS_MAX = 200_000
_ENDPOINTS_COMPARED = 2

Name = Annotated[str, Field(min_length=1, max_length=256)]


class _Conversation(BaseModel):
    """Either `messages` as of a Chat Completions request, or a `prompt`, which is one message of a user."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Any] | None = None
    prompt: Annotated[str, Field(min_length=1, max_length=_PROMPT_CHARS_MAX)] | None = None

    def as_chat(self, model: str, **members: Any) -> Body:
        """The request that this is. Raises RequestError naming the field."""
        if (self.messages is None) == (self.prompt is None):
            raise RequestError("give either `messages` or `prompt`", param="messages")
        messages = [{"role": "user", "content": self.prompt}] if self.messages is None else self.messages
        given = {name: value for name, value in members.items() if value is not None}
        body = Body.of({"model": model, "messages": messages, **given})
        wire.check_chat(body)
        return body


class Deciding(_Conversation):
    """`model` is what a client would name, `auto` unless given; `policy` and `worth_usd` as in `routing`."""

    model: Name = AUTO
    policy: Name | None = None
    worth_usd: Annotated[float, Field(ge=1e-9, le=1e9)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class Comparing(_Conversation):
    """Two names of `endpoints`; `max_tokens` bounds each answer."""

    endpoints: Annotated[list[Name], Field(min_length=_ENDPOINTS_COMPARED, max_length=_ENDPOINTS_COMPARED)]
    max_tokens: Annotated[int, Field(ge=1, le=16_384)] = 1_024


class Verdict(BaseModel):
    """Which answer was better, by its position."""

    model_config = ConfigDict(extra="forbid")

    verdict: PersonsVerdict


@admin_only
async def decide(asked: Asked) -> dict[str, Any]:
    """The decision with all that speaks for it; nothing is called and nothing written."""
    asked.did_nothing()
    wish = await asked.body(Deciding, _BODY_BYTES_MAX)
    wishes = {"policy": wish.policy, "worth_usd": wish.worth_usd}
    routing = {name: value for name, value in wishes.items() if value is not None}
    body = wish.as_chat(wish.model, routing=routing or None, max_tokens=wish.max_tokens)
    ask = await _ask(asked, body)
    gateway = asked.gateway
    decision, vector, timings = await gateway.decide(ask)
    explained = explain.routing_object(decision, gateway.neighbours(ask, vector, decision))
    optimism = gateway.router(ask.policy).optimism
    for row, why in zip(explained["candidates"], _barred(asked, ask), strict=True):
        row |= {"barred_by": why, **_weighed(row, decision, optimism)}
    explained["optimism"] = optimism
    explained["tokens_input"] = ask.query.tokens_input
    explained["timings"] = {"embed_ms": timings.embed_ms, "route_ms": timings.route_ms}
    return explained


@admin_only
async def compare(asked: Asked) -> dict[str, Any]:
    """Both endpoints' answers, in an order that is not told before the verdict."""
    wish = await asked.body(Comparing, _BODY_BYTES_MAX)
    names = [each.name for each in asked.gateway.endpoints]
    for index, name in enumerate(wish.endpoints):
        if name not in names:
            raise RequestError(f"`endpoints.{index}`: no endpoint {name[:100]!r}", param=f"endpoints.{index}")
    if len(set(wish.endpoints)) < _ENDPOINTS_COMPARED:
        raise RequestError("`endpoints` are the same twice", param="endpoints.1")
    side_by_side = asked.parts.grader.side_by_side
    if side_by_side.busy:
        raise Overloaded(f"{AT_ONCE} comparisons are under way; try again in a moment")
    asks = [await _ask(asked, wish.as_chat(name, max_tokens=wish.max_tokens)) for name in wish.endpoints]
    asks = [replace(ask, requested_model=REQUESTED_MODEL) for ask in asks]
    comparison, answers = await side_by_side.ask(asks, tokens_max=wish.max_tokens)
    asked.did("comparison.ask", " and ".join(sorted(wish.endpoints)), id=str(comparison))
    return {
        "object": "comparison",
        "id": str(comparison),
        "endpoints": sorted(wish.endpoints),
        "answers": [_answer(each) for each in answers],
    }


@admin_only
async def tell(asked: Asked) -> dict[str, Any]:
    """A person's verdict, written down as feedback; only now it is told whose answers they were."""
    try:
        comparison = UUID(asked.path("id"))
    except ValueError:
        raise RequestError("`id` is not a UUID", param="id") from None
    verdict = (await asked.body(Verdict)).verdict
    told = await asked.parts.grader.side_by_side.tell(comparison, verdict)
    asked.did("comparison.verdict", str(comparison), verdict=told.verdict, endpoints=dict(told.endpoints))
    return {
        "id": str(comparison),
        "verdict": told.verdict,
        "endpoints": dict(told.endpoints),
        "feedback_ids": [str(each) for each in told.feedback_ids],
        "status": "recorded",
    }


async def _ask(asked: Asked, body: Body) -> Ask:
    """As of a client with this key; errors name the fields as they were given here. Raises RequestError."""
    try:
        return (await build_ask(asked.gateway, asked.key, uuid7(), body, {}))[0]
    except RequestError as error:
        if error.param is not None:
            error.param = error.param.removeprefix("routing.")
        raise


def _barred(asked: Asked, ask: Ask) -> list[list[str]]:
    """By endpoint, the filters that keep this request from it."""
    filters = eligible_endpoints([ask.query], asked.gateway.endpoints)
    return [
        [name for name, passes in filters.items() if not passes[0, column]]
        for column in range(len(asked.gateway.endpoints))
    ]


def _weighed(row: dict[str, Any], decision: Decision, optimism: float) -> dict[str, float | None]:
    """The 95 % interval of the expectation, and what it is worth at the dial; None where nothing was scored."""
    if row["quality"] is None:
        return {"quality_low": None, "quality_high": None, "value": None}
    reach = Z95 * row["stddev"]
    value = row["quality"] + optimism * row["stddev"] - row["cost_usd"] / decision.worth_usd
    return {
        "quality_low": max(row["quality"] - reach, 0.0),
        "quality_high": min(row["quality"] + reach, 1.0),
        "value": value,
    }


def _answer(beside: Beside) -> dict[str, Any]:
    shown: dict[str, Any] = {"position": beside.position, "text": None, "finish_reason": None, "error": None}
    if beside.served is None:
        assert beside.error is not None
        return shown | error_object(beside.error)
    payload, attempt = beside.served.answer.payload or {}, beside.served.attempts[-1]
    if beside.served.answer.status != 200:
        said = payload.get("error")
        shown["error"] = said if isinstance(said, dict) else {"message": "the endpoint refuses the request"}
    choices = payload.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    usage = attempt.usage
    return {
        **shown,
        "text": text_of(payload),
        "finish_reason": first.get("finish_reason"),
        "tokens_input": None if usage is None else usage.tokens_prompt,
        "tokens_output": None if usage is None else usage.tokens_completion,
        "cost_nusd": attempt.cost_nusd,
        "cost_usd": nusd_to_usd(attempt.cost_nusd),
        "latency_ms": attempt.latency_ms,
    }


ROUTES: tuple[Route, ...] = (
    ("POST", "/decide", decide),
    ("POST", "/compare", compare),
    ("POST", "/compare/{id}/verdict", tell),
)
