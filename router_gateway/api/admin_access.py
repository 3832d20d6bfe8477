"""/admin/api: who asks, and the keys: listed, made, revoked."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from router_gateway.api.admin_door import Asked, Note, Route, admin_only, listed
from router_gateway.core.errors import RequestError
from router_gateway.ledger.keys import ApiKey, Keys, Role

_ALLOWS_MAX = 100


def _printable(said: str) -> str:
    if not said.isprintable() or said != said.strip():
        raise ValueError("must be one line of printable characters, without space around it")
    return said


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]


class NewKey(BaseModel):
    """A key to be made. `allows` are globs over endpoint and model names; empty: everything."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    tenant: Name = "default"
    allows: Annotated[list[Annotated[Name, Field(max_length=200)]], Field(max_length=_ALLOWS_MAX)] = []
    role: Role = "user"
    expires_at: AwareDatetime | None = None
    note: Note = ""


@admin_only
async def get_me(asked: Asked) -> dict[str, Any]:
    """The key that asks, and what it may: for a client that shows no button that would be refused."""
    return {**shown(asked.key), "sees_text": asked.sees_text, "author": asked.author}


@admin_only
async def list_keys(asked: Asked) -> dict[str, Any]:
    """The keys that are valid now, oldest first; of each no more than its first characters is known."""
    keys = await asyncio.to_thread(Keys(asked.database).list)
    return listed([shown(key) for key in keys])


@admin_only
async def create_key(asked: Asked) -> dict[str, Any]:
    """Make a key. Its `secret` is in this answer and nowhere else, ever."""
    body = await asked.body(NewKey)
    make = partial(
        Keys(asked.database).create,
        body.name,
        body.tenant,
        body.allows,
        admin=body.role == "admin",
        viewer=body.role == "viewer",
        expires_at=body.expires_at,
    )

    secret = await asyncio.to_thread(make)
    key = await asyncio.to_thread(Keys(asked.database).find, secret)
    if key is None:
        raise RequestError("`expires_at` is over already", param="expires_at")
    asked.did("key.create", f"{key.name} ({key.prefix}…)", note=body.note, id=str(key.id), role=key.role)
    return {**shown(key), "secret": secret}


@admin_only
async def revoke_key(asked: Asked) -> dict[str, Any]:
    """Withdraw a key by its id; running gateways notice within seconds."""
    try:
        key_id = UUID(asked.path("key_id"))
    except ValueError:
        raise RequestError("`key_id` is not a UUID", param="key_id") from None
    key = await asyncio.to_thread(Keys(asked.database).revoke, key_id)
    asked.did("key.revoke", f"{key.name} ({key.prefix}…)", note=asked.note, id=str(key.id), role=key.role)
    return {**shown(key), "status": "revoked"}


def shown(key: ApiKey) -> dict[str, Any]:
    """A key as JSON, without what would open anything."""
    return {
        "id": str(key.id),
        "name": key.name,
        "tenant": key.tenant,
        "prefix": key.prefix,
        "allows": list(key.allows),
        "role": key.role,
        "admin": key.admin,
        "created_at": key.created_at.isoformat(),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
    }


ROUTES: tuple[Route, ...] = (
    ("GET", "/me", get_me),
    ("GET", "/keys", list_keys),
    ("POST", "/keys", create_key),
    ("DELETE", "/keys/{key_id}", revoke_key),
)
