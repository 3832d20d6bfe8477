"""An OpenAI-compatible server that answers from recorded outcomes: for the demo and end-to-end tests.

Every answer starts with a marker, so nobody takes a replayed text for a live model's.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from router_gateway.core.body import Body
from router_gateway.core.errors import BodyTooLarge, GatewayError, NotFound, RequestError
from router_gateway.core.types import Usage
from router_gateway.dispatch.shapes import completion, error_object, events
from router_gateway.dispatch.usage import count_request_tokens, count_tokens

_BODY_BYTES_MAX = 32 * 1024 * 1024
_GENERIC = "No outcome of this model is recorded for this prompt. This is a placeholder, not a model's answer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What one model once answered to one prompt."""

    text: str
    tokens_input: int
    tokens_output: int
    latency_ms: float


class Recordings(Protocol):
    """Where recorded outcomes are looked up."""

    @property
    def models(self) -> Sequence[str]:
        """The models this server plays; others are answered with 404."""
        ...

    def find(self, model: str, digest: str) -> Recording | None:
        """The outcome of `model` for the prompt with this `prompt_digest`."""
        ...


class RecordingTable:
    """Recordings in memory."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models: Sequence[str] = tuple(models)
        self._recordings: dict[tuple[str, str], Recording] = {}

    def add(self, model: str, prompt: str, recording: Recording) -> None:
        self._recordings[model, prompt_digest(prompt)] = recording

    def find(self, model: str, digest: str) -> Recording | None:
        return self._recordings.get((model, digest))


def prompt_digest(prompt: str) -> str:
    """Hex digest of a prompt, outer white space aside; lone surrogates are allowed."""
    return hashlib.blake2b(prompt.strip().encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def marker(model: str) -> str:
    """What every replayed text starts with."""
    return f"[replay of {model}] "


def create_replay_app(recordings: Recordings, *, hit_log: Path | None = None, speed: float = 0.0) -> Starlette:
    """`/v1/chat/completions` (whole and streamed) and `/v1/models` over `recordings`.

    `hit_log` receives one line per chat request, its `x-client-request-id`, before anything is answered:
    proof of what was sent even when the sender dies. `speed` multiplies recorded latencies: 0 answers
    at once, 1 takes as long as the model took.
    """
    if not 0.0 <= speed <= 100.0:
        raise ValueError(f"speed is {speed}, expected 0 to 100")

    async def chat(request: Request) -> Response:
        if hit_log is not None:
            _append(hit_log, request.headers.get("x-client-request-id", "-"))
        body = Body.parse(await _read(request))
        model, prompt = _checked(body, recordings.models)
        recording = recordings.find(model, prompt_digest(prompt)) or _generic(body)
        usage = Usage(tokens_input=recording.tokens_input, tokens_output=recording.tokens_output)
        wait_s = recording.latency_ms / 1000 * speed
        text = marker(model) + recording.text
        if not body.get("stream"):
            await asyncio.sleep(wait_s)
            return JSONResponse(completion(model=model, text=text, usage=usage))
        options = body.get("stream_options")
        told = isinstance(options, dict) and options.get("include_usage")
        stream = list(events(model=model, text=text, usage=usage if told else None))
        return StreamingResponse(_paced(stream, wait_s), media_type="text/event-stream")

    async def models(request: Request) -> Response:
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "replay"} for name in recordings.models]
        return JSONResponse({"object": "list", "data": listed})

    routes = [
        Route("/v1/chat/completions", _shaped(chat), methods=["POST"]),
        Route("/v1/models", _shaped(models), methods=["GET"]),
    ]
    return Starlette(routes=routes)


def _shaped(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """`handler` with errors answered in OpenAI's shape."""

    async def shaped(request: Request) -> Response:
        try:
            return await handler(request)
        except GatewayError as error:
            body = error_object(error.message, type=error.type, param=error.param, code=error.code)
            return JSONResponse(body, status_code=error.status)

    return shaped


async def _read(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _BODY_BYTES_MAX:
            raise BodyTooLarge(f"the body exceeds {_BODY_BYTES_MAX} bytes")
    return bytes(raw)


def _checked(body: Body, models: Sequence[str]) -> tuple[str, str]:
    """Model and newest user text. Raises RequestError, or NotFound for an unknown model."""
    model = body.get("model")
    if not isinstance(model, str):
        raise RequestError("model must be a string", param="model")
    if model not in models:
        raise NotFound(f"the model {model!r} is not recorded here", param="model", code="model_not_found")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a non-empty array", param="messages")
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return model, _text(message.get("content"))
    return model, ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


def _generic(body: Body) -> Recording:
    return Recording(
        text=_GENERIC, tokens_input=count_request_tokens(body), tokens_output=count_tokens(_GENERIC), latency_ms=0.0
    )


async def _paced(stream: list[bytes], wait_s: float) -> AsyncIterator[bytes]:
    """The events, spread evenly over `wait_s`."""
    pause_s = wait_s / len(stream)
    for event in stream:
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        yield event


def _append(path: Path, line: str) -> None:
    # One write of one line on an O_APPEND file is whole, whoever else writes.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{line[:200]}\n".encode())
    finally:
        os.close(descriptor)
