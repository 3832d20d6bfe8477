"""What every answer and every question of the dashboard goes through: headers, origin, session."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router_gateway.dashboard.session import Sessions

_SAFE = frozenset({"GET", "HEAD"})
_SOCKET = "/_nicegui_ws"
_THEMES = frozenset({"dark", "light"})
THEME_COOKIE = "rg_theme"


def policy(nonce: str) -> str:
    """The Content-Security-Policy of a page.

    Scripts: the package's own files, and inline ones with this page's nonce. 'unsafe-eval' is what Vue compiles its
    templates with and NiceGUI its handlers; 'unsafe-inline' for styles is what both set sizes with. Nothing from
    anywhere else, in no frame.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "manifest-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


_HEADERS = (
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),  # no-referrer would have browsers send `Origin: null` with the form
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


class Guard:
    """ASGI middleware. `cookie` names the session's cookie; paths that begin with one of `opened` need no session.

    `scope["state"]["session"]` becomes the session, `scope["state"]["token"]` what its cookie held.
    """

    def __init__(self, app: ASGIApp, *, sessions: Sessions, cookie: str, opened: Iterable[str]) -> None:
        self._app, self._sessions, self._cookie = app, sessions, cookie
        self._opened = tuple(opened)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _same_origin(scope, headers):
            await _turn_away(scope, receive, send, PlainTextResponse("another site may not ask this", 403))
            return
        cookies = _cookies(headers)
        token = cookies.get(self._cookie)
        session = self._sessions.of(token)
        path = scope["path"]
        if session is None and not path.startswith(self._opened):
            back = "" if path == "/" else "?next=" + quote(path + _query(scope), safe="")
            answer = RedirectResponse(f"/login{back}", 303) if _is_page(scope) else PlainTextResponse("sign in", 401)
            await _turn_away(scope, receive, _with_headers(send, policy(secrets.token_urlsafe(16))), answer)
            return
        if session is not None and _is_page(scope):
            self._sessions.touch(session)
        nonce = secrets.token_urlsafe(16)
        scope["state"] = {**scope.get("state", {}), "session": session, "token": token, "nonce": nonce}
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        theme = cookies.get(THEME_COOKIE, "")
        await self._app(scope, receive, _Pages(_with_headers(send, policy(nonce)), nonce, theme))


class _Pages:
    """Gives a page's inline scripts their nonce, and the page its theme, before it is sent.

    A page is NiceGUI's template with what it escapes, or the form of login.py: no `<` in it comes from data.
    """

    def __init__(self, send: Send, nonce: str, theme: str) -> None:
        self._send, self._nonce = send, nonce
        self._theme = theme if theme in _THEMES else ""
        self._held: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_html(message):
            self._held = message
        elif self._held is None:
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._release(self._held)

    async def _release(self, start: Message) -> None:
        body = bytes(self._body).replace(b"<script", b'<script nonce="%s"' % self._nonce.encode())
        if self._theme:
            body = body.replace(b"<html", b'<html data-theme="%s"' % self._theme.encode(), 1)
        MutableHeaders(scope=start)["content-length"] = str(len(body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _is_html(start: Message) -> bool:
    return MutableHeaders(scope=start).get("content-type", "").startswith("text/html")


def _with_headers(send: Send, policy: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS:
                headers[name] = value
            headers["content-security-policy"] = policy
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending


def _same_origin(scope: Scope, headers: Headers) -> bool:
    """Browsers say where a request comes from whenever it can change anything; who does not say so is none."""
    strict = scope["type"] == "websocket" or scope["method"] not in _SAFE
    origin = headers.get("origin")
    if origin is None:
        return not strict
    if not strict and not scope["path"].startswith(_SOCKET):
        return True
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


async def _turn_away(scope: Scope, receive: Receive, send: Send, answer: PlainTextResponse | RedirectResponse) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await answer(scope, receive, send)


def _is_page(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in _SAFE and not scope["path"].startswith("/_nicegui")


def _query(scope: Scope) -> str:
    query = scope.get("query_string", b"").decode("latin-1")
    return f"?{query}" if query else ""


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}
