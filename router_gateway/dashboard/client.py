"""The gateway as the dashboard knows it: its HTTP API, over one bounded pool, with errors turned into words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from router_gateway.dashboard.cache import Cache

ADMIN = "/admin/api"
_CONNECTIONS_MAX = 8  # the gateway answers clients first: this many questions of the dashboard at a time
_CONNECT_S, _READ_S, _POOL_S = 2.0, 15.0, 30.0
_STREAM_S = 60.0  # from one piece of an answer to the next
_ROOTS = ("/v1/", "/health")
_TOO_LONG, _UNREACHED = "The gateway takes too long to answer.", "The gateway cannot be reached."

_KEPT_S = 3.0  # less than the five seconds after which the gateway closes what is idle

FRESH_S = 1.5
"""How old an answer may be that is shown to somebody else who asks with the same key."""

Params = Mapping[str, Any]


class Trouble(Exception):
    """Whatever went wrong, in words for the person who looks at the page."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class GatewayAway(Trouble):
    """It does not answer, or cannot now."""


class SignedOut(Trouble):
    """The session is over, or its key is no longer valid."""


class NotAllowed(Trouble):
    """The key may not do this."""


class Refused(Trouble):
    """The gateway does not accept what was asked; `param` names the field, where one is to blame."""

    def __init__(self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


def open_pool(gateway: str) -> httpx.AsyncClient:
    """The one pool of connections to the gateway at that base URL; it follows no redirect: keys go nowhere else."""
    return httpx.AsyncClient(
        base_url=gateway,
        limits=httpx.Limits(
            max_connections=_CONNECTIONS_MAX,
            max_keepalive_connections=_CONNECTIONS_MAX,
            keepalive_expiry=_KEPT_S,
        ),
        timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S, pool=_POOL_S),
        follow_redirects=False,
        trust_env=False,
    )


@dataclass(slots=True, kw_only=True)
class AdminClient:
    """Asks with one key. Paths are those of the admin API, without its prefix; `/v1/…` and `/health…` as they are.

    actor : the person for whom a key of the dashboard's own is used; the gateway's trail names both
    """

    http: httpx.AsyncClient
    key: str = field(repr=False)
    cache: Cache
    actor: str = ""
    _owner: str = ""

    def __post_init__(self) -> None:
        self._owner = hashlib.sha256(f"{self.key}\0{self.actor}".encode()).hexdigest()[:16]

    def acting_for(self, actor: str) -> AdminClient:
        """The same, for that person."""
        return AdminClient(http=self.http, key=self.key, cache=self.cache, actor=actor)

    async def get(
        self, path: str, params: Params | None = None, *, fresh_s: float = FRESH_S, timeout_s: float = _READ_S
    ) -> Any:
        """What a GET answers. Answers younger than `fresh_s` are shared by everything that asks with this key.

        Raises Trouble.
        """
        asked = {name: value for name, value in (params or {}).items() if value is not None}

        async def ask() -> Any:
            return await self._ask("GET", path, params=asked, timeout_s=timeout_s)

        return await self.cache.get((self._owner, path, repr(sorted(asked.items()))), ask, fresh_s=fresh_s)

    async def kept(
        self, path: str, params: Params | None = None, *, fresh_s: float, timeout_s: float = _READ_S
    ) -> tuple[datetime, Any]:
        """What takes the gateway long to find: the answer and when it came; `send` leaves it. Raises Trouble."""
        asked = {name: value for name, value in (params or {}).items() if value is not None}

        async def ask() -> tuple[datetime, Any]:
            found = await self._ask("GET", path, params=asked, timeout_s=timeout_s)
            return datetime.now(UTC), found

        question = (f"{self._owner} kept", path, repr(sorted(asked.items())))
        found: tuple[datetime, Any] = await self.cache.get(question, ask, fresh_s=fresh_s)
        return found

    def forget_kept(self, path: str) -> None:
        """Have what is kept of that path found anew; an answer that is under way counts as new."""
        self.cache.forget(f"{self._owner} kept", path)

    async def data(self, path: str, params: Params | None = None, *, fresh_s: float = FRESH_S) -> list[dict[str, Any]]:
        """The rows of a list. Raises Trouble."""
        rows: list[dict[str, Any]] = (await self.get(path, params, fresh_s=fresh_s))["data"]
        return rows

    async def send(
        self, method: str, path: str, body: Any = None, *, params: Params | None = None, timeout_s: float = _READ_S
    ) -> Any:
        """Change something; what this key was told before is forgotten: pages show the change. Raises Trouble."""
        try:
            return await self._ask(method, path, params=params, body=body, timeout_s=timeout_s)
        finally:
            self.cache.forget(self._owner)

    async def _ask(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None, timeout_s: float
    ) -> Any:
        url = path if path.startswith(_ROOTS) else ADMIN + path
        return read(await self._sent(method, url, params, body, timeout_s=timeout_s))

    async def stream(self, path: str, params: Params) -> httpx.Response:
        """An answer of any length, still to be read and closed. Raises Trouble."""
        response = await self._sent("GET", ADMIN + path, params, timeout_s=_STREAM_S, stream=True)
        if not response.is_success:
            try:
                await response.aread()
            except httpx.HTTPError:
                raise GatewayAway(_UNREACHED) from None
            finally:
                await response.aclose()
            read(response)
        return response

    async def _sent(
        self, method: str, url: str, params: Params | None, body: Any = None, *, timeout_s: float, stream: bool = False
    ) -> httpx.Response:
        """The answer; where the gateway heard nothing, or only looked something up, it is asked again. Raises Trouble.

        stream : its body is still to be read
        """
        timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S, pool=_POOL_S)
        request = self.http.build_request(
            method, url, params=params, json=body, headers=self._headers(), timeout=timeout
        )
        connected_late = hung_up = False
        while True:
            try:
                return await self.http.send(request, stream=stream)
            except httpx.ConnectTimeout:  # of a busy machine: nothing was sent
                if connected_late:
                    raise GatewayAway(_TOO_LONG) from None
                connected_late = True
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if hung_up or method != "GET":  # a change may have been made
                    raise GatewayAway(_UNREACHED) from None
                hung_up = True  # the gateway had just closed this idle connection
            except httpx.TimeoutException:
                raise GatewayAway(_TOO_LONG) from None
            except httpx.HTTPError:
                raise GatewayAway(_UNREACHED) from None

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"authorization", f"Bearer {self.key}".encode())]
        return headers + ([(b"x-router-actor", self.actor.encode())] if self.actor else [])


def read(response: httpx.Response) -> Any:
    """The JSON of an answer. Raises the Trouble that it tells of."""
    if response.is_success:
        return response.json() if response.content else None
    try:
        error = response.json()["error"]
        message, param, code = str(error["message"]), error.get("param"), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, param, code = f"The gateway answered {response.status_code}.", None, None
    if response.status_code == 401:
        raise SignedOut("This key is unknown or was revoked: sign in again.")
    if response.status_code == 403:
        raise NotAllowed(sentence(message))
    if response.status_code in (502, 503, 504) or response.status_code >= 500:
        raise GatewayAway(sentence(message))
    raise Refused(sentence(message), param, status=response.status_code, code=code)


def sentence(message: str) -> str:
    """A message as a sentence: errors of the API begin small and end without a stop."""
    said = message.strip()
    said = said[:1].upper() + said[1:]
    return said if said.endswith((".", "!", "?")) else said + "."
