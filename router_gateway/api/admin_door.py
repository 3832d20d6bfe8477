"""What the handlers of the admin API share: the door, the reading of what they are asked, the trail, and JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.api.auth import READS
from router_gateway.api.parts import Parts, parts_of, read_body
from router_gateway.core.errors import GatewayError, RequestError
from router_gateway.gateway import Gateway
from router_gateway.ledger.admin_events import AdminEvent, AdminEvents
from router_gateway.ledger.keys import ApiKey

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Route: TypeAlias = tuple[str, str, Handler]

NOTE_CHARS_MAX = 2_000
Note = Annotated[str, Field(max_length=NOTE_CHARS_MAX)]

_BODY_BYTES_MAX = 64 * 1024
_CHARS_SHOWN = 64
_ACTOR_HEADER = "x-router-actor"
_ACTOR_CHARS_MAX = 200
_UNCACHED = {"cache-control": "no-store"}
LISTED_MAX = 1_000

Model = TypeVar("Model", bound=BaseModel)


@dataclass(slots=True, kw_only=True)
class Deed:
    """What a request did, for the trail. A handler that says nothing leaves its method and path."""

    action: str = ""
    subject: str = ""
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    nothing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that came through the door. `key` is an admin's, or a viewer's where nothing is changed."""

    request: Request
    parts: Parts
    key: ApiKey
    deed: Deed = field(default_factory=Deed)

    @property
    def gateway(self) -> Gateway:
        return self.parts.gateway

    @property
    def database(self) -> Any:
        """The ledger's engine; what reads it blocks, and belongs in a thread."""
        return self.gateway.ledger.engine

    @property
    def author(self) -> str:
        """Who an audit trail names: never the key itself; before it the person that `x-router-actor` names.

        Raises RequestError for a header that is no short line of printable UTF-8.
        """
        of_key = f"{self.key.name} ({self.key.prefix}…)"
        said = self.request.headers.get(_ACTOR_HEADER)
        if said is None:
            return of_key
        try:
            actor = said.encode("latin-1").decode("utf-8").strip()
        except UnicodeError:
            actor = ""
        if not actor or len(actor) > _ACTOR_CHARS_MAX or not actor.isprintable():
            text = f"`{_ACTOR_HEADER}` must be 1 to {_ACTOR_CHARS_MAX} printable characters of UTF-8"
            raise RequestError(text, param=_ACTOR_HEADER)
        return f"{actor} via {of_key}"

    @property
    def sees_text(self) -> bool:
        """Whether this caller may be shown prompts and answers that are stored."""
        return self.key.admin or self.parts.viewers_read_text

    def did(self, action: str, subject: str = "", *, note: str = "", **detail: Any) -> None:
        """Say for the trail what was done, such as `key.create`; `detail` is JSON and holds no secret."""
        self.deed.action, self.deed.subject, self.deed.note, self.deed.detail = action, subject, note, detail

    def did_nothing(self) -> None:
        """A request that changed nothing, though its method could: the trail passes over it."""
        self.deed.nothing = True

    @property
    def note(self) -> str:
        """Why, where there is no body to say it in: `?note=`. Raises RequestError."""
        note = self.request.query_params.get("note", "")
        if len(note) > NOTE_CHARS_MAX:
            raise RequestError(f"`note` must have at most {NOTE_CHARS_MAX} characters", param="note")
        return note

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


def admin_only(handler: Callable[[Asked], Awaitable[dict[str, Any] | Response]]) -> Handler:
    """The handler behind the door: the key first, then what it returns (as JSON, unless it is a response).

    A viewer's key opens it for GET alone. What else comes through leaves a line in the trail, whatever the handler.
    """

    @wraps(handler)
    async def answer(request: Request) -> Response:
        parts = parts_of(request)
        asked = Asked(request=request, parts=parts, key=await parts.auth.admin(request))
        author = asked.author  # refused before anything is done
        answered = await handler(asked)
        if not asked.deed.nothing and (asked.deed.action or request.method not in READS):
            await _write_down(asked, author)
        return answered if isinstance(answered, Response) else JSONResponse(answered, headers=_UNCACHED)

    return answer


async def _write_down(asked: Asked, author: str) -> None:
    request, deed = asked.request, asked.deed
    event = AdminEvent(
        author=author,
        action=deed.action or f"{request.method} {request.url.path}",
        subject=deed.subject,
        note=deed.note,
        detail=deed.detail,
    )
    try:
        await asyncio.to_thread(AdminEvents(asked.database).append, event)
    except GatewayError:
        log.error("done, but not in the trail: %s %s by %s", event.action, event.subject, author)
        raise


def listed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A list in the shape of OpenAI's lists."""
    return {"object": "list", "data": rows}
