"""The ASGI application: routes, lifespan, one place for errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from router_gateway import __version__
from router_gateway.api import admin, chat, errors, feedback, health, models, routing
from router_gateway.api.edge import Edge, InFlight
from router_gateway.api.parts import Parts
from router_gateway.api.quick import QuickRequest
from router_gateway.core.errors import GatewayError

Handler = Callable[[Request], Awaitable[Response]]

_OPENAI_PREFIXES = ("/v1", "", "/openai/v1")
"""Clients disagree on what a base URL ends with; all three spellings work."""


class Application(FastAPI):
    """FastAPI, with a short cut: a POST to a path of `hot` goes straight to its handler.

    FastAPI's layers and its router cost more than most of what the hot route does. They know the same paths
    too, and answer for other methods and behind a `root_path`.
    """

    hot: Mapping[str, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        straight = None
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            straight = self.hot.get(scope["path"])
        if straight is None:
            await super().__call__(scope, receive, send)
        else:
            scope["app"] = self
            await straight(scope, receive, send)


def create_app(parts: Parts) -> Application:
    """Everything the gateway serves. Handlers are plain: no body is parsed twice."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:  # the last first, and all of them, whatever fails
            for part in (parts.gateway, parts.grader, parts.onboarder):
                closing.push_async_callback(part.aclose)
            for prepare in (*parts.before_serving, parts.grader.start):
                await prepare()
            yield

    app = Application(title="Router Gateway", version=__version__, lifespan=lifespan)
    app.state.parts = parts
    in_flight = InFlight(parts.requests_in_flight_max)
    app.add_middleware(Edge, in_flight=in_flight, clock=parts.meter)
    straight = Edge(_plain(chat.chat_completions), in_flight=in_flight, clock=parts.meter)
    app.hot = {f"{prefix}/chat/completions": straight for prefix in _OPENAI_PREFIXES}
    errors.install(app)
    for prefix in _OPENAI_PREFIXES:
        _add(app, "POST", f"{prefix}/chat/completions", chat.chat_completions)
        _add(app, "GET", f"{prefix}/models", models.list_models)
        _add(app, "GET", f"{prefix}/models/{{model:path}}", models.get_model)
    _add(app, "POST", "/v1/routing/decide", routing.decide)
    _add(app, "GET", "/v1/routing/decisions/{decision_id}", routing.get_decision)
    _add(app, "POST", "/v1/feedback", feedback.post_feedback)
    _add(app, "DELETE", "/v1/feedback/{feedback_id}", feedback.delete_feedback)
    for method, path, handler in admin.ROUTES:
        _add(app, method, f"{admin.PREFIX}{path}", handler)
    for path in ("/health/liveness", "/health/live", "/health/liveliness", "/livez"):
        _add(app, "GET", path, health.live)
    for path in ("/health/readiness", "/health/ready", "/readyz"):
        _add(app, "GET", path, health.ready)
    for path in ("/health", "/healthz"):
        _add(app, "GET", path, health.healthy)
    _add(app, "GET", "/metrics", health.metrics)
    return app


def _plain(handler: Handler) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = QuickRequest(scope, receive, send)
        try:
            response = await handler(request)
        except GatewayError as error:
            response = errors.gateway_error(request, error)
        await response(scope, receive, send)

    return answer


def _add(app: FastAPI, method: str, path: str, handler: Handler) -> None:
    app.add_route(path, handler, methods=[method], include_in_schema=False)
