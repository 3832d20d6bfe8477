"""Endpoints that do not speak OpenAI's protocol: litellm translates, and does nothing else for us.

The only importer of litellm. Importing it takes seconds and 170 MB, so that happens in `load`, in a
thread. Its retries, price list, caches, callbacks, tool execution and media downloads stay unused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import httpx

from router_gateway.core.errors import RequestError, UpstreamError, UpstreamTimeout
from router_gateway.core.types import Endpoint
from router_gateway.dispatch import translate_shape as shape
from router_gateway.dispatch.shapes import event
from router_gateway.dispatch.stream import DONE
from router_gateway.dispatch.translate_errors import Refused, refused, understand
from router_gateway.dispatch.translate_request import Translated, translated
from router_gateway.dispatch.upstream import DROPPED_HEADER, Call
from router_gateway.dispatch.usage import parse_usage

_HOP_BY_HOP = frozenset({"connection", "content-encoding", "content-length", "content-type", "transfer-encoding"})
_logger = logging.getLogger(__name__)


class LiteLLMUpstream:
    """Speaks to endpoints of protocol "litellm"; their `model` carries litellm's provider prefix.

    secrets : endpoint name to secret; an endpoint without one uses what its provider's own environment
        variables say
    drop_params : leave out what a provider does not support, naming it in the log and in the reply's
        `x-router-dropped-params`; otherwise such a request is refused with the member's name
    """

    def __init__(self, secrets: Mapping[str, str], *, drop_params: bool = False) -> None:
        self._secrets = dict(secrets)
        self._drop_params = drop_params
        self._supported: dict[str, frozenset[str]] = {}
        self._litellm: Any = None

    async def load(self) -> None:
        """Import litellm now rather than at the first request; idempotent."""
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(_import_litellm)

    async def open(self, endpoint: Endpoint, call: Call, *, timeout_s: float) -> WholeReply | StreamReply:
        """As `Upstream.open`. Without streaming, the whole answer must be there within `timeout_s`."""
        await self.load()
        secret = self._secrets.get(endpoint.name)
        try:
            request = translated(
                call.body.values, self._supports(endpoint), drop_params=self._drop_params, stream=call.stream
            )
        except RequestError as error:
            return _refused(refused(error))
        if request.dropped:
            _logger.warning("endpoint %s: left out unsupported %s", endpoint.name, ", ".join(request.dropped))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._litellm.acompletion(**self._arguments(endpoint, call, request, secret))
        except TimeoutError:
            raise UpstreamTimeout(f"endpoint {endpoint.name}: no answer within {timeout_s:.3g} s") from None
        except Exception as error:  # litellm raises OpenAI's classes, its own, and whatever its code trips over
            meaning = understand(error, endpoint, secret=secret)
            if isinstance(meaning, Refused):
                return _refused(meaning)
            raise meaning from None
        headers = _headers(answer, request.dropped)
        if call.stream:
            return StreamReply(answer, endpoint, headers=headers, wants_usage=call.wants_usage, secret=secret)
        body = shape.completion(answer.model_dump(exclude_none=True))
        return WholeReply(status=200, headers=headers, content=json.dumps(body, separators=(",", ":")).encode())

    async def aclose(self) -> None:
        """Close the connections that litellm pools, for the whole process."""
        if self._litellm is not None:
            await self._litellm.close_litellm_async_clients()

    def _supports(self, endpoint: Endpoint) -> frozenset[str]:
        if endpoint.model not in self._supported:
            known = self._litellm.get_supported_openai_params(model=endpoint.model)
            if known is None:
                raise UpstreamError(f"endpoint {endpoint.name}: litellm knows no provider of {endpoint.model}")
            self._supported[endpoint.model] = frozenset(known)  # bounded by the endpoints there are
        return self._supported[endpoint.model]

    def _arguments(self, endpoint: Endpoint, call: Call, request: Translated, secret: str | None) -> dict[str, Any]:
        # Silence on a stream is bounded by the wait for a first token; a whole answer may take its time.
        read_s = endpoint.first_token_timeout_s if call.stream else endpoint.timeout_s
        return request.arguments | {
            "model": endpoint.model,
            "api_base": endpoint.base_url,
            "api_key": secret,
            "timeout": httpx.Timeout(read_s, connect=endpoint.connect_timeout_s),
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": self._drop_params,
            "extra_headers": dict(call.headers) or None,
            "_skip_mcp_handler": True,  # a gateway runs no tools for a client; the check would need `mcp`
        }


class WholeReply:
    """An answer, or a refusal, that is complete."""

    def __init__(self, *, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self._content = content

    async def content(self) -> bytes:
        return self._content

    def batches(self) -> AsyncIterator[list[bytes]]:
        """Raise UpstreamError: this is no stream."""
        raise UpstreamError("the endpoint answered whole instead of streaming")

    async def aclose(self) -> None:
        """Nothing to cancel."""


class StreamReply:
    """An answer that is still being given."""

    status = 200

    def __init__(
        self, stream: Any, endpoint: Endpoint, *, headers: Mapping[str, str], wants_usage: bool, secret: str | None
    ) -> None:
        self.headers = headers
        self._stream = stream
        self._endpoint = endpoint
        self._wants_usage = wants_usage
        self._secret = secret
        self._started = False

    async def content(self) -> bytes:
        """The rest of the stream in one piece."""
        return b"".join([event async for batch in self.batches() for event in batch])

    async def batches(self) -> AsyncIterator[list[bytes]]:
        """Chunks, the usage chunk, `[DONE]`. Raises UpstreamError when the provider failed or stopped halfway."""
        usage = None
        cost: dict[str, float] = {}
        piece: dict[str, Any] = {}
        self._started = True
        try:
            async for raw in self._stream:
                piece = raw.model_dump(exclude_none=True)
                usage = parse_usage(piece.get("usage")) or usage
                cost = shape.cost_member(piece.get("usage")) or cost
                chunk = shape.chunk(piece, wants_usage=self._wants_usage)
                if chunk is not None and (not _finishes(chunk) or self._finished()):
                    yield [event(chunk)]
        except Exception as error:
            meaning = understand(error, self._endpoint, secret=self._secret)
            if isinstance(meaning, Refused):  # too late for a refusal: the stream has begun
                meaning = UpstreamError(
                    f"endpoint {self._endpoint.name}: the stream failed with status {meaning.status}"
                )
            raise meaning from None
        finally:
            await self.aclose()
        if not self._finished():
            raise UpstreamError(f"endpoint {self._endpoint.name}: the stream broke off before the answer was finished")
        if usage is not None:
            yield [event(shape.usage_chunk(piece, usage, cost))]
        yield [DONE]

    async def aclose(self) -> None:
        """Hang up; idempotent. litellm's own `aclose` leaves Anthropic's connection open, reading on."""
        provider_stream = getattr(self._stream, "completion_stream", None)
        for name in ("streaming_response", "async_response_iterator"):
            source = getattr(provider_stream, name, None)
            if isinstance(source, AsyncGenerator):
                if not self._started:  # a generator that never ran has nothing to clean up when closed
                    await _step(source)
                with suppress(RuntimeError):  # another task is reading: its cancellation hangs up
                    await source.aclose()
        self._started = True
        await self._stream.aclose()

    def _finished(self) -> bool:
        """Whether the provider said why it stopped; when it did not, litellm invents a reason."""
        return bool(self._stream.received_finish_reason)


async def _step(source: AsyncGenerator[Any, None]) -> None:
    """Let the generator run up to its first wait."""
    with suppress(Exception):
        async with asyncio.timeout(0):
            await anext(source)


def _finishes(chunk: Mapping[str, Any]) -> bool:
    return any(choice["finish_reason"] for choice in chunk["choices"])


def _refused(refusal: Refused) -> WholeReply:
    return WholeReply(status=refusal.status, headers={"content-type": "application/json"}, content=refusal.content)


def _headers(answer: Any, dropped: tuple[str, ...]) -> dict[str, str]:
    """The provider's headers as litellm kept them, and what we left out of the request."""
    kept = getattr(answer, "_hidden_params", {}).get("additional_headers") or {}
    headers = {
        name.removeprefix("llm_provider-").lower(): str(value)
        for name, value in kept.items()
        if name.startswith("llm_provider-")
    }
    headers = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
    return headers | ({DROPPED_HEADER: ",".join(dropped)} if dropped else {})


def _import_litellm() -> Any:
    """Import, with everything off that is more than translation."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read during import: no download of its price list
    os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"  # nor of any URL that a client names
    import litellm

    litellm.suppress_debug_info = True
    litellm.set_verbose = False
    litellm.turn_off_message_logging = True
    litellm.disable_streaming_logging = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)  # it logs requests and keys at lower levels
        logger.propagate = False
    return litellm
