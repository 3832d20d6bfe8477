"""The seam inside dispatch: one try at one endpoint, whatever it speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from router_gateway.core.body import Body
from router_gateway.core.errors import UpstreamError, UpstreamTimeout
from router_gateway.core.types import Endpoint

DROPPED_HEADER = "x-router-dropped-params"
"""In a reply's headers: the members of the request that were left out, where `dispatch.drop_params` allows it."""


class UpstreamRefused(UpstreamError):
    """An endpoint answered, but with what another endpoint may cure: 401, 403, 404, 5xx, or 200 and a login page.

    `upstream_status` is that status; `retry_after_s` the pause it asked for, or None.
    """

    def __init__(self, message: str, *, upstream_status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status
        self.retry_after_s = retry_after_s


class ContextLengthExceeded(UpstreamError):
    """The request is longer than this endpoint's context: the next one may take it, and this one is healthy."""

    code = "context_length_exceeded"
    status = 400
    type = "invalid_request_error"


class BrokenAnswer(UpstreamError):
    """A whole answer began with a 200 and broke off or made no sense: nothing to pass on, yet probably billed."""


class ConnectTimeout(UpstreamTimeout):
    """No connection in time: nothing was sent, so nothing is owed."""


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

    @property
    def status(self) -> int:
        """HTTP status: 200, or one of 400, 413, 422."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The upstream's response headers; asked for in lower case."""
        ...

    async def content(self) -> bytes:
        """The whole body, JSON in OpenAI's shape (an answer or, at status >= 400, an error object)."""
        ...

    def batches(self) -> AsyncIterator[list[bytes]]:
        r"""Server-sent events in OpenAI's shape, each complete (b"data: ...\n\n"), `[DONE]` included.

        Those that came together are one batch, never an empty one: what is done once per batch is not done
        once per token. Raises UpstreamError when the stream breaks off or is no event stream.
        """
        ...

    async def aclose(self) -> None:
        """Cancel the upstream if it is still answering; idempotent."""
        ...


class Upstream(Protocol):
    """One way of speaking to endpoints: passthrough or translation."""

    async def open(self, endpoint: Endpoint, call: Call, *, timeout_s: float) -> Reply:
        """Send, and return once status and headers are there.

        `timeout_s` bounds every silence of that wait; the caller has a clock for the whole of it. Raises
        UpstreamTimeout, UpstreamRateLimited, ContextLengthExceeded, UpstreamRefused or another UpstreamError for
        what another endpoint may cure; a reply of status 400, 413 or 422 (the request itself is wrong) is
        returned, not raised.
        """
        ...

    async def aclose(self) -> None:
        """Release the connections."""
        ...
