"""/admin/api/export: the ledger's rows as a stream, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Literal, cast

from starlette.responses import Response, StreamingResponse

from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.core.errors import AdminOnly, RequestError
from router_gateway.ledger.export import stream
from router_gateway.ledger.outcome_rows import Wanted

_KNOWN = frozenset({"since", "until", "policy", "tenant", "format", "text"})
_KINDS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
_OF_PROMPTS = frozenset({"prompt", "vector"})


@admin_only
async def export(asked: Asked) -> Response:
    """Decisions and their outcomes: `?format=csv` or `jsonl`, `since`, `until`, `policy`, `tenant`.

    Prompts come with `text=true`, to admins, where they are stored; vectors, which say much of a prompt, to admins.
    """
    given = asked.request.query_params
    if strange := sorted(set(given) - _KNOWN):
        raise RequestError(f"`{strange[0][:64]}` is not supported", param=strange[0][:64], code="unsupported_parameter")
    kind, text = given.get("format", "csv"), given.get("text", "false")
    if kind not in _KINDS:
        raise RequestError(f"`format` must be one of {', '.join(_KINDS)}", param="format")
    if text not in ("true", "false"):
        raise RequestError("`text` must be true or false", param="text")
    if text == "true" and not asked.key.admin:
        raise AdminOnly("the role viewer exports no prompts", param="text", code="read_only_role")
    hidden = _OF_PROMPTS - ({"vector"} if asked.key.admin else set()) - ({"prompt"} if text == "true" else set())
    wanted = Wanted(
        since=asked.instant("since"),
        until=asked.instant("until"),
        policy=given.get("policy"),
        tenant=given.get("tenant"),
    )
    pages = stream(asked.database, wanted, cast(Literal["csv", "jsonl"], kind), hidden=hidden)
    begun = await asyncio.to_thread(_begin, pages)  # a database that is away is said so, before any byte went out
    asked.did("ledger.export", kind, **{name: given[name] for name in sorted(set(given) - {"format"})})
    told = {"content-disposition": f'attachment; filename="ledger.{kind}"', "cache-control": "no-store"}
    return StreamingResponse(chain(begun, pages), media_type=_KINDS[kind], headers=told)


def _begin(pages: Iterator[bytes]) -> list[bytes]:
    """The first two pieces: the names of the columns, where there are any, and the first page."""
    return [piece for _, piece in zip(range(2), pages, strict=False)]


ROUTES: tuple[Route, ...] = (("GET", "/export", export),)
