"""A parsed body and its key to what the gateway is asked: model, text, capabilities, session, wishes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from router_gateway.api import conversation, wire
from router_gateway.core.body import Body
from router_gateway.core.checks import parse_checks
from router_gateway.core.errors import ModelNotAllowed, NotFound, RequestError
from router_gateway.core.protocols import PredictsWins
from router_gateway.core.types import Query
from router_gateway.dispatch.usage import count_request_tokens
from router_gateway.embedding.conversation import earlier_turns, query_text, said_by_both
from router_gateway.gateway import Ask, Gateway
from router_gateway.ledger.keys import ApiKey

AUTO = "auto"
_ROUTELLM = "router-"
_FORWARDED_HEADERS = ("traceparent", "tracestate", "openai-beta")


async def build_ask(
    gateway: Gateway, key: ApiKey, query_id: UUID, body: Body, headers: Mapping[str, str]
) -> tuple[Ask, wire.RoutingOptions]:
    """Raises RequestError, NotFound or ModelNotAllowed, each naming its field."""
    model = str(body["model"])
    target = resolve_model(gateway, key, model)
    if (pinned := target.pinned) is not None:
        endpoint = gateway.endpoint(pinned)
        if endpoint is None or not wire.may_use(key.allows, endpoint.name, endpoint.model):
            raise ModelNotAllowed(f"this key may not use {model!r}", param="model")
    options = wire.routing_options(body, headers, suffix=target.suffix, win_threshold=target.win_threshold)
    if options.verify is not None:
        checks = await asyncio.to_thread(parse_checks, options.verify, param="routing.verify")
        options = replace(options, checks=checks)
    gateway.router(options.policy, param="routing.policy")  # refused here, before anything is counted
    policy = options.policy or target.policy
    if options.preferences.win_threshold is not None and pinned is None:
        _check_predicts_wins(gateway, policy, "routing.win_threshold" if target.win_threshold is None else "model")
    values = body.values
    messages: list[dict[str, Any]] = values["messages"]
    query = Query(
        id=query_id,
        text=query_text(messages),
        tokens_input=count_request_tokens(body),
        tokens_output_max=wire.output_limit(body),
        needs=conversation.needs(values),
        tenant=key.tenant,
        tenant_allows=key.allows,
        session=conversation.session_key(tenant=key.tenant, headers=headers, body=values, explicit=options.session_id),
        pinned=pinned,
        earlier=_earlier(gateway, policy, messages) if pinned is None else (),
        preferences=options.preferences,
    )
    if pinned is None:
        query = await _with_route(gateway, policy, query, messages)
        if conversation.in_tool_loop(messages):
            query = await gateway.holds(query)
    ask = Ask(
        query=query,
        body=body,
        requested_model=model,
        policy=policy,
        stream=bool(values.get("stream")),
        wants_usage=wire.wants_usage(body),
        deadline_s=options.deadline_s,
        headers={name: headers[name] for name in _FORWARDED_HEADERS if name in headers},
        key_id=key.id,
    )
    return ask, options


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a model's name asks for: an endpoint, or a policy (None: the live one) with a suffix or a threshold."""

    pinned: str | None = None
    policy: str | None = None
    suffix: str = ""
    win_threshold: float | None = None


def resolve_model(gateway: Gateway, key: ApiKey, model: str) -> Target:
    """What the client means by `model`. Raises NotFound, or RequestError for a threshold that is none."""
    if gateway.endpoint(model) is not None:
        return Target(pinned=model)
    bare, _, suffix = model.partition(":")
    if bare == AUTO:
        return Target(suffix=suffix)
    if bare.partition("@")[0] in gateway.routers:
        gateway.router(bare)
        return Target(policy=bare, suffix=suffix)
    # A model id comes last, since it may also be a name that we gave; several endpoints may share one.
    serving = [endpoint for endpoint in gateway.endpoints if endpoint.model == model]
    if serving:
        usable = [e for e in serving if wire.may_use(key.allows, e.name, e.model)]
        return Target(pinned=(usable or serving)[0].name)
    if (asked := _with_threshold(gateway, model)) is not None:
        return asked
    known = [AUTO, *gateway.routers, *(e.name for e in gateway.endpoints if wire.may_use(key.allows, e.name, e.model))]
    raise NotFound(
        f"the model {model!r} does not exist; known: {', '.join(known[:20])}", param="model", code="model_not_found"
    )


def _with_threshold(gateway: Gateway, model: str) -> Target | None:
    """`router-<policy>-<threshold>`, as RouteLLM's clients put it, or None; names of policies may have hyphens."""
    named = [name for name in gateway.routers if model.startswith(f"{_ROUTELLM}{name}-")]
    if not named:
        return None
    policy = max(named, key=len)
    given = model[len(f"{_ROUTELLM}{policy}-") :]
    try:
        threshold = float(given)
    except ValueError:
        threshold = float("nan")
    if not 0.0 <= threshold <= 1.0:
        raise RequestError(f"the threshold {given!r} in `model` must be a number from 0 to 1", param="model")
    return Target(policy=policy, win_threshold=threshold)


def _check_predicts_wins(gateway: Gateway, policy: str | None, param: str) -> None:
    """Raise RequestError unless the policy can serve a threshold."""
    if isinstance(gateway.router(policy).live().policy, PredictsWins):
        return
    able = [name for name, router in gateway.routers.items() if isinstance(router.live().policy, PredictsWins)]
    raise RequestError(
        f"the policy {policy or gateway.default_policy!r} predicts no wins, so it takes no threshold; "
        f"live here that do: {', '.join(able) or 'none'}",
        param=param,
        code="unsupported_parameter",
    )


def _earlier(gateway: Gateway, policy: str | None, messages: list[dict[str, Any]]) -> tuple[str, ...]:
    turns_max = gateway.earlier_turns_read(policy)
    return earlier_turns(messages, turns_max=turns_max) if turns_max > 0 else ()


async def _with_route(gateway: Gateway, policy: str | None, query: Query, messages: list[dict[str, Any]]) -> Query:
    """The query with what a route model says of it, where the policy asks one.

    Nothing is known of where that model runs, so it is not shown what asks for a region or denies data collection.
    """
    model = gateway.route_models.get((policy or gateway.default_policy).partition("@")[0])
    wish = query.preferences
    if model is None or not query.text or wish.deny_data_collection or wish.region is not None:
        return query
    return replace(query, route=await model.route(query.id, said_by_both(messages)))
