"""/admin/api: the policies that serve, and the configuration in force."""

from __future__ import annotations

from typing import Any

from router_gateway.api.admin_door import Asked, Route, admin_only, listed


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


ROUTES: tuple[Route, ...] = (
    ("GET", "/policies", list_policies),
    ("GET", "/settings", get_settings),
)
