"""A parsed body and its key to what the gateway is asked: model, text, capabilities, session, wishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from router_gateway.api import conversation, wire
from router_gateway.core.body import Body
from router_gateway.core.errors import ModelNotAllowed, NotFound
from router_gateway.core.types import Query
from router_gateway.dispatch.usage import count_request_tokens
from router_gateway.embedding.conversation import query_text
from router_gateway.gateway import Ask, Gateway
from router_gateway.ledger.keys import ApiKey

AUTO = "auto"
_FORWARDED_HEADERS = ("traceparent", "tracestate", "openai-beta")


async def build_ask(
    gateway: Gateway, key: ApiKey, query_id: UUID, body: Body, headers: Mapping[str, str]
) -> tuple[Ask, wire.RoutingOptions]:
    """Raises RequestError, NotFound or ModelNotAllowed, each naming its field."""
    model = str(body["model"])
    pinned, policy, suffix = resolve_model(gateway, key, model)
    if pinned is not None:
        endpoint = next(e for e in gateway.endpoints if e.name == pinned)
        if not wire.may_use(key.allows, endpoint.name, endpoint.model):
            raise ModelNotAllowed(f"this key may not use {model!r}", param="model")
    options = wire.routing_options(body, headers, suffix)
    gateway.router(options.policy, param="routing.policy")  # refused here, before anything is counted
    messages: list[dict[str, Any]] = body["messages"]
    query = Query(
        id=query_id,
        text=query_text(messages),
        tokens_input=count_request_tokens(body),
        tokens_output_max=wire.output_limit(body),
        needs=conversation.needs(body),
        tenant=key.tenant,
        tenant_allows=key.allows,
        session=conversation.session_key(tenant=key.tenant, headers=headers, body=body, explicit=options.session_id),
        pinned=pinned,
        preferences=options.preferences,
    )
    if pinned is None and conversation.in_tool_loop(messages):
        query = await gateway.holds(query)
    ask = Ask(
        query=query,
        body=body,
        requested_model=model,
        policy=options.policy or policy,
        stream=bool(body.get("stream")),
        wants_usage=wire.wants_usage(body),
        deadline_s=options.deadline_s,
        headers={name: headers[name] for name in _FORWARDED_HEADERS if name in headers},
    )
    return ask, options


def resolve_model(gateway: Gateway, key: ApiKey, model: str) -> tuple[str | None, str | None, str]:
    """(pinned endpoint or None, policy or None, `auto:` suffix or "") for what the client called `model`."""
    if any(endpoint.name == model for endpoint in gateway.endpoints):
        return model, None, ""
    bare, _, suffix = model.partition(":")
    if bare == AUTO:
        return None, None, suffix
    if bare.partition("@")[0] in gateway.routers:
        gateway.router(bare)
        return None, bare, suffix
    # A model id comes last, since it may also be a name that we gave; several endpoints may share one.
    serving = [endpoint for endpoint in gateway.endpoints if endpoint.model == model]
    if serving:
        usable = [e for e in serving if wire.may_use(key.allows, e.name, e.model)]
        return (usable or serving)[0].name, None, ""
    known = [AUTO, *gateway.routers, *(e.name for e in gateway.endpoints if wire.may_use(key.allows, e.name, e.model))]
    raise NotFound(
        f"the model {model!r} does not exist; known: {', '.join(known[:20])}", param="model", code="model_not_found"
    )
