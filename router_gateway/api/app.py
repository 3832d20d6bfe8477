"""The ASGI application: routes, lifespan, one place for errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from router_gateway import __version__
from router_gateway.api import chat, errors, feedback, health, models, routing
from router_gateway.api.edge import Edge
from router_gateway.api.parts import Parts

Handler = Callable[[Request], Awaitable[Response]]

_OPENAI_PREFIXES = ("/v1", "", "/openai/v1")
"""Clients disagree on what a base URL ends with; all three spellings work."""


def create_app(parts: Parts) -> FastAPI:
    """Everything the gateway serves. Hot routes are plain handlers: no body is parsed twice."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            for prepare in parts.before_serving:
                await prepare()
            yield
        finally:
            await parts.gateway.aclose()

    app = FastAPI(title="Router Gateway", version=__version__, lifespan=lifespan)
    app.state.parts = parts
    app.add_middleware(Edge, in_flight_max=parts.requests_in_flight_max, clock=parts.meter)
    errors.install(app)
    for prefix in _OPENAI_PREFIXES:
        _add(app, "POST", f"{prefix}/chat/completions", chat.chat_completions)
        _add(app, "GET", f"{prefix}/models", models.list_models)
        _add(app, "GET", f"{prefix}/models/{{model:path}}", models.get_model)
    _add(app, "POST", "/v1/routing/decide", routing.decide)
    _add(app, "GET", "/v1/routing/decisions/{decision_id}", routing.get_decision)
    _add(app, "POST", "/v1/feedback", feedback.post_feedback)
    for path in ("/health/liveness", "/health/live", "/health/liveliness", "/livez"):
        _add(app, "GET", path, health.live)
    for path in ("/health/readiness", "/health/ready", "/readyz"):
        _add(app, "GET", path, health.ready)
    for path in ("/health", "/healthz"):
        _add(app, "GET", path, health.healthy)
    _add(app, "GET", "/metrics", health.metrics)
    return app


def _add(app: FastAPI, method: str, path: str, handler: Handler) -> None:
    app.add_route(path, handler, methods=[method], include_in_schema=False)
