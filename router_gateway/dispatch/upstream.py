"""The seam inside dispatch: one try at one endpoint, whatever it speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from router_gateway.core.body import Body
from router_gateway.core.types import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is to be sent, the same for every endpoint of the order.

    `body` is the client's Chat Completions body, untouched; `wants_usage` is whether the client itself
    asked for the usage chunk of a stream; `deadline_s` bounds the whole call, all attempts together;
    `headers` are the client's headers that an upstream may see (traceparent and the like, never keys).
    """

    query_id: UUID
    body: Body
    stream: bool
    wants_usage: bool = False
    deadline_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Reply(Protocol):
    """An upstream's answer after its status line: either whole or as events."""

    status: int
    headers: Mapping[str, str]

    async def content(self) -> bytes:
        """The whole body, JSON in OpenAI's shape (an answer or, at status >= 400, an error object)."""
        ...

    def events(self) -> AsyncIterator[bytes]:
        """Server-sent events in OpenAI's shape, each complete (b"data: ...\\n\\n"), `[DONE]` included.

        Raises UpstreamError when the stream breaks off or is no event stream.
        """
        ...

    async def aclose(self) -> None:
        """Cancel the upstream if it is still answering; idempotent."""
        ...


class Upstream(Protocol):
    """One way of speaking to endpoints: passthrough or translation."""

    async def open(self, endpoint: Endpoint, call: Call, *, timeout_s: float) -> Reply:
        """Send, and return once status and headers are there.

        Raises UpstreamTimeout, UpstreamRateLimited or UpstreamError for what another endpoint may cure;
        a reply of status 400, 413 or 422 (the request itself is wrong) is returned, not raised.
        """
        ...

    async def aclose(self) -> None:
        """Release the connections."""
        ...
