"""API key to tenant. Keys are looked up by hash; the answer is remembered for a few seconds."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from starlette.requests import Request

from router_gateway.core.errors import AdminOnly, AuthError, LedgerUnavailable
from router_gateway.ledger.keys import ApiKey

READS = ("GET", "HEAD")
"""Methods that change nothing."""

_KEY_CHARS_MAX = 512


@dataclass(slots=True, kw_only=True)
class _Remembered:
    """What the database last said of a key, and when; `asked_s` also counts a question it left unanswered."""

    key: ApiKey | None
    found_s: float
    asked_s: float


@dataclass(kw_only=True)
class Authenticator:
    """`find` asks the database; a revoked key stops working within `remember_s`.

    What is remembered is the key's digest, never the key, and unknown keys as well (bounded), so that
    a client in a retry loop with a wrong key does not become a load on the database. While the database
    is away, keys that were good when last looked up stay good for `outage_s`, and it is asked for each of
    them every `remember_s` only: requests go on.
    """

    find: Callable[[str], ApiKey | None]
    remember_s: float = 5.0
    outage_s: float = 3600.0
    remembered_max: int = 10_000
    _remembered: OrderedDict[bytes, _Remembered] = field(default_factory=OrderedDict)
    _asked: dict[bytes, tuple[asyncio.Future[ApiKey | None], float]] = field(default_factory=dict)

    async def __call__(self, request: Request) -> ApiKey:
        """The key of a request, from `Authorization: Bearer` or `x-api-key`. Raises AuthError."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
        if not secret:
            raise AuthError(
                "no API key: send `Authorization: Bearer <key>` or `x-api-key: <key>`", code="missing_api_key"
            )
        key = await self._look_up(secret) if len(secret) <= _KEY_CHARS_MAX else None
        if key is None or key.expired(datetime.now(UTC)):
            raise AuthError("this API key is unknown, revoked or expired")
        return key

    async def admin(self, request: Request) -> ApiKey:
        """The same of a request to the admin API: a viewer's key reads there. Raises AuthError, AdminOnly."""
        key = await self(request)
        hint = "router-gateway keys create NAME --admin"
        if key.viewer and request.method not in READS:
            raise AdminOnly("this API key has the role viewer, which changes nothing", hint=hint, code="read_only_role")
        if not (key.admin or key.viewer):
            raise AdminOnly("this API key does not open the admin API", hint=hint)
        return key

    async def _look_up(self, secret: str) -> ApiKey | None:
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        now = time.monotonic()
        remembered = self._remembered.get(digest)
        if remembered is not None and now - remembered.asked_s < self.remember_s:
            return remembered.key
        try:
            key, now = await self._ask(digest, secret, now)
        except LedgerUnavailable:
            if remembered is None or remembered.key is None or now - remembered.found_s >= self.outage_s:
                raise
            remembered.asked_s = time.monotonic()  # the next request need not wait for the database to fail
            return remembered.key
        self._remembered[digest] = _Remembered(key=key, found_s=now, asked_s=now)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > self.remembered_max:
            self._remembered.popitem(last=False)
        return key

    async def _ask(self, digest: bytes, secret: str, now: float) -> tuple[ApiKey | None, float]:
        """What the database says of it, and when it was asked: one question at a time, however many wait for it."""
        asking = self._asked.get(digest)
        if asking is None:
            asked = asyncio.ensure_future(asyncio.to_thread(self.find, secret))
            asked.add_done_callback(partial(self._answered, digest))
            asking = self._asked[digest] = asked, now
        return await asyncio.shield(asking[0]), asking[1]

    def _answered(self, digest: bytes, asked: asyncio.Future[ApiKey | None]) -> None:
        del self._asked[digest]
        if not asked.cancelled():
            asked.exception()  # those who wait are told; perhaps they have all left
