"""/admin/api: endpoints with their circuits, the policies that serve, and the configuration in force."""

from __future__ import annotations

from typing import Any

from router_gateway.api.admin_door import Asked, Route, admin_only, listed
from router_gateway.core.types import Endpoint


@admin_only
async def list_endpoints(asked: Asked) -> dict[str, Any]:
    """The pool, in the configuration's order."""
    circuits = asked.gateway.dispatcher.circuit_states()
    default = asked.gateway.router(None).default_endpoint
    return listed(
        [
            {**_endpoint(each), "circuit": circuits[each.name].name.lower(), "default": each.name == default}
            for each in asked.gateway.endpoints
        ]
    )


@admin_only
async def list_policies(asked: Asked) -> dict[str, Any]:
    """The policies that clients can name, with what serves under each name now."""
    rows = []
    for name, router in asked.gateway.routers.items():
        row = {
            "name": name,
            "default": name == asked.gateway.default_policy,
            "serving": router.live().label,
            "candidate": router.candidate,
            "rule": router.rule.name,
            "worth_usd": router.worth_usd,
            "optimism": router.optimism,
            "embedding_space": router.space,
        }
        rows.append(row)
    return listed(rows)


@admin_only
async def get_settings(asked: Asked) -> dict[str, Any]:
    """The configuration in force; what is secret is masked."""
    return {"settings": dict(asked.parts.settings)}


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "model": endpoint.model,
        "provider": endpoint.provider,
        "protocol": endpoint.protocol,
        "price_input_usd_per_mtok": str(endpoint.price_input_usd_per_mtok),
        "price_output_usd_per_mtok": str(endpoint.price_output_usd_per_mtok),
        "price_cached_input_usd_per_mtok": str(endpoint.price_cached_input_usd_per_mtok),
        "price_cache_write_usd_per_mtok": str(endpoint.price_cache_write_usd_per_mtok),
        "context_tokens_max": endpoint.context_tokens_max,
        "offers": sorted(endpoint.offers),
        "region": endpoint.region,
        "collects_data": endpoint.collects_data,
    }


ROUTES: tuple[Route, ...] = (
    ("GET", "/endpoints", list_endpoints),
    ("GET", "/policies", list_policies),
    ("GET", "/settings", get_settings),
)
