"""Assembly: the pages under NiceGUI, the door before them, the guard around everything."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import nicegui
from nicegui import ui
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from router_gateway.dashboard import exporting
from router_gateway.dashboard.cache import Cache
from router_gateway.dashboard.client import AdminClient, open_pool
from router_gateway.dashboard.frame import frame
from router_gateway.dashboard.guard import THEME_COOKIE, Guard
from router_gateway.dashboard.login import Door
from router_gateway.dashboard.oidc import Oidc, Settings, open_provider
from router_gateway.dashboard.oidc_door import OidcDoor
from router_gateway.dashboard.pages import PAGES, Page
from router_gateway.dashboard.session import Brake, Sessions
from router_gateway.dashboard.view import View

log = logging.getLogger(__name__)

ASSETS = Path(__file__).with_name("assets")
_OPENED = ("/login", "/logout", "/assets/", "/favicon.ico", "/health/live")
_DARK = {"dark": True, "light": False}


def create_app(gateway: str, *, port: int, oidc: Settings | None = None) -> Starlette:
    """The dashboard of the gateway at that base URL. `port` keeps cookies of two dashboards on one host apart.

    NiceGUI has one application in a process, and so there is one of these.
    """
    http, cache, sessions = open_pool(gateway), Cache(), Sessions()
    cookie = f"rg_session_{port}"
    door = Door(
        sessions=sessions,
        brake=Brake(),
        client=lambda key: AdminClient(http=http, key=key, cache=cache),
        cookie=cookie,
        styles=_asset("theme.css"),
        gateway=gateway,
        secure=oidc is not None and oidc.url.startswith("https://"),
        provider=oidc is not None,
    )
    provider = open_provider()
    others = [] if oidc is None else _oidc_door(oidc, provider, door, f"rg_oidc_{port}").routes()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with http, provider:
            yield

    async def live(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    app = Starlette(
        lifespan=lifespan,
        routes=[
            *door.routes(),
            *others,
            Route(exporting.PATH, exporting.export),
            Route("/health/live", live),
            Mount("/assets", StaticFiles(directory=ASSETS)),
        ],
        middleware=[
            Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=4),
            Middleware(Guard, sessions=sessions, cookie=cookie, opened=_OPENED),
        ],
    )
    nicegui.app.config.socket_io_js_transports = ["websocket"]
    nicegui.app.config.quasar_config["loadingBar"]["skipHijack"] = True  # it says nothing, to the eye or a reader
    ui.add_head_html(_head(), shared=True)
    for page in PAGES:
        ui.page(page.path, title=f"{page.title} · Router Gateway", language="en-US", dark=None)(
            _shown(page, page.build(), sessions)
        )
    nicegui.app.on_exception(lambda error: log.error("a page failed: %s", type(error).__name__))
    _mount(app)
    return app


def _oidc_door(settings: Settings, http: httpx.AsyncClient, door: Door, cookie: str) -> OidcDoor:
    keys = {"admin": settings.admin_key, "viewer": settings.viewer_key}
    admins = {role: door.client(key) for role, key in keys.items() if key}
    return OidcDoor(oidc=Oidc(settings, http), door=door, admins=admins, cookie=cookie)


def _shown(page: Page, build: Callable[[View], None], sessions: Sessions) -> Callable[[Request], None]:
    def show(request: Request) -> None:
        view = View(
            session=request.state.session,
            sessions=sessions,
            client=ui.context.client,
            path=dict(request.path_params),
            query=dict(request.query_params),
        )
        if (outer := view.client.content.parent_slot) is not None:
            outer.parent.props("role=presentation")  # Quasar's page is a <main>, too, and holds the navigation
        ui.dark_mode(_DARK.get(request.cookies.get(THEME_COOKIE, "")))
        ui.on("rg_visible", lambda event: view.seen(event.args is True))
        ui.on("rg_active", lambda: sessions.touch(view.session))
        with frame(view, page):
            build(view)

    return show


def _mount(app: Starlette) -> None:
    run_with: Any = partial(ui.run_with)  # asks for FastAPI's type, and uses what Starlette has
    run_with(
        app,
        title="Router Gateway",
        favicon=ASSETS / "icon.svg",
        language="en-US",
        dark=None,
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=10.0,
        message_history_length=200,
        gzip_middleware_factory=None,  # ours is outside of the guard, which writes into pages
        show_welcome_message=False,
    )


def _head() -> str:
    return f'<link rel="stylesheet" href="{_asset("theme.css")}"><script defer src="{_asset("dashboard.js")}"></script>'


def _asset(name: str) -> str:
    """Its URL, which changes with its content."""
    digest = hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:12]
    return f"/assets/{name}?v={digest}"
