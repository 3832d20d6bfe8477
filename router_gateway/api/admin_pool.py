"""/admin/api: the configuration in force."""

from __future__ import annotations

from typing import Any

from router_gateway.api.admin_door import Asked, Route, admin_only


@admin_only
async def get_settings(asked: Asked) -> dict[str, Any]:
    """The configuration in force; what is secret is masked."""
    return {"settings": dict(asked.parts.settings)}


ROUTES: tuple[Route, ...] = (("GET", "/settings", get_settings),)
