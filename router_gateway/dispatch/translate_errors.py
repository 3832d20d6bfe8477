"""litellm's exceptions as ours.

litellm rebuilds an upstream's error several times over: statuses change (a 529 becomes 500, a 413 becomes
400) and headers are lost. The exceptions it chained tell what really came, so those are read and judged
as any upstream's answer. No message of litellm's is passed on: it may quote the request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx

from router_gateway.core.errors import GatewayError, RequestError, UpstreamError, UpstreamTimeout
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.refusal import client_error, refusal
from router_gateway.dispatch.shapes import error_object
from router_gateway.dispatch.upstream import ConnectTimeout, ContextLengthExceeded

# litellm gives these a status although nothing was received.
_WITHOUT_ANSWER = frozenset({"APIConnectionError", "APITimeoutError", "MidStreamFallbackError"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The request itself is wrong: an answer for the client, not a failure of the endpoint."""

    status: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the upstream really answered, as far as litellm kept it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def refused(error: RequestError) -> Refused:
    """A mistake found on our side, before anything was sent."""
    body = error_object(error.message, type=error.type, param=error.param, code=error.code)
    return Refused(status=error.status, content=json.dumps(body).encode())


def understand(error: Exception, endpoint: Endpoint, *, secret: str | None) -> Refused | UpstreamError:
    """What `error`, raised by litellm for `endpoint`, means. Nothing in it contains `secret`."""
    chain = list(_chain(error))
    kinds = {type(link).__name__ for link in chain}
    if any(isinstance(link, httpx.ConnectTimeout) for link in chain):
        return ConnectTimeout(f"endpoint {endpoint.name}: no connection within {endpoint.connect_timeout_s:g} s")
    if "ContextWindowExceededError" in kinds:
        return ContextLengthExceeded(f"endpoint {endpoint.name}: the request exceeds its context length")
    if "UnsupportedParamsError" in kinds:
        message = "the model's provider does not support a value of this request"
        return refused(RequestError(message, code="unsupported_parameter"))
    if "ImageFetchError" in kinds:
        message = "the gateway fetches no media for a client: send it as a data URL"
        return refused(RequestError(message, param="messages", code="invalid_image_url"))
    answer = _received(chain)
    if answer is None and ("Timeout" in kinds or any(isinstance(link, httpx.TimeoutException) for link in chain)):
        return UpstreamTimeout(f"endpoint {endpoint.name}: no answer in time")
    answer = answer or _claimed(chain)
    if answer is None:
        return UpstreamError(f"endpoint {endpoint.name}: failed ({type(error).__name__})")
    failure = refusal(endpoint.name, answer.status, answer.headers, answer.body)
    return failure or Refused(status=answer.status, content=client_error(answer.body, secret=secret))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, that one's cause, ...; what we raised ourselves, earlier, is no part of it."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen and not isinstance(link, GatewayError):
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _received(chain: list[BaseException]) -> _Answer | None:
    """The innermost HTTP error is the answer as it came."""
    for link in reversed(chain):
        if isinstance(link, httpx.HTTPStatusError):
            return _Answer(status=link.response.status_code, headers=link.response.headers, body=_body(link.response))
    return None


def _claimed(chain: list[BaseException]) -> _Answer | None:
    """Without one (a provider's own client, an error within a stream), what the innermost class says."""
    for link in reversed(chain):
        status = getattr(link, "status_code", None)
        if isinstance(status, int) and 400 <= status < 600 and type(link).__name__ not in _WITHOUT_ANSWER:
            response = getattr(link, "response", None)
            if isinstance(response, httpx.Response):
                return _Answer(status=status, headers=response.headers, body=_body(response))
            return _Answer(status=status)
    return None


def _body(response: httpx.Response) -> bytes:
    try:
        return response.content
    except httpx.ResponseNotRead:
        return b""
