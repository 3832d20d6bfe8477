"""What the handlers of the admin API share: the door, the reading of what they are asked, and JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.api.parts import Parts, parts_of, read_body
from router_gateway.core.errors import RequestError
from router_gateway.gateway import Gateway
from router_gateway.ledger.keys import ApiKey

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Route: TypeAlias = tuple[str, str, Handler]

_BODY_BYTES_MAX = 64 * 1024
_CHARS_SHOWN = 64
LISTED_MAX = 1_000

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that came through the door. `key` is an admin's."""

    request: Request
    parts: Parts
    key: ApiKey

    @property
    def gateway(self) -> Gateway:
        return self.parts.gateway

    @property
    def database(self) -> Any:
        """The ledger's engine; what reads it blocks, and belongs in a thread."""
        return self.gateway.ledger.engine

    @property
    def author(self) -> str:
        """Who an audit trail names: never the key itself."""
        return f"{self.key.name} ({self.key.prefix}…)"

    def path(self, name: str) -> str:
        """A part of the path."""
        value: str = self.request.path_params[name]
        return value

    def instant(self, name: str) -> datetime | None:
        """A query parameter as an instant, of UTC where it names no zone; None when absent. Raises RequestError."""
        given = self.request.query_params.get(name)
        if given is None:
            return None
        try:
            at = datetime.fromisoformat(given)
        except ValueError:
            raise RequestError(
                f"`{name}` must be an instant such as 2026-03-01T12:00:00Z, not {given[:_CHARS_SHOWN]!r}", param=name
            ) from None
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    def limit(self, default: int = 100) -> int:
        """How many rows of a list are wanted, 1 to 1,000. Raises RequestError."""
        given = self.request.query_params.get("limit", str(default))
        if not (given.isascii() and given.isdigit() and 1 <= int(given) <= LISTED_MAX):
            raise RequestError(f"`limit` must be a number from 1 to {LISTED_MAX}", param="limit")
        return int(given)

    async def body(self, model: type[Model], bytes_max: int = _BODY_BYTES_MAX) -> Model:
        """The JSON body, checked. Raises RequestError naming the first field that is wrong."""
        body = await read_body(self.request, min(self.parts.body_bytes_max, bytes_max))
        try:
            return model.model_validate(body.values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            path = ".".join(map(str, first["loc"]))[:_CHARS_SHOWN]
            unknown = first["type"] == "extra_forbidden"
            said = f"`{path}` is not supported" if unknown else f"`{path}`: {first['msg']}"
            raise RequestError(said, param=path, code="unsupported_parameter" if unknown else None) from None


def admin_only(handler: Callable[[Asked], Awaitable[dict[str, Any]]]) -> Handler:
    """The handler behind the door: an admin's key first, then what it returns, as JSON."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        parts = parts_of(request)
        key = await parts.auth.admin(request)
        return JSONResponse(await handler(Asked(request=request, parts=parts, key=key)))

    return answer


def listed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A list in the shape of OpenAI's lists."""
    return {"object": "list", "data": rows}
