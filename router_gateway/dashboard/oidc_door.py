"""The two routes of a sign-in by an identity provider: out to it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from router_gateway.dashboard.client import AdminClient, Trouble
from router_gateway.dashboard.login import Door, inside
from router_gateway.dashboard.oidc import NotSignedIn, Oidc

_COOKIE_S = 600
_PATH = "/login/oidc"


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcDoor:
    """`admins` has the gateway's client of each role that has a key of its own; `cookie` is this sign-in's alone."""

    oidc: Oidc
    door: Door
    admins: Mapping[str, AdminClient]
    cookie: str

    def routes(self) -> list[Route]:
        return [Route(_PATH, self.leave, methods=["GET"]), Route(f"{_PATH}/back", self.come_back, methods=["GET"])]

    async def leave(self, request: Request) -> Response:
        """Out to the provider."""
        back = inside(request.query_params.get("next", "/"))
        try:
            url, browser = await self.oidc.begin(back)
        except NotSignedIn as trouble:
            return self.door.page(back, trouble.message, status=trouble.status)
        answer = RedirectResponse(url, 303)
        answer.set_cookie(
            self.cookie,
            browser,
            max_age=_COOKIE_S,
            httponly=True,
            samesite="lax",
            secure=self.door.is_secure(request),
            path=_PATH,
        )
        return answer

    async def come_back(self, request: Request) -> Response:
        """A session for who was let in, else the form with the reason."""
        try:
            person = await self.oidc.finish(request.query_params, request.cookies.get(self.cookie, ""))
            admin = self.admins.get(person.role)
            if admin is None:
                raise NotSignedIn(f"This dashboard has no key of its own for the role {person.role}.", 503)
            admin = admin.acting_for(person.name)
            try:
                await admin.get("/me")
            except Trouble as trouble:
                said = f"The dashboard's own key for the role {person.role}: {trouble.message}"
                raise NotSignedIn(said, 503) from None
        except NotSignedIn as trouble:
            return self.door.page("/", trouble.message, status=trouble.status)
        token = self.door.sessions.begin(admin, name=person.name, role=person.role)
        answer = self.door.admit(request, token, person.back)
        answer.delete_cookie(self.cookie, path=_PATH, httponly=True, samesite="lax")
        return answer
