"""GET /v1/models and /v1/models/{id}: the endpoints, the alias `auto`, and the live policies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.api.ask import AUTO
from router_gateway.api.parts import Parts, parts_of
from router_gateway.api.wire import may_use
from router_gateway.core.errors import NotFound
from router_gateway.core.prices import priced_at
from router_gateway.core.types import Endpoint
from router_gateway.ledger.keys import ApiKey

_ALIAS_OWNER = "router-gateway"


async def list_models(request: Request) -> Response:
    """All models this key may use, in OpenAI's shape, or Anthropic's when `anthropic-version` is sent."""
    parts = parts_of(request)
    models = list(_models(parts, await parts.auth(request)))
    if "anthropic-version" not in request.headers:
        return JSONResponse({"object": "list", "data": models})
    data = [_anthropic(model) for model in models]
    ids = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return JSONResponse({"data": data, "has_more": False, **ids})


async def get_model(request: Request) -> Response:
    """One model by id."""
    parts = parts_of(request)
    wanted = request.path_params["model"]
    for model in _models(parts, await parts.auth(request)):
        if model["id"] == wanted:
            return JSONResponse(_anthropic(model) if "anthropic-version" in request.headers else model)
    raise NotFound(f"the model {wanted[:100]!r} does not exist", param="model", code="model_not_found")


def _models(parts: Parts, key: ApiKey) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    pool = [priced_at(e, now) for e in parts.gateway.endpoints if may_use(key.allows, e.name, e.model)]
    for alias in (AUTO, *parts.gateway.routers) if pool else ():
        yield _base(alias, parts.started_at, _ALIAS_OWNER) | _range(pool)
    for endpoint in pool:
        yield _base(endpoint.name, parts.started_at, endpoint.provider) | {
            "context_length": endpoint.context_tokens_max,
            "pricing": {
                "prompt": _per_token(endpoint.price_input_usd_per_mtok),
                "completion": _per_token(endpoint.price_output_usd_per_mtok),
            },
            "architecture": {"input_modalities": _modalities(endpoint)},
            "supported_parameters": sorted(endpoint.offers & {"tools"}) + (
                ["response_format"] if "json" in endpoint.offers else []
            ),
        }  # fmt: skip


def _base(name: str, created: int, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def _range(pool: list[Endpoint]) -> dict[str, Any]:
    """A routed alias has a price range, never one price."""
    inputs = [e.price_input_usd_per_mtok for e in pool]
    outputs = [e.price_output_usd_per_mtok for e in pool]
    return {
        "context_length": max(e.context_tokens_max for e in pool),
        "pricing": {
            "prompt_min": _per_token(min(inputs)),
            "prompt_max": _per_token(max(inputs)),
            "completion_min": _per_token(min(outputs)),
            "completion_max": _per_token(max(outputs)),
        },
    }


def _per_token(usd_per_mtok: Any) -> str:
    """USD per token as a decimal string, as OpenRouter's model list has it."""
    return f"{usd_per_mtok / 1_000_000:f}"


def _modalities(endpoint: Endpoint) -> list[str]:
    extra = {"vision": "image", "audio": "audio"}
    return ["text", *(word for offer, word in extra.items() if offer in endpoint.offers)]


def _anthropic(model: dict[str, Any]) -> dict[str, Any]:
    created = datetime.fromtimestamp(model["created"], UTC).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": model["id"], "display_name": model["id"], "created_at": created}
