"""/admin/api/policies: what serves under each name, and what policies there are to make a candidate of."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from router_gateway import registry
from router_gateway.api.admin_door import Asked, Route, admin_only, listed
from router_gateway.core.errors import PolicyError


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
            "guard": {"z": router.guard.z, "novelty_stddev_max": _finite(router.guard.novelty_stddev_max)},
            "params": registry.parameters(router.live().policy),
            "embedding_space": router.space,
        }
        rows.append(row)
    return listed(rows)


@admin_only
async def list_kinds(asked: Asked) -> dict[str, Any]:
    """Every installed policy with the JSON Schema of its parameters and their defaults, for forms."""
    return listed(await asyncio.to_thread(_kinds))


@cache
def _kinds() -> list[dict[str, Any]]:
    """Once per process: it imports every policy."""
    return [_kind(name) for name in registry.available()]


def _kind(name: str) -> dict[str, Any]:
    try:
        info = registry.describe(name)
    except PolicyError as error:  # somebody else's distribution, and no reason to withhold the others
        return {"name": name, "summary": "", "parameters": {}, "defaults": {}, "error": error.message}
    return {
        "name": name,
        "distribution": info.distribution,
        "version": info.version,
        "summary": info.summary,
        "parameters": info.parameters,
        "defaults": info.defaults,
        "error": None,
    }


def _finite(number: float) -> float | None:
    return number if number < float("inf") else None


ROUTES: tuple[Route, ...] = (("GET", "/policies", list_policies), ("GET", "/policies/kinds", list_kinds))
