"""Liveness (the process), readiness (database, policy, encoder) and /metrics; no key needed, no model called."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.api.parts import parts_of


async def live(request: Request) -> Response:
    """200 while the process answers at all; no I/O."""
    return JSONResponse({"status": "alive"})


async def ready(request: Request) -> Response:
    """200 once database, policy and encoder are there, else 503 naming what is missing."""
    missing = await asyncio.to_thread(parts_of(request).ready)
    if missing:
        return JSONResponse({"status": "not_ready", "missing": missing}, status_code=503, headers={"retry-after": "1"})
    return JSONResponse({"status": "ready"})


async def healthy(request: Request) -> Response:
    """A constant for load balancers that ask `/health`."""
    return JSONResponse({"status": "healthy"})


async def metrics(request: Request) -> Response:
    """Prometheus exposition, of all workers where there are several."""
    parts = parts_of(request)
    text = parts.meter.text() if parts.siblings is None else await asyncio.to_thread(parts.siblings.text)
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})
