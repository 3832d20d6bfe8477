"""What routing reads off a conversation besides its text: the capabilities asked for, the session.

Messages come in OpenAI's shape, or with Anthropic's content blocks. Nothing here raises on an odd shape:
validation is done elsewhere, and what is not understood is passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson

from router_gateway.embedding.conversation import parts_of

_OBJECT = (dict, Mapping)  # a dict is known at once, an abstract class asks around
_IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})
_AUDIO_PARTS = frozenset({"input_audio", "audio"})


class Fields(Protocol):
    """A body, as `Body` or as a plain mapping."""

    def get(self, key: str, /) -> Any: ...


def needs(body: Fields) -> frozenset[str]:
    """Capabilities that the request needs of an endpoint: any of "tools", "json", "vision", "audio"."""
    kinds: set[str] = set()
    found = set()
    for message in _messages(body):
        if isinstance(content := message.get("content"), list):
            kinds |= {kind for part in parts_of(content, depth=2) if isinstance(kind := part.get("type"), str)}
        if message.get("role") in ("tool", "function") or message.get("tool_calls"):
            found.add("tools")
    if body.get("tools") or body.get("functions") or kinds & {"tool_use", "tool_result"}:
        found.add("tools")
    wanted = body.get("response_format")
    if isinstance(wanted, _OBJECT) and wanted.get("type") in ("json_object", "json_schema"):
        found.add("json")
    if kinds & _IMAGE_PARTS:
        found.add("vision")
    modalities = body.get("modalities")
    if kinds & _AUDIO_PARTS or (isinstance(modalities, list) and "audio" in modalities):
        found.add("audio")
    return frozenset(found)


def in_tool_loop(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the conversation ends with a tool's result: the model that asked for it must go on."""
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    if not isinstance(last, _OBJECT):
        return False
    if last.get("role") in ("tool", "function"):
        return True
    return any(part.get("type") == "tool_result" for part in parts_of(last.get("content")))


def session_key(*, tenant: str, headers: Mapping[str, str], body: Fields, explicit: str | None = None) -> str:
    """Which conversation a request belongs to: 32 hex digits, never shared between tenants.

    The first that is there: `explicit` (the body's `routing.session_id`), `x-session-id` or
    `x-model-affinity`, `session_id`, `x-claude-code-session-id`, `conversation`, `previous_response_id`,
    `prompt_cache_key`, `safety_identifier`, `user`, `metadata.user_id`; else what a conversation starts
    with: system prompt, tools and first user message. `x-conversation-id` tells apart conversations that
    agree in it. `headers` has its names in lower case. Only a digest is kept: some of these name people.
    """
    identity = explicit or next(_identities(headers, body), None)
    said = ["named", identity] if identity else ["opening", *_opening(body)]
    whole = [tenant, headers.get("x-conversation-id"), *said]
    return hashlib.blake2b(_canonical(whole), digest_size=16).hexdigest()


def _identities(headers: Mapping[str, str], body: Fields) -> Iterator[str]:
    conversation, metadata = body.get("conversation"), body.get("metadata")
    candidates = (
        headers.get("x-session-id"),
        headers.get("x-model-affinity"),
        body.get("session_id"),
        headers.get("x-claude-code-session-id"),
        conversation.get("id") if isinstance(conversation, _OBJECT) else conversation,
        body.get("previous_response_id"),
        body.get("prompt_cache_key"),
        body.get("safety_identifier"),
        body.get("user"),
        metadata.get("user_id") if isinstance(metadata, _OBJECT) else None,
    )
    return (candidate for candidate in candidates if isinstance(candidate, str) and candidate)


def _opening(body: Fields) -> list[Any]:
    messages = _messages(body)
    system = [message.get("content") for message in messages if message.get("role") in ("system", "developer")]
    first = next((message.get("content") for message in messages if message.get("role") == "user"), None)
    return [body.get("system"), system, body.get("tools"), first]


def _canonical(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates, integers of more than 64 bits, nesting deeper than it likes
        pass
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except RecursionError:  # nested past all reason: such requests then share a session
        return b"nested"


def _messages(body: Fields) -> list[Mapping[str, Any]]:
    messages = body.get("messages")
    return [m for m in messages if isinstance(m, _OBJECT)] if isinstance(messages, list) else []
