"""OpenAI's JSON shapes for a text answer: a whole completion, or its chunks. Used by replay and echo."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Usage
from router_gateway.dispatch.stream import DONE
from router_gateway.dispatch.usage import usage_object

_WORD = re.compile(r"\S+\s*|\s+")


def completion(*, model: str, text: str, usage: Usage | None) -> dict[str, Any]:
    """A `chat.completion` object; without `usage` when None."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    whole = {**_head("chat.completion", model), "choices": [choice]}
    return whole if usage is None else {**whole, "usage": usage_object(usage)}


def events(*, model: str, text: str, usage: Usage | None) -> Iterator[bytes]:
    """A stream of word-sized chunks: role, words, finish, the usage chunk unless None, `[DONE]`."""
    head = _head("chat.completion.chunk", model)

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**head, "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    for word in _WORD.findall(text):
        yield chunk({"content": word})
    yield chunk({}, "stop")
    if usage is not None:
        yield event({**head, "choices": [], "usage": usage_object(usage)})
    yield DONE


def event(payload: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


def error_object(message: str, *, type: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error body, all four members present."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def _head(kind: str, model: str) -> dict[str, Any]:
    created = int(datetime.now(UTC).timestamp())
    return {"id": f"chatcmpl-{uuid7().hex}", "object": kind, "created": created, "model": model}
