"""Questions that the gateway answers one at a time, in a process apart: asked again while another is under way."""

from __future__ import annotations

import asyncio
from typing import Any

from router_gateway.dashboard.client import AdminClient, GatewayAway, Params

_AGAIN_S = 1.5
_TRIES = 160  # four minutes of other people's estimates
_LIMIT_S = 310.0  # a little more than the gateway gives an estimate
_BUSY = "under way"


async def estimate(admin: AdminClient, path: str, params: Params, *, fresh_s: float = 60.0) -> dict[str, Any]:
    """What an estimate's route answers. Raises Trouble."""
    for _ in range(_TRIES):
        try:
            found: dict[str, Any] = await admin.get(path, params, fresh_s=fresh_s, timeout_s=_LIMIT_S)
        except GatewayAway as trouble:
            if _BUSY not in trouble.message:
                raise
            await asyncio.sleep(_AGAIN_S)
        else:
            return found
    raise GatewayAway("The gateway is busy with other estimates.")
