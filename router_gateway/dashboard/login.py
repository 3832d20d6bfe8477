"""Signing in and out: two plain HTTP routes and one form that needs no script."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from router_gateway.dashboard.client import AdminClient, GatewayAway, NotAllowed, Refused, SignedOut
from router_gateway.dashboard.session import Brake, Sessions

log = logging.getLogger(__name__)

_FORM_BYTES_MAX = 16 * 1024
_KEY_CHARS_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What signing in needs. `client` makes an AdminClient of a key; `styles` is the style sheet's URL.

    gateway : base URL of the gateway whose dashboard this is, for a person to read
    secure : browsers have this over TLS, whatever lies between; provider : there is an identity provider as well
    """

    sessions: Sessions
    brake: Brake
    client: Callable[[str], AdminClient]
    cookie: str
    styles: str
    gateway: str
    secure: bool = False
    provider: bool = False

    def routes(self) -> list[Route]:
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.sign_in, methods=["POST"]),
            Route("/logout", self.sign_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The form; who is signed in already goes on."""
        back = inside(request.query_params.get("next", "/"))
        if request.state.session is not None:
            return RedirectResponse(back, 303)
        return self.page(back)

    async def sign_in(self, request: Request) -> Response:
        """A session for a key that opens the admin API, else the form with the reason."""
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _FORM_BYTES_MAX:
            return self.page("/", "That was no form of ours.", status=413)
        form = await request.form(max_files=0, max_fields=10)
        key, back = str(form.get("key", "")).strip(), inside(str(form.get("next", "/")))
        address = request.client.host if request.client else "unknown"
        if wait_s := self.brake.wait_s(address):
            said = f"Too many wrong keys: try again in {int(wait_s) + 1} seconds."
            return self.page(back, said, status=429, headers={"retry-after": str(int(wait_s) + 1)})
        if not key or len(key) > _KEY_CHARS_MAX or not key.isascii():
            return self.page(back, "Give an admin key, or a viewer's: it begins with rg-.", status=400)
        admin = self.client(key)
        try:
            me = await admin.get("/me")
        except (SignedOut, NotAllowed, Refused) as trouble:
            self.brake.failed(address)
            log.warning("a sign-in from %s failed", address)
            known = isinstance(trouble, NotAllowed)
            said = "This key does not open the admin API." if known else "This key is unknown or was revoked."
            return self.page(back, said, status=403 if known else 401)
        except GatewayAway as trouble:
            return self.page(back, trouble.message, status=503)
        token = self.sessions.begin(admin, name=f"{me['name']} ({_name_of(key)})", role=me["role"])
        return self.admit(request, token, back)

    def admit(self, request: Request, token: str, back: str) -> Response:
        """On to the page `back`, with the session's cookie; a session that was there before ends."""
        self.sessions.end(request.state.token)
        answer = RedirectResponse(inside(back), 303)
        answer.set_cookie(self.cookie, token, httponly=True, samesite="lax", secure=self.is_secure(request), path="/")
        return answer

    def is_secure(self, request: Request) -> bool:
        """Whether cookies are for TLS alone."""
        return self.secure or request.url.scheme == "https"

    async def sign_out(self, request: Request) -> Response:
        """End the session, here and in the browser; at an identity provider it goes on."""
        self.sessions.end(request.state.token)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(self.cookie, path="/", httponly=True, samesite="lax")
        return answer

    def page(self, back: str, said: str = "", *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        alert = f'<p class="rg-login-alert" role="alert">{escape(said)}</p>' if said else ""
        provider = _PROVIDER.format(back=quote(back, safe="")) if self.provider else ""
        page = _FORM.format(
            styles=escape(self.styles), gateway=escape(self.gateway), back=escape(back), alert=alert, provider=provider
        )
        return HTMLResponse(page, status, headers=headers)


_FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Router Gateway</title>
<link rel="stylesheet" href="{styles}">
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
</head>
<body class="rg-login">
<main>
<form method="post" action="/login" class="rg-login-card">
<p class="rg-brand"><img src="/assets/icon.svg" alt="" width="28" height="28"> Router Gateway</p>
<div>
<h1>Sign in</h1>
<p class="rg-dim">to the gateway at {gateway}</p>
</div>
{alert}
{provider}
<label for="key">Admin or viewer key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus spellcheck="false"
  placeholder="rg-…">
<input type="hidden" name="next" value="{back}">
<button type="submit" class="rg-button rg-primary">Sign in</button>
<p class="rg-dim">No key yet? On the gateway's machine:<br>
<code>router-gateway keys create NAME --admin</code><br>
(<code>--viewer</code> for one that only reads)</p>
</form>
</main>
</body>
</html>
"""


_PROVIDER = """<a class="rg-button rg-primary" href="/login/oidc?next={back}">Sign in with your organisation</a>
<p class="rg-or rg-dim">or with a key</p>"""


def inside(path: str) -> str:
    """A path of ours to go back to; anything that leads elsewhere is the overview."""
    parts = urlsplit(path)
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if ours and path.isprintable() and "\\" not in path and not path.startswith("/log") else "/"


def _name_of(key: str) -> str:
    """What of a key may be shown: as much as `keys list` shows."""
    return f"{key[:11]}…"
