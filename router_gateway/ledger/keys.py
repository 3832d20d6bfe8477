"""API keys: made here, shown once, known afterwards only by their SHA-256.

A key carries 256 random bits, so a fast hash is as good as a slow one: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import Engine, Row, Select, insert, or_, select

from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.ledger.connections import reading, writing
from router_gateway.ledger.tables import api_key_revocations, api_keys

Role = Literal["user", "viewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""What a key opens besides the API of its tenant: nothing, the reading side of the admin API, or all of it."""

_RANDOM_BYTES = 32
_PREFIX_CHARS = 11
_KEYS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Who a key belongs to. `allows` are globs over endpoint and model names; empty: everything.

    admin : whether it opens the admin API as well; viewer : whether it reads there
    expires_at : from this instant on it is no key any more; None = never
    """

    id: UUID
    name: str
    tenant: str
    prefix: str
    allows: tuple[str, ...]
    created_at: datetime
    admin: bool = False
    viewer: bool = False
    expires_at: datetime | None = None

    @property
    def role(self) -> Role:
        return "admin" if self.admin else "viewer" if self.viewer else "user"

    def expired(self, now: datetime) -> bool:
        """Whether its time is over at `now` (timezone-aware)."""
        return self.expires_at is not None and self.expires_at <= now


class Keys:
    """The register of API keys. All methods block on the database, and raise LedgerUnavailable when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        name: str,
        tenant: str = "default",
        allows: Sequence[str] = (),
        *,
        admin: bool = False,
        viewer: bool = False,
        expires_at: datetime | None = None,
    ) -> str:
        """A new key in plaintext ("rg-" and 43 URL-safe characters), to be shown once.

        expires_at : timezone-aware, None = never
        Raises RequestError for the tenant that is the gateway itself: its decisions and budget are nobody else's.
        """
        if tenant == JUDGING_TENANT:
            raise RequestError(f"the tenant {tenant!r} is the gateway's own", param="tenant")
        if admin and viewer:
            raise RequestError("a key is an admin's or a viewer's, not both", param="role")
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise RequestError("`expires_at` is over already", param="expires_at")
        key = "rg-" + secrets.token_urlsafe(_RANDOM_BYTES)
        row = {
            "id": uuid7(),
            "at": datetime.now(UTC),
            "name": name,
            "tenant": tenant,
            "prefix": key[:_PREFIX_CHARS],
            "sha256": _digest(key),
            "allows": list(allows),
            "admin": admin,
            "viewer": viewer,
            "expires_at": expires_at,
        }
        with writing(self._engine) as connection:
            connection.execute(insert(api_keys).values(row))
        return key

    def find(self, plaintext: str) -> ApiKey | None:
        """The key's owner, or None for an unknown, revoked or expired key."""
        digest = _digest(plaintext)
        with reading(self._engine) as connection:
            row = connection.execute(_active().where(api_keys.c.sha256 == digest)).first()
        if row is None or not hmac.compare_digest(row.sha256, digest):
            return None
        return _key(row)

    def named(self, key: UUID | str) -> ApiKey:
        """The active key of that id or prefix.

        Raises NotFound when there is none, RequestError when several begin with the prefix.
        """
        found = [k for k in self.list() if (k.id == key if isinstance(key, UUID) else _named(k, key))]
        if not found:
            raise NotFound("no active API key of that id or prefix")
        if len(found) > 1:
            raise RequestError(f"{len(found)} API keys begin like that: name one by its id")
        return found[0]

    def revoke(self, key: UUID | str) -> ApiKey:
        """Withdraw an active key, named as for `named`, which says what is raised."""
        found = self.named(key)
        with writing(self._engine) as connection:
            connection.execute(insert(api_key_revocations).values(key_id=found.id, at=datetime.now(UTC)))
        return found

    def list(self) -> list[ApiKey]:
        """The active keys, oldest first."""
        with reading(self._engine) as connection:
            return [_key(row) for row in connection.execute(_active().order_by(api_keys.c.id).limit(_KEYS_MAX))]


def _active() -> Select[tuple[object, ...]]:
    revoked = select(api_key_revocations.c.key_id).where(api_key_revocations.c.key_id == api_keys.c.id).exists()
    lasting = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > datetime.now(UTC))
    return select(api_keys).where(~revoked, lasting)


def _named(key: ApiKey, name: str) -> bool:
    return name == str(key.id) or (len(name) >= len("rg-") + 1 and key.prefix.startswith(name))


def _digest(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode("utf-8", "replace")).hexdigest()


def _key(row: Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        tenant=row.tenant,
        prefix=row.prefix,
        allows=tuple(row.allows),
        created_at=row.at,
        admin=row.admin,
        viewer=row.viewer,
        expires_at=row.expires_at,
    )
